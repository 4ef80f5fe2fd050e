//! The frames without a body that wait to be sent before all pieces.

use std::collections::VecDeque;

use bytes::Bytes;

/// Memory in bytes of a waiting frame besides its own bytes: its place in the queue, and its allocation.
const FRAME_OVERHEAD: usize = 64;

/// Encoded frames in the order in which they are sent.
#[derive(Debug, Default)]
pub(super) struct Control {
    frames: VecDeque<Bytes>,
    bytes: usize,
}

impl Control {
    pub(super) fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len() + FRAME_OVERHEAD;
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + FRAME_OVERHEAD;
        Some(frame)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Memory in bytes of all waiting frames.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
