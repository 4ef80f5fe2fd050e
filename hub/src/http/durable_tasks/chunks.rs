//! Chunks of a task's answer: a parser of the stored JSON array whose text arrives in parts, and numbered events.

use std::ops::Range;

use bytes::Bytes;
use serde_json::value::RawValue;
use wire::sse::write_event;

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

/// Writes events of stored chunks, from the one after `seen` on. A chunk that spans several
/// parts is parsed from its beginning again for each of them, so this runs on another thread.
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

/// Splits the text of a JSON array into its items while the text arrives.
#[derive(Debug, Default)]
struct ArrayReader {
    text: Vec<u8>,
    /// Where the text begins that was not returned yet.
    at: usize,
}

/// The next item in the text, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextItem {
    /// The range of the item in the text.
    Item(Range<usize>),
    /// More text is needed.
    Incomplete,
    /// The array has ended.
    End,
    /// The text is no JSON array.
    Invalid,
}

impl ArrayReader {
    /// Appends text.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.text.drain(..self.at);
        self.at = 0;
        self.text.extend_from_slice(part);
    }

    /// Bytes of text that was not returned yet.
    pub(super) fn unread(&self) -> usize {
        self.text.len() - self.at
    }

    /// Bytes of text in memory.
    pub(super) fn buffered(&self) -> usize {
        self.text.len()
    }

    /// The text of an item.
    pub(super) fn text(&self, item: Range<usize>) -> &str {
        self.text.get(item).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Finds the next item. The text has no white space between items.
    fn next_item(&mut self) -> NextItem {
        let start = match self.text.get(self.at) {
            None => return NextItem::Incomplete,
            Some(b']') => return NextItem::End,
            Some(b'[' | b',') => self.at + 1,
            Some(_) => return NextItem::Invalid,
        };
        let rest = &self.text[start..];
        if rest.first() == Some(&b']') {
            return NextItem::End;
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match values.next() {
            // Only a byte after the value shows that it is complete: a number may go on.
            Some(Ok(_)) if values.byte_offset() < rest.len() => {
                self.at = start + values.byte_offset();
                NextItem::Item(start..self.at)
            }
            None | Some(Ok(_)) => NextItem::Incomplete,
            Some(Err(error)) if error.is_eof() => NextItem::Incomplete,
            Some(Err(_)) => NextItem::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;
    use proptest::prelude::*;
    use serde_json::json;
    use std::task::Poll;
    use wire::json::quote;

    /// Runs `work`. Returns its output and whether the first poll was pending, because `work` ran on another thread.
    async fn run<T>(work: impl Future<Output = T>) -> (T, bool) {
        let mut work = Box::pin(work);
        match poll!(&mut work) {
            Poll::Ready(output) => (output, false),
            Poll::Pending => (work.await, true),
        }
    }

    /// P7: large chunks are parsed and written on another thread, small chunks on the serving thread.
    #[actix_rt::test]
    async fn large_chunks_are_processed_on_another_thread() {
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
                // The other thread may finish before the first poll.
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

    proptest! {
        /// All items are found in order, wherever the text is cut into parts, also within a character.
        #[test]
        fn items_are_found_wherever_the_text_is_cut(
            texts in prop::collection::vec("[a-zé€😀,\\[\\]{}\"\\\\ ]{0,12}", 0..12),
            cuts in prop::collection::vec(1_usize..9, 1..9),
        ) {
            let members: Vec<_> = texts.iter().enumerate().map(|(n, text)| json!({ "t": text, "n": [n] })).collect();
            let text = serde_json::to_string(&members).unwrap();
            let mut rest = text.as_bytes();
            let (mut found, mut reader, mut cuts) = (Vec::new(), ArrayReader::default(), cuts.into_iter().cycle());
            loop {
                match reader.next_item() {
                    NextItem::Item(item) => found.push(reader.text(item).to_owned()),
                    NextItem::Incomplete => {
                        prop_assert!(!rest.is_empty());
                        let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                        reader.push(part);
                        rest = after;
                    }
                    NextItem::End => break,
                    NextItem::Invalid => prop_assert!(false, "{text}"),
                }
            }
            let expected: Vec<_> = members.iter().map(ToString::to_string).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn text_that_is_not_an_array_is_invalid() {
        for text in ["{}", "[{]", "x", "[1 2]"] {
            let mut reader = ArrayReader::default();
            reader.push(text.as_bytes());
            let last =
                std::iter::repeat_with(|| reader.next_item()).find(|next| !matches!(next, NextItem::Item(_)));
            assert_eq!(last, Some(NextItem::Invalid), "{text}");
        }
    }
}
