//! An event for a publisher, cut into slices that are written at once.

use std::collections::VecDeque;

use bytes::Bytes;

/// An encoded event, in pieces.
pub(crate) struct Event {
    pieces: VecDeque<Bytes>,
    /// The size at first, in bytes.
    size: usize,
}

/// Most bytes written at once. The server copies them, and a large event must not block its thread.
pub(super) const SLICE: usize = 64 << 10;

impl Event {
    /// An event of concatenated pieces.
    pub(crate) fn of(pieces: Vec<Bytes>) -> Self {
        let size = pieces.iter().map(Bytes::len).sum();
        let pieces = if size <= SLICE { [pieces.concat().into()].into() } else { pieces.into() };
        Self { pieces, size }
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Whether all slices were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// The next slice.
    pub(super) fn next_slice(&mut self) -> Option<Bytes> {
        loop {
            let front = self.pieces.front_mut()?;
            if front.len() > SLICE {
                // Cut between two characters, for readers that decode each read separately.
                let is_within = |at: &usize| front.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
                let cut = (SLICE - 3..=SLICE).rev().find(|at| !is_within(at)).unwrap_or(SLICE);
                return Some(front.split_to(cut));
            }
            let front = self.pieces.pop_front()?;
            // An empty chunk would end the body.
            if !front.is_empty() {
                return Some(front);
            }
        }
    }
}

impl From<Vec<u8>> for Event {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<Bytes> for Event {
    fn from(bytes: Bytes) -> Self {
        Self { size: bytes.len(), pieces: [bytes].into() }
    }
}
