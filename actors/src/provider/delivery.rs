//! Delivers a streamed reply to the hub: as one upload (feature `result-stream`), or as one POST per chunk.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, LocalBoxFuture, select};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use wire::result::{DONE, TaskResult};
use wire::sse::{write_data, write_event};
use wire::{Feature, Features, TaskId};

use super::backend_call::{BackendCall, NextChunk};
use crate::backend::BackendError;
use crate::outbox::RetryPolicy;
use crate::uplink::{Posted, Uplink};

/// Writes in the channel to the socket: one is sent while the next one is filled.
const UPLOAD_DEPTH: usize = 2;
/// Bytes of one write. A larger one takes longer to fill and gains nothing: a token has about 200 bytes.
const MAX_WRITE: usize = 32 << 10;
/// Chunks that may wait behind a POST before the backend is slowed down.
const MAX_BACKLOG: usize = 256;
/// Bytes of the chunks that may wait: a few thousand tokens, or one large chunk.
const MAX_BACKLOG_BYTES: usize = 1 << 20;
/// Bytes of a merged chunk: some hundred tokens. Each merge reads it again.
const MAX_MERGED: usize = 16 << 10;

const BROKEN: &str = "the way to the hub broke in the middle of the answer";

/// How a task ends.
#[derive(Debug)]
pub(super) enum TaskEnding {
    /// This result must be posted.
    Result(TaskResult),
    /// The hub has the whole answer, or does not want it any more.
    Delivered,
}

impl TaskEnding {
    pub(super) fn error(message: impl Into<String>) -> Self {
        Self::Result(TaskResult::error(message.into()))
    }
}

/// Uploads `first` and the rest of `reply`. Returns the number of chunks, too.
pub(super) async fn upload(
    uplink: &dyn Uplink,
    id: &TaskId,
    first: NextChunk,
    reply: &BackendCall,
) -> (TaskEnding, u64) {
    let (sender, receiver) = mpsc::channel(UPLOAD_DEPTH);
    let mut chunks = 0;
    let feed = async {
        let mut next = first;
        loop {
            let mut write = BytesMut::with_capacity(1024);
            let mut ended;
            loop {
                ended = !encode(&mut write, next, &mut chunks);
                if ended || write.len() >= MAX_WRITE {
                    break;
                }
                match reply.ready_chunk() {
                    Poll::Ready(chunk) => next = chunk,
                    // `next_chunk` below registers the waker.
                    Poll::Pending => break,
                }
            }
            // The receiver is dropped when the hub answers before the end of the upload.
            if sender.send(Ok(write.freeze())).await.is_err() || ended {
                break;
            }
            next = reply.next_chunk().await;
        }
        drop(sender);
    };
    let sent = uplink.upload(id, receiver);
    let posted = match select(pin!(feed), sent).await {
        Either::Left(((), sent)) => sent.await,
        Either::Right((posted, _)) => posted,
    };
    let ending = match posted {
        Posted::Taken | Posted::Gone => TaskEnding::Delivered,
        Posted::Refused { status } => {
            TaskEnding::error(format!("the hub refused the answer (HTTP {status})"))
        }
        Posted::Failed { .. } => TaskEnding::error(BROKEN),
    };
    (ending, chunks)
}

/// Appends a chunk as an SSE event, and returns whether more may follow.
fn encode(write: &mut BytesMut, chunk: NextChunk, chunks: &mut u64) -> bool {
    match chunk {
        Some(Ok(data)) => {
            *chunks += 1;
            write_data(write, &data);
            true
        }
        Some(Err(error)) => {
            let data = serde_json::json!({ "error": error.to_string() }).to_string();
            // Fails only for a name with a line break.
            let _ = write_event(write, Some("error"), None, &data);
            false
        }
        None => {
            write_data(write, DONE);
            false
        }
    }
}

/// Posts `first` and the rest of `reply`, one chunk at a time. Returns the number of chunks, too.
pub(super) async fn post_chunks(
    uplink: &dyn Uplink,
    id: &TaskId,
    features: Features,
    first: NextChunk,
    reply: &BackendCall,
) -> (TaskEnding, u64) {
    let numbered = features.has(Feature::ChunkSeq);
    let mut chunks =
        Chunks { uplink, id, numbered, seq: 0, taken: 0, backlog: VecDeque::new(), size: 0, end: None };
    chunks.push(first);
    let ending = loop {
        let Some(data) = chunks.pop() else {
            match chunks.end.take() {
                Some(Ok(())) => break TaskEnding::Result(TaskResult::done(chunks.next_seq())),
                Some(Err(error)) => break TaskEnding::error(error.to_string()),
                None => chunks.push(reply.next_chunk().await),
            }
            continue;
        };
        let seq = chunks.next_seq();
        let mut posting = chunks.post(TaskResult::chunk(data, seq).to_json().into());
        let posted = loop {
            if chunks.end.is_some() || chunks.is_full() {
                break posting.await;
            }
            match select(posting, pin!(reply.next_chunk())).await {
                Either::Left((posted, _)) => break posted,
                Either::Right((chunk, pending)) => {
                    chunks.push(chunk);
                    posting = pending;
                }
            }
        };
        if let Err(ending) = posted {
            break ending;
        }
    };
    (ending, chunks.taken)
}

/// The chunks that wait behind a POST.
struct Chunks<'a> {
    uplink: &'a dyn Uplink,
    id: &'a TaskId,
    /// Whether each chunk has a number (feature `chunk-seq`).
    numbered: bool,
    seq: u64,
    /// Number of chunks of the reply so far.
    taken: u64,
    backlog: VecDeque<String>,
    /// Bytes of `backlog`.
    size: usize,
    end: Option<Result<(), BackendError>>,
}

impl<'a> Chunks<'a> {
    fn is_full(&self) -> bool {
        self.backlog.len() >= MAX_BACKLOG || self.size >= MAX_BACKLOG_BYTES
    }

    fn pop(&mut self) -> Option<String> {
        let data = self.backlog.pop_front()?;
        self.size -= data.len();
        Some(data)
    }

    fn push(&mut self, chunk: NextChunk) {
        match chunk {
            Some(Ok(data)) => {
                self.taken += 1;
                // Numbered chunks are never merged.
                let merged = match self.backlog.back_mut() {
                    Some(last) if !self.numbered && last.len() < MAX_MERGED => {
                        wire::merge::merged(last, &data).map(|merged| {
                            self.size = self.size - last.len() + merged.len();
                            *last = merged;
                        })
                    }
                    _ => None,
                };
                if merged.is_none() {
                    self.size += data.len();
                    self.backlog.push_back(data);
                }
            }
            Some(Err(error)) => self.end = Some(Err(error)),
            None => self.end = Some(Ok(())),
        }
    }

    fn next_seq(&mut self) -> Option<u64> {
        let seq = self.seq;
        self.seq += 1;
        self.numbered.then_some(seq)
    }

    /// Posts a chunk, again if that cannot deliver it twice: it is numbered, or the hub certainly did not take it.
    fn post(&self, body: Bytes) -> LocalBoxFuture<'a, Result<(), TaskEnding>> {
        let (uplink, id, numbered) = (self.uplink, self.id, self.numbered);
        Box::pin(async move {
            let mut retries = RetryPolicy::new(Instant::now());
            loop {
                match uplink.post_result(id, body.clone()).await {
                    Posted::Taken => return Ok(()),
                    Posted::Gone => return Err(TaskEnding::Delivered),
                    Posted::Refused { status } => {
                        return Err(TaskEnding::error(format!("the hub refused a chunk (HTTP {status})")));
                    }
                    Posted::Failed { retry_after, nothing_taken } => {
                        let pause = retries.after_failure(retry_after, Instant::now());
                        let Some(pause) = pause.filter(|_| numbered || nothing_taken) else {
                            return Err(TaskEnding::error(BROKEN));
                        };
                        sleep(pause).await;
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fakes::backend::FakeUplink;

    proptest! {
        /// P7: at most 1 MiB of chunks and one more wait behind a POST.
        #[test]
        fn chunks_behind_a_post_are_bounded_in_bytes(
            steps in prop::collection::vec(prop::option::weighted(0.7, 0_usize..400_000), 1..60),
            numbered in any::<bool>(),
        ) {
            let (uplink, id) = (FakeUplink(std::rc::Rc::default()), TaskId::parse("t").unwrap());
            let (backlog, end) = (VecDeque::new(), None);
            let mut chunks =
                Chunks { uplink: &uplink, id: &id, numbered, seq: 0, taken: 0, backlog, size: 0, end };
            for step in steps {
                match step {
                    Some(size) if !chunks.is_full() => {
                        let text = "x".repeat(size);
                        let data = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
                        chunks.push(Some(Ok(data)));
                    }
                    _ => drop(chunks.pop()),
                }
                let size: usize = chunks.backlog.iter().map(String::len).sum();
                prop_assert_eq!(chunks.size, size);
                prop_assert!(size < MAX_BACKLOG_BYTES + 400_100);
            }
        }
    }
}
