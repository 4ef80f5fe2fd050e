//! A streamed answer as it is kept until it is written down: pages of text, and where each chunk ends. Pure.

use std::sync::Arc;

/// Bytes of a page: what a reader takes at once. A larger chunk has a page of its own.
const PAGE: usize = 16 << 10;
/// Chunks of a page.
const PER_PAGE: usize = 1024;
/// What a chunk takes besides its text: the place of its end, and its part of what a page takes.
const PLACE: usize = 8;

/// The chunks of one answer.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    full: Vec<Page>,
    /// The page that is written now.
    last: String,
    ends: Vec<u32>,
    /// The number of its first chunk.
    first: usize,
    size: usize,
}

#[derive(Debug)]
struct Page {
    first: usize,
    batch: Batch,
}

/// Some chunks in a row: one page at most.
#[derive(Debug, Clone)]
pub struct Batch {
    text: Arc<str>,
    ends: Arc<[u32]>,
    /// So many of them are not meant.
    skip: usize,
}

impl Batch {
    fn of(text: &str, ends: impl Iterator<Item = u32>) -> Self {
        Self { text: text.into(), ends: ends.collect(), skip: 0 }
    }

    #[cfg(test)]
    pub(crate) fn one(text: &str) -> Self {
        Self::of(text, std::iter::once(u32::try_from(text.len()).unwrap_or(0)))
    }

    fn none() -> Self {
        Self::of("", std::iter::empty())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (self.skip..self.ends.len()).map(|at| {
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
            &self.text[start..self.ends[at] as usize]
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len().saturating_sub(self.skip)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of their texts, and a little more for each.
    pub fn size(&self) -> usize {
        self.text.len() + self.len() * PLACE
    }
}

impl Chunks {
    /// What keeping `chunk` costs.
    pub(super) fn cost(chunk: &str) -> usize {
        chunk.len().saturating_add(PLACE)
    }

    /// One more. One of 4 GiB or more is none that anybody sends: it is cut to nothing.
    pub(super) fn push(&mut self, chunk: &str) {
        let Ok(size) = u32::try_from(chunk.len()) else { return };
        self.size += Self::cost(chunk);
        if !self.ends.is_empty() && (self.last.len() + chunk.len() > PAGE || self.ends.len() == PER_PAGE) {
            self.turn();
        }
        self.last.push_str(chunk);
        self.ends.push(self.ends.last().copied().unwrap_or(0).saturating_add(size));
        if self.last.len() >= PAGE {
            self.turn();
        }
    }

    /// The page is full.
    fn turn(&mut self) {
        let batch = Batch::of(&self.last, self.ends.iter().copied());
        self.full.push(Page { first: self.first, batch });
        self.first += self.ends.len();
        self.ends.clear();
        // A large chunk's room is not kept.
        if self.last.capacity() > PAGE * 2 {
            self.last = String::new();
        } else {
            self.last.clear();
        }
    }

    /// What all of them cost.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Chunk `from` and some of those behind it; none where there is no such chunk yet.
    pub(super) fn batch(&self, from: usize) -> Batch {
        if let Some(at) = from.checked_sub(self.first) {
            let Some(ends) = self.ends.get(at..).filter(|ends| !ends.is_empty()) else {
                return Batch::none();
            };
            let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
            return Batch::of(&self.last[start as usize..], ends.iter().map(|end| end - start));
        }
        let page = self.full.partition_point(|page| page.first <= from).saturating_sub(1);
        self.full.get(page).map_or_else(Batch::none, |page| Batch {
            skip: from.saturating_sub(page.first),
            ..page.batch.clone()
        })
    }

    /// All of them as one JSON array. Each page goes as it is read.
    pub(super) fn into_array(mut self) -> String {
        if !self.ends.is_empty() {
            self.turn();
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

    /// Bytes that are really taken.
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
            assert!(batch.size() <= PAGE + largest + PER_PAGE * PLACE, "{}", batch.size());
            assert_eq!(batch.iter().count(), batch.len());
            read.extend(batch.iter().map(str::to_owned));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// P7: what came is what is read, from wherever, in batches that are bounded; and it costs what is counted.
        #[test]
        fn chunks_are_read_as_they_came_and_cost_what_is_counted(
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
