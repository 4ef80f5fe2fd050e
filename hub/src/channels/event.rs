//! One event on its way to a publisher, and how it is cut into what is written at once.

use std::collections::VecDeque;

use bytes::Bytes;

/// One event, as written by our encoder.
pub struct Event {
    /// Its bytes end to end.
    pieces: VecDeque<Bytes>,
    size: usize,
}

/// The server copies what it writes, this much of it at once: a large event must not keep its thread. Smaller events are
/// one piece.
pub(super) const SLICE: usize = 64 << 10;

impl Event {
    /// An event whose bytes are these, end to end.
    pub fn of(pieces: Vec<Bytes>) -> Self {
        let size = pieces.iter().map(Bytes::len).sum();
        let pieces = if size <= SLICE { [pieces.concat().into()].into() } else { pieces.into() };
        Self { pieces, size }
    }

    /// Bytes that it had at first.
    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Whether all of it was given out.
    pub(super) fn is_over(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// The next bytes to be written.
    pub(super) fn slice(&mut self) -> Option<Bytes> {
        loop {
            let front = self.pieces.front_mut()?;
            if front.len() > SLICE {
                // Between two characters, for readers who take each piece for a text of its own.
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
