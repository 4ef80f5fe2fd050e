//! The chunks of a streamed answer in memory: pages of text, and the end of each chunk. Pure.

use std::sync::Arc;

/// Bytes of a page, which is read at once. A larger chunk has a page of its own.
const PAGE: usize = 16 << 10;
/// Most chunks of a page.
const PER_PAGE: usize = 1024;
/// Bytes of a chunk besides its text: the offset of its end, and its share of a page's overhead.
const OVERHEAD: usize = 8;

/// The chunks of one answer.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    full: Vec<Page>,
    /// The text of the last page.
    last: String,
    /// Where its chunks end.
    ends: Vec<u32>,
    /// The number of its first chunk.
    first: usize,
    size: usize,
}

#[derive(Debug)]
struct Page {
    first: usize,
    batch: ChunkBatch,
}

/// Consecutive chunks, at most a page.
#[derive(Debug, Clone)]
pub(crate) struct ChunkBatch {
    text: Arc<str>,
    ends: Arc<[u32]>,
    /// Chunks at the beginning of the page that are not part of the batch.
    skip: usize,
}

impl ChunkBatch {
    fn of(text: &str, ends: impl Iterator<Item = u32>) -> Self {
        Self { text: text.into(), ends: ends.collect(), skip: 0 }
    }

    #[cfg(test)]
    pub(crate) fn one(text: &str) -> Self {
        Self::of(text, std::iter::once(u32::try_from(text.len()).unwrap_or(0)))
    }

    fn empty() -> Self {
        Self::of("", std::iter::empty())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (self.skip..self.ends.len()).map(|at| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
            &self.text[start..self.ends[at] as usize]
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len().saturating_sub(self.skip)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cost of the chunks in bytes.
    pub(crate) fn size(&self) -> usize {
        self.text.len() + self.len() * OVERHEAD
    }
}

impl Chunks {
    /// Bytes that `chunk` takes in memory.
    pub(super) fn cost(chunk: &str) -> usize {
        chunk.len().saturating_add(OVERHEAD)
    }

    /// Appends a chunk. One of 4 GiB or more, which no backend sends, is dropped.
    pub(super) fn push(&mut self, chunk: &str) {
        let Ok(size) = u32::try_from(chunk.len()) else { return };
        self.size += Self::cost(chunk);
        if !self.ends.is_empty() && (self.last.len() + chunk.len() > PAGE || self.ends.len() == PER_PAGE) {
            self.complete_page();
        }
        self.last.push_str(chunk);
        self.ends.push(self.ends.last().copied().unwrap_or(0).saturating_add(size));
        if self.last.len() >= PAGE {
            self.complete_page();
        }
    }

    /// Completes the last page.
    fn complete_page(&mut self) {
        let batch = ChunkBatch::of(&self.last, self.ends.iter().copied());
        self.full.push(Page { first: self.first, batch });
        self.first += self.ends.len();
        self.ends.clear();
        // The capacity of a large chunk is freed.
        if self.last.capacity() > PAGE * 2 {
            self.last = String::new();
        } else {
            self.last.clear();
        }
    }

    /// The cost of all chunks in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The chunks from number `from` to the end of its page; empty if there is no such chunk yet.
    pub(super) fn batch(&self, from: usize) -> ChunkBatch {
        if let Some(at) = from.checked_sub(self.first) {
            let Some(ends) = self.ends.get(at..).filter(|ends| !ends.is_empty()) else {
                return ChunkBatch::empty();
            };
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            return ChunkBatch::of(&self.last[start as usize..], ends.iter().map(|end| end - start));
        }
        let page = self.full.partition_point(|page| page.first <= from).saturating_sub(1);
        self.full.get(page).map_or_else(ChunkBatch::empty, |page| ChunkBatch {
            skip: from.saturating_sub(page.first),
            ..page.batch.clone()
        })
    }

    /// All chunks as a JSON array.
    pub(super) fn into_array(mut self) -> String {
        if !self.ends.is_empty() {
            self.complete_page();
        }
        let mut array = String::with_capacity(self.size + 2);
        array.push('[');
        for page in self.full {
            for chunk in page.batch.iter() {
                if array.len() > 1 {
                    array.push(',');
                }
                array.push_str(chunk);
            }
        }
        array.push(']');
        array
    }

    /// Bytes that are allocated.
    #[cfg(test)]
    fn memory(&self) -> usize {
        let page = |page: &Page| page.batch.text.len() + page.batch.ends.len() * 4 + 32 + size_of::<Page>();
        let full: usize = self.full.iter().map(page).sum();
        full + (self.full.capacity() - self.full.len()) * size_of::<Page>()
            + self.last.capacity()
            + self.ends.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(chunks: &Chunks, from: usize) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let batch = chunks.batch(from + read.len());
            if batch.is_empty() {
                return read;
            }
            let largest = batch.iter().map(str::len).max().unwrap();
            assert!(batch.size() <= PAGE + largest + PER_PAGE * OVERHEAD, "{}", batch.size());
            assert_eq!(batch.iter().count(), batch.len());
            read.extend(batch.iter().map(str::to_owned));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// P7: chunks are read unchanged from any number on, in batches of limited size; their memory is at most `size`.
        #[test]
        fn chunks_are_read_unchanged_and_take_no_more_memory_than_counted(
            sizes in prop::collection::vec(prop_oneof![
                8 => 0_usize..3, 4 => 3_usize..300, 1 => 10_000_usize..40_000
            ], 0..4000),
            from in 0_usize..5000,
        ) {
            let mut chunks = Chunks::default();
            let mut expected = Vec::new();
            for (at, size) in sizes.into_iter().enumerate() {
                let chunk = format!("\"{}\"", if at % 2 == 0 { "x".repeat(size) } else { "é".repeat(size / 2) });
                chunks.push(&chunk);
                expected.push(chunk);
            }
            let rest = expected.get(from..).unwrap_or_default();
            prop_assert_eq!(read_all(&chunks, from), rest);
            prop_assert!(chunks.batch(usize::MAX).is_empty());
            let counted: usize = expected.iter().map(|chunk| Chunks::cost(chunk)).sum();
            prop_assert_eq!(chunks.size(), counted);
            prop_assert!(chunks.memory() <= counted + counted / 8 + 4 * PAGE, "{} {counted}", chunks.memory());
            prop_assert_eq!(chunks.into_array(), format!("[{}]", expected.join(",")));
        }
    }

    #[test]
    fn a_million_chunks_of_two_bytes_cost_ten_bytes_each() {
        let mut chunks = Chunks::default();
        for _ in 0..1_000_000 {
            chunks.push("{}");
        }
        assert_eq!(chunks.size(), 10_000_000);
        assert!(chunks.memory() < 7_000_000, "{}", chunks.memory());
    }
}
