//! Posts a streamed reply one chunk at a time, without a link.

use std::collections::VecDeque;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};
use wire::merge::MergedChunk;
use wire::result::TaskResult;
use wire::{Feature, Features, TaskId};

use super::backend_call::{BackendCall, NextChunk};
use super::job::{TaskEnding, UPLINK_BROKEN};
use crate::backend::BackendError;
use crate::outbox::{Outbox, RetryPolicy};
use crate::uplink::Outcome;

/// Most chunks that wait behind a POST before the backend is slowed down.
const MAX_UNSENT: usize = 256;
/// Most bytes of the waiting chunks: a few thousand tokens, or one large chunk.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// Most bytes of a merged chunk: some thousand tokens. A hub processes larger ones away from its serving thread.
const MAX_MERGED: usize = 16 << 10;

/// Posts `first` and the rest of `reply`, one chunk at a time. Also returns the number of chunks.
pub(super) async fn post_chunks(
    outbox: &Outbox,
    id: &TaskId,
    features: Features,
    first: NextChunk,
    reply: &BackendCall,
) -> (TaskEnding, u64) {
    let numbered = features.has(Feature::ChunkSeq);
    let mut chunks = UnsentChunks { numbered, ..UnsentChunks::default() };
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
        let body = TaskResult::chunk(data, chunks.next_seq()).to_json().into();
        let mut posting = Box::pin(post(outbox, id, numbered, body));
        let posted = loop {
            if chunks.end.is_some() || chunks.is_full() {
                break posting.await;
            }
            match select(posting, pin!(reply.next_chunk())).await {
                Either::Left((posted, _)) => break posted,
                Either::Right((chunk, pending)) => {
                    chunks.push(chunk);
                    // `next_chunk` above registers the waker.
                    while chunks.end.is_none()
                        && !chunks.is_full()
                        && let Poll::Ready(chunk) = reply.ready_chunk()
                    {
                        chunks.push(chunk);
                    }
                    posting = pending;
                }
            }
        };
        if let Err(ending) = posted {
            break ending;
        }
    };
    (ending, chunks.received)
}

/// Posts a chunk. Repeats a failed POST only if the chunk cannot count twice: it is `numbered`, or the hub certainly did not
/// accept it.
async fn post(outbox: &Outbox, id: &TaskId, numbered: bool, body: Bytes) -> Result<(), TaskEnding> {
    let mut retries = RetryPolicy::new(Instant::now());
    loop {
        match outbox.post_chunk(id, body.clone()).await {
            Outcome::Taken => return Ok(()),
            Outcome::Gone => return Err(TaskEnding::Delivered),
            Outcome::Refused { status } => {
                return Err(TaskEnding::error(format!("the hub refused a chunk (HTTP {status})")));
            }
            Outcome::Failed { retry_after, nothing_taken } => {
                let pause = retries.after_failure(retry_after, Instant::now());
                let Some(pause) = pause.filter(|_| numbered || nothing_taken) else {
                    return Err(TaskEnding::error(UPLINK_BROKEN));
                };
                sleep(pause).await;
            }
        }
    }
}

/// A chunk that waits.
#[derive(Debug)]
enum Unsent {
    /// As it came.
    One(String),
    /// With the text of others behind it.
    Merged(MergedChunk),
}

impl Unsent {
    fn size(&self) -> usize {
        match self {
            Self::One(data) => data.len(),
            Self::Merged(chunk) => chunk.size(),
        }
    }

    /// Takes up `next`, if it differs only in its text and the merged chunk is not large.
    fn merge(&mut self, next: &str) -> bool {
        if let Self::One(data) = self
            && let Some(chunk) = MergedChunk::new(data)
        {
            *self = Self::Merged(chunk);
        }
        match self {
            Self::Merged(chunk) => chunk.size() < MAX_MERGED && chunk.push(next),
            Self::One(_) => false,
        }
    }

    fn into_data(self) -> String {
        match self {
            Self::One(data) => data,
            Self::Merged(chunk) => chunk.into_text(),
        }
    }
}

/// The chunks that wait behind a POST. Pure.
#[derive(Debug, Default)]
struct UnsentChunks {
    /// Whether each chunk has a number (feature `chunk-seq`).
    numbered: bool,
    seq: u64,
    /// Number of chunks received from the backend.
    received: u64,
    unsent: VecDeque<Unsent>,
    /// Bytes of `unsent`.
    size: usize,
    /// How the reply ended.
    end: Option<Result<(), BackendError>>,
}

impl UnsentChunks {
    fn is_full(&self) -> bool {
        self.unsent.len() >= MAX_UNSENT || self.size >= MAX_UNSENT_BYTES
    }

    fn pop(&mut self) -> Option<String> {
        let chunk = self.unsent.pop_front()?;
        self.size -= chunk.size();
        Some(chunk.into_data())
    }

    fn push(&mut self, chunk: NextChunk) {
        match chunk {
            Some(Ok(data)) => {
                self.received += 1;
                if let Some(last) = self.unsent.back_mut() {
                    let size = last.size();
                    if last.merge(&data) {
                        self.size += last.size() - size;
                        return;
                    }
                }
                self.size += data.len();
                self.unsent.push_back(Unsent::One(data));
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// P7: at most 1 MiB of chunks and one more wait behind a POST.
        #[test]
        fn chunks_behind_a_post_are_bounded_in_bytes(
            steps in prop::collection::vec(prop::option::weighted(0.7, 0_usize..400_000), 1..60),
            numbered in any::<bool>(),
        ) {
            let mut chunks = UnsentChunks { numbered, ..UnsentChunks::default() };
            for step in steps {
                match step {
                    Some(size) if !chunks.is_full() => {
                        let text = "x".repeat(size);
                        let data = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
                        chunks.push(Some(Ok(data)));
                    }
                    _ => drop(chunks.pop()),
                }
                let size: usize = chunks.unsent.iter().map(Unsent::size).sum();
                prop_assert_eq!(chunks.size, size);
                prop_assert!(size < MAX_UNSENT_BYTES + 400_100);
            }
        }
    }
}
