//! Chunks of a task's answer, written as numbered events.

use bytes::Bytes;
use wire::sse::write_event;

use super::array::{ArrayReader, NextItem};
use super::result::PART;
use crate::error::ApiError;
use crate::offload::offload;
use crate::tasks::ChunkBatch;

/// Bytes of events after which no further event is written in one go.
const WRITE_SIZE: usize = 64 << 10;
/// Bytes reserved for an event's field names, number and line ends.
const ENVELOPE: usize = 32;

/// The chunks of a stored answer, as far as they were read.
#[derive(Default)]
pub(super) struct StoredChunks {
    array: ArrayReader,
    /// The number of chunks found so far.
    pub(super) found: usize,
    /// Text that was read last and is not in `array` yet.
    pub(super) unparsed: Bytes,
}

/// Events written from stored chunks.
pub(super) struct ChunkEvents {
    pub(super) bytes: Vec<u8>,
    /// The number of the last event that the caller has then.
    pub(super) seen: usize,
    /// What follows the events; [`NextItem::Incomplete`] also if there is more text to parse.
    pub(super) next: NextItem,
}

impl StoredChunks {
    /// Bytes of text that was not written as events yet.
    pub(super) fn unread(&self) -> usize {
        self.array.unread() + self.unparsed.len()
    }

    /// Bytes of text in memory.
    pub(super) fn buffered(&self) -> usize {
        self.array.buffered() + self.unparsed.len()
    }

    /// Writes events, from the one after `seen` on.
    fn events(&mut self, mut seen: usize) -> ChunkEvents {
        if !self.unparsed.is_empty() {
            self.array.push(&std::mem::take(&mut self.unparsed));
        }
        let mut bytes = Vec::new();
        while bytes.len() < WRITE_SIZE {
            match self.array.next_item() {
                NextItem::Item(item) => {
                    if self.found >= seen {
                        seen = self.found.saturating_add(1);
                        write(self.array.text(item), seen, &mut bytes);
                    }
                    self.found += 1;
                }
                next => return ChunkEvents { bytes, seen, next },
            }
        }
        ChunkEvents { bytes, seen, next: NextItem::Incomplete }
    }
}

/// Writes events of stored chunks, from the one after `seen` on. A chunk larger than a part is parsed from its beginning
/// with each further part, so this runs on another thread.
pub(super) async fn stored_events(
    user: &str,
    mut chunks: StoredChunks,
    seen: usize,
) -> Result<(StoredChunks, ChunkEvents), ApiError> {
    offload(user, chunks.unread().saturating_sub(PART), move || {
        let events = chunks.events(seen);
        Ok((chunks, events))
    })
    .await
}

/// Writes the events of a batch that follows event `seen`, and returns the number of the last one.
pub(super) async fn batch_events(
    user: &str,
    batch: ChunkBatch,
    mut seen: usize,
) -> Result<(Vec<u8>, usize), ApiError> {
    offload(user, batch.size(), move || {
        let mut events = Vec::with_capacity(batch.size() + batch.len() * ENVELOPE);
        for chunk in batch.iter() {
            // `Last-Event-ID` of a caller may be any number.
            seen = seen.saturating_add(1);
            write(chunk, seen, &mut events);
        }
        Ok((events, seen))
    })
    .await
}

/// Writes one event. Its number is the `Last-Event-ID` with which a caller continues.
pub(super) fn write(data: &str, number: usize, events: &mut Vec<u8>) {
    // Digits are a valid id, so this does not fail.
    let _ = write_event(events, None, Some(&number.to_string()), data);
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::poll;
    use wire::json::quote;

    use super::*;

    /// The output of `work`, and whether it was pending when polled first, because it ran on another thread.
    async fn run<T>(work: impl Future<Output = T>) -> (T, bool) {
        let mut work = Box::pin(work);
        match poll!(&mut work) {
            Poll::Ready(output) => (output, false),
            Poll::Pending => (work.await, true),
        }
    }

    /// P7: large chunks are parsed and written on another thread, small ones on the serving thread.
    #[actix_rt::test]
    async fn large_chunks_do_not_keep_the_serving_thread() {
        let large = quote(&"é".repeat(1 << 20));
        for (text, is_large) in [(large.as_str(), true), ("{}", false)] {
            let (mut parsed_elsewhere, mut written_elsewhere) = (false, false);
            for _ in 0..10 {
                let unparsed = Bytes::from(format!("[{text},{text}]"));
                let chunks = StoredChunks { unparsed, ..StoredChunks::default() };
                let (output, elsewhere) = run(stored_events("alice", chunks, 1)).await;
                let (_, events) = output.unwrap();
                let is_second = events.bytes == format!("id: 2\ndata: {text}\n\n").as_bytes();
                assert!(is_second && events.seen == 2, "{}", events.seen);
                // Another thread may be done before the first poll.
                parsed_elsewhere |= elsewhere;
                let (output, elsewhere) = run(batch_events("alice", ChunkBatch::one(text), usize::MAX)).await;
                let (events, seen) = output.unwrap();
                let is_last = events == format!("id: {}\ndata: {text}\n\n", usize::MAX).as_bytes();
                assert!(is_last && seen == usize::MAX, "{seen}");
                written_elsewhere |= elsewhere;
            }
            assert_eq!((parsed_elsewhere, written_elsewhere), (is_large, is_large));
        }
    }
}
