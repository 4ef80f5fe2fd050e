//! A streamed answer on its way to the hub: as one upload, or as one POST a chunk.

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

use super::backend_call::BackendCall;
use super::job::Ending;
use crate::backend::BackendError;
use crate::outbox::RetryPolicy;
use crate::uplink::{Posted, Uplink};

/// Writes on their way to the socket: one that is sent and one that is filled.
const UPLOAD_DEPTH: usize = 2;
/// Bytes of one write. Larger ones wait longer to be full and gain nothing: a token has about 200 bytes.
const WRITE: usize = 32 << 10;
/// Chunks that may wait behind a POST before the backend is slowed down.
const BACKLOG: usize = 256;
/// Bytes of them: a few thousand tokens, or one large chunk.
const BACKLOG_BYTES: usize = 1 << 20;

/// Bytes of a merged chunk: some hundred tokens. Each merge reads it again, and a hub that is away must not grow it.
const MERGED: usize = 16 << 10;

/// A piece, or how it ended.
type Piece = Option<Result<String, BackendError>>;

/// Uploads `first` and all that follows (feature `result-stream`).
pub(super) async fn upload(
    uplink: &dyn Uplink,
    id: &TaskId,
    first: Piece,
    from: &BackendCall,
) -> (Ending, u64) {
    let (sender, receiver) = mpsc::channel(UPLOAD_DEPTH);
    let mut pieces = 0;
    let feed = async {
        let mut next = first;
        loop {
            let mut write = BytesMut::with_capacity(1024);
            let mut over;
            loop {
                over = !encode(&mut write, next, &mut pieces);
                if over || write.len() >= WRITE {
                    break;
                }
                match from.piece_now() {
                    Poll::Ready(piece) => next = piece,
                    // Whoever waits for the next one is woken for it.
                    Poll::Pending => break,
                }
            }
            // The upload's future drops the receiver when the hub has answered early: nobody listens any more.
            if sender.send(Ok(write.freeze())).await.is_err() || over {
                break;
            }
            next = from.piece().await;
        }
        drop(sender);
    };
    let sent = uplink.upload(id, receiver);
    let posted = match select(pin!(feed), sent).await {
        Either::Left(((), sent)) => sent.await,
        Either::Right((posted, _)) => posted,
    };
    let ending = match posted {
        Posted::Taken | Posted::Gone => Ending::Delivered,
        Posted::Refused { status } => failed(format!("the hub refused the answer (HTTP {status})")),
        Posted::Failed { .. } => failed("the way to the hub broke in the middle of the answer"),
    };
    (ending, pieces)
}

/// Appends a piece; false when it was the end.
fn encode(write: &mut BytesMut, piece: Piece, pieces: &mut u64) -> bool {
    match piece {
        Some(Ok(data)) => {
            *pieces += 1;
            write_data(write, &data);
            true
        }
        Some(Err(error)) => {
            let data = serde_json::json!({ "error": error.to_string() }).to_string();
            // The name is ours and has no line break, so this is never refused.
            let _ = write_event(write, Some("error"), None, &data);
            false
        }
        None => {
            write_data(write, DONE);
            false
        }
    }
}

/// Posts `first` and all that follows, one at a time and in order.
pub(super) async fn post_chunks(
    uplink: &dyn Uplink,
    id: &TaskId,
    features: Features,
    first: Piece,
    from: &BackendCall,
) -> (Ending, u64) {
    let numbered = features.has(Feature::ChunkSeq);
    let mut chunks =
        Chunks { uplink, id, numbered, seq: 0, pieces: 0, backlog: VecDeque::new(), size: 0, end: None };
    chunks.take(first);
    let ending = loop {
        let Some(data) = chunks.pop() else {
            match chunks.end.take() {
                Some(Ok(())) => break Ending::Result(TaskResult::done(chunks.number())),
                Some(Err(error)) => break failed(error.to_string()),
                None => chunks.take(from.piece().await),
            }
            continue;
        };
        let seq = chunks.number();
        let mut posting = chunks.post(TaskResult::chunk(data, seq).to_json().into());
        let posted = loop {
            if chunks.end.is_some() || chunks.is_full() {
                break posting.await;
            }
            match select(posting, pin!(from.piece())).await {
                Either::Left((posted, _)) => break posted,
                Either::Right((piece, still)) => {
                    chunks.take(piece);
                    posting = still;
                }
            }
        };
        match posted {
            Ok(()) => (),
            Err(ending) => break ending,
        }
    };
    (ending, chunks.pieces)
}

struct Chunks<'a> {
    uplink: &'a dyn Uplink,
    id: &'a TaskId,
    numbered: bool,
    seq: u64,
    pieces: u64,
    backlog: VecDeque<String>,
    /// Its bytes.
    size: usize,
    end: Option<Result<(), BackendError>>,
}

impl<'a> Chunks<'a> {
    fn is_full(&self) -> bool {
        self.backlog.len() >= BACKLOG || self.size >= BACKLOG_BYTES
    }

    fn pop(&mut self) -> Option<String> {
        let data = self.backlog.pop_front()?;
        self.size -= data.len();
        Some(data)
    }

    fn take(&mut self, piece: Piece) {
        match piece {
            Some(Ok(data)) => {
                self.pieces += 1;
                // A number for each chunk, so numbered ones stay as they are.
                let merged = match self.backlog.back_mut() {
                    Some(last) if !self.numbered && last.len() < MERGED => wire::merge::merged(last, &data)
                        .map(|merged| {
                            self.size = self.size - last.len() + merged.len();
                            *last = merged;
                        }),
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

    fn number(&mut self) -> Option<u64> {
        let seq = self.seq;
        self.seq += 1;
        self.numbered.then_some(seq)
    }

    /// Repeated only where that cannot say a chunk twice: numbered, or certainly not taken.
    fn post(&self, body: Bytes) -> LocalBoxFuture<'a, Result<(), Ending>> {
        let (uplink, id, numbered) = (self.uplink, self.id, self.numbered);
        Box::pin(async move {
            let mut patience = RetryPolicy::new(Instant::now());
            loop {
                match uplink.post_result(id, body.clone()).await {
                    Posted::Taken => return Ok(()),
                    Posted::Gone => return Err(Ending::Delivered),
                    Posted::Refused { status } => {
                        return Err(failed(format!("the hub refused a chunk (HTTP {status})")));
                    }
                    Posted::Failed { retry_after, nothing_taken } => {
                        let pause = patience.after_failure(retry_after, Instant::now());
                        let Some(pause) = pause.filter(|_| numbered || nothing_taken) else {
                            return Err(failed("the way to the hub broke in the middle of the answer"));
                        };
                        sleep(pause).await;
                    }
                }
            }
        })
    }
}

fn failed(message: impl Into<String>) -> Ending {
    Ending::Result(TaskResult::error(message.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_hub::desk::DeskUplink;

    proptest! {
        /// P7: what waits behind a POST is counted as it is, and full with a megabyte, however few chunks that are.
        #[test]
        fn what_waits_behind_a_post_is_bounded_in_bytes(
            steps in prop::collection::vec(prop::option::weighted(0.7, 0_usize..400_000), 1..60),
            numbered in any::<bool>(),
        ) {
            let (uplink, id) = (DeskUplink(std::rc::Rc::default()), TaskId::parse("t").unwrap());
            let (backlog, end) = (VecDeque::new(), None);
            let mut chunks =
                Chunks { uplink: &uplink, id: &id, numbered, seq: 0, pieces: 0, backlog, size: 0, end };
            for step in steps {
                match step {
                    Some(size) if !chunks.is_full() => {
                        let text = "x".repeat(size);
                        let data = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
                        chunks.take(Some(Ok(data)));
                    }
                    _ => drop(chunks.pop()),
                }
                let size: usize = chunks.backlog.iter().map(String::len).sum();
                prop_assert_eq!(chunks.size, size);
                prop_assert!(size < BACKLOG_BYTES + 400_100);
            }
        }
    }
}
