//! Posts a streamed reply one chunk at a time, for a hub without the feature `result-stream`.

use std::collections::VecDeque;
use std::pin::pin;

use bytes::Bytes;
use futures_util::future::{Either, select};
use tokio::time::{Instant, sleep};
use wire::result::TaskResult;
use wire::{Feature, Features, TaskId};

use super::backend_call::{BackendCall, NextChunk};
use super::job::{TaskEnding, UPLINK_BROKEN};
use crate::backend::BackendError;
use crate::outbox::{Outbox, RetryPolicy};
use crate::uplink::Posted;

/// Most chunks that wait behind a POST before the backend is slowed down.
const MAX_UNSENT: usize = 256;
/// Most bytes of the waiting chunks: a few thousand tokens, or one large chunk.
const MAX_UNSENT_BYTES: usize = 1 << 20;
/// Most bytes of a merged chunk: some hundred tokens, because each merge parses the chunk again.
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
            Posted::Taken => return Ok(()),
            Posted::Gone => return Err(TaskEnding::Delivered),
            Posted::Refused { status } => {
                return Err(TaskEnding::error(format!("the hub refused a chunk (HTTP {status})")));
            }
            Posted::Failed { retry_after, nothing_taken } => {
                let pause = retries.after_failure(retry_after, Instant::now());
                let Some(pause) = pause.filter(|_| numbered || nothing_taken) else {
                    return Err(TaskEnding::error(UPLINK_BROKEN));
                };
                sleep(pause).await;
            }
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
    unsent: VecDeque<String>,
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
        let data = self.unsent.pop_front()?;
        self.size -= data.len();
        Some(data)
    }

    fn push(&mut self, chunk: NextChunk) {
        match chunk {
            Some(Ok(data)) => {
                self.received += 1;
                // Numbered chunks are never merged.
                let merged = match self.unsent.back_mut() {
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
                    self.unsent.push_back(data);
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
                let size: usize = chunks.unsent.iter().map(String::len).sum();
                prop_assert_eq!(chunks.size, size);
                prop_assert!(size < MAX_UNSENT_BYTES + 400_100);
            }
        }
    }
}
