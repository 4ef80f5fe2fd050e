//! Several frames of a link in one message: each behind its length. Pure.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Frames that go together.
#[derive(Debug, Default)]
pub(super) struct Batch(BytesMut);

impl Batch {
    pub(super) fn push(&mut self, frame: &[u8]) {
        // No frame is longer than a piece and its task's id.
        self.0.put_u32(u32::try_from(frame.len()).unwrap_or_default());
        self.0.put_slice(frame);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.0.freeze()
    }
}

/// The next frame of a batch, which is taken from `batch`; `None` behind the last one.
pub(super) fn next(batch: &mut Bytes) -> Option<Bytes> {
    if batch.len() < size_of::<u32>() {
        return None;
    }
    let length = batch.get_u32() as usize;
    (length <= batch.len()).then(|| batch.split_to(length))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_are_read_back(frames in vec(vec(any::<u8>(), 0..40), 0..10), cut in 0_usize..500) {
            let mut batch = Batch::default();
            for frame in &frames {
                batch.push(frame);
            }
            prop_assert_eq!(batch.is_empty(), frames.is_empty());
            let mut bytes = batch.into_bytes();
            // A batch that is cut has no half of a frame.
            let mut half = bytes.slice(..cut.min(bytes.len()));
            let whole: Vec<_> = std::iter::from_fn(|| next(&mut bytes)).collect();
            prop_assert_eq!(&whole, &frames);
            let cut: Vec<_> = std::iter::from_fn(|| next(&mut half)).collect();
            prop_assert_eq!(&cut[..], &frames[..cut.len()]);
        }
    }
}
