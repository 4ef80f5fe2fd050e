//! The blocks in which a body is read. The memory of them counts before it is allocated.

use crate::error::ApiError;
use crate::quota::BytesPermit;

/// Bytes of the blocks in which a body of unknown length is read; they are joined at its end. Up to as many, all that is
/// allocated counts; beyond, an announced body has one block, whose pages cost nothing before they are written.
const BLOCK: usize = 1 << 20;

/// The body so far.
pub(super) struct BodyBlocks {
    blocks: Vec<Vec<u8>>,
    /// The announced length.
    length: Option<usize>,
    permit: BytesPermit,
}

impl BodyBlocks {
    /// No bytes yet of a body whose `length` may be announced.
    pub(super) fn new(length: Option<usize>, permit: BytesPermit) -> Self {
        Self { blocks: Vec::new(), length, permit }
    }

    /// Appends `read`; fails without a change if it does not fit into the quota.
    pub(super) fn push(&mut self, read: &[u8]) -> Result<(), ApiError> {
        let is_full = |last: &Vec<u8>| self.length.is_none() && last.len() + read.len() > BLOCK;
        let mut last = self.blocks.pop_if(|last| !is_full(last)).unwrap_or_default();
        let (size, capacity) = (last.len() + read.len(), last.capacity());
        let needed = match self.length {
            _ if size <= capacity => capacity,
            // A growing vector is copied each time: a large one is allocated once.
            Some(length) if size.max(2 * capacity) > BLOCK => length.max(size),
            length => (2 * capacity).min(length.unwrap_or(BLOCK)).max(size),
        };
        let more = counted(size, needed) - counted(last.len(), capacity);
        let fits = if more > 0 { self.permit.grow(more) } else { Ok(()) };
        if fits.is_ok() {
            last.reserve_exact(needed - last.len());
            last.extend_from_slice(read);
        }
        self.blocks.push(last);
        fits
    }

    /// The blocks, and the permit that counts them.
    pub(super) fn into_parts(self) -> (Vec<Vec<u8>>, BytesPermit) {
        (self.blocks, self.permit)
    }
}

/// The bytes that count for a block of `size` bytes with room for `capacity`.
fn counted(size: usize, capacity: usize) -> usize {
    capacity.min(size.max(BLOCK))
}

/// Joins `blocks`, of `size` bytes together. Each is freed when it is copied.
pub(super) fn join(mut blocks: Vec<Vec<u8>>, size: usize) -> Vec<u8> {
    if blocks.len() == 1 {
        return blocks.pop().unwrap_or_default();
    }
    let mut body = Vec::with_capacity(size);
    for block in blocks {
        body.extend_from_slice(&block);
    }
    body
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::quota::{ByteQuota, Quota};

    fn permit(most: usize) -> BytesPermit {
        ByteQuota::new(&Arc::<Quota>::default(), "alice", most, "requests").empty()
    }

    proptest! {
        /// A27: allocated blocks of up to 1 MiB and received bytes count; an announced length does not.
        #[test]
        fn blocks_count_what_they_allocate(
            reads in proptest::collection::vec(prop_oneof![1_usize..100, 1_000_usize..20_000, 100_000_usize..300_000], 1..40),
            is_announced: bool,
            most in prop_oneof![Just(usize::MAX), 1_usize..(4 << 20)],
        ) {
            let whole: usize = reads.iter().sum();
            let mut body = BodyBlocks::new(is_announced.then_some(whole), permit(most));
            let mut came = Vec::new();
            for (number, size) in reads.iter().enumerate() {
                let read = vec![u8::try_from(number).unwrap(); *size];
                let (before, held) = (came.len(), body.permit.size());
                match body.push(&read) {
                    Ok(()) => came.extend_from_slice(&read),
                    Err(_) => prop_assert!(before + size > most / 4, "refused below a quarter of the quota"),
                }
                let allocated: usize = body.blocks.iter().map(|block| block.capacity().min(BLOCK)).sum();
                prop_assert!(body.permit.size() >= allocated.max(came.len()));
                prop_assert!(body.permit.size() <= (2 * came.len()).max(held).max(*size) + BLOCK);
            }
            let (blocks, held) = body.into_parts();
            prop_assert!(held.size() <= most);
            let size = blocks.iter().map(Vec::len).sum();
            prop_assert!(join(blocks, size) == came);
        }
    }

    #[test]
    fn a_body_that_arrives_at_once_is_allocated_once() {
        for length in [None, Some(3000)] {
            let mut body = BodyBlocks::new(length, permit(usize::MAX));
            body.push(&[1; 3000]).unwrap();
            assert_eq!((body.blocks.len(), body.blocks[0].capacity(), body.permit.size()), (1, 3000, 3000));
        }
    }
}
