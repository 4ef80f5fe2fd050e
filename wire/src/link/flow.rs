//! The two ends of one body: what was sent and is kept, and what was received.

use std::collections::VecDeque;

use bytes::Bytes;

use super::frame::{BodyKind, Credit, Piece};
use super::{MAX_PIECE, PIECE_OVERHEAD, WINDOW};

/// What a peer did against the rules. Its connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A piece beyond the credit that was granted, or longer than a piece may be.
    #[error("a piece beyond its credit")]
    BeyondCredit,
    /// A piece that is neither the next one nor one that came before.
    #[error("a piece out of order")]
    OutOfOrder,
    /// A piece behind the last one.
    #[error("a piece behind the end")]
    BehindEnd,
    /// More credit than [`WINDOW`] behind the pieces that were taken.
    #[error("credit beyond the window")]
    BeyondWindow,
    /// A peer has taken pieces that were not sent, or misses pieces that it has taken.
    #[error("an acknowledgement of what was not sent")]
    NotSent,
    /// A frame that only the other end may send.
    #[error("a frame of the other end")]
    WrongEnd,
    /// A frame before the hello or the resume.
    #[error("a frame before the greeting")]
    NotGreeted,
    /// A second hello or resume on a connection.
    #[error("a second greeting")]
    GreetedTwice,
}

/// The cost in credit of a piece.
fn cost(length: usize) -> u64 {
    length as u64 + PIECE_OVERHEAD
}

/// The sending end of a body.
#[derive(Debug)]
pub(super) struct Outgoing {
    kind: BodyKind,
    /// What was not cut yet.
    pending: VecDeque<Bytes>,
    pending_bytes: usize,
    /// Whether `pending` has the end of the body.
    is_complete: bool,
    /// Pieces that were cut and not taken, of ascending numbers.
    kept: VecDeque<Piece>,
    /// Index in `kept` of the first piece that this connection has not been given.
    unsent: usize,
    next_seq: u64,
    /// Cost of all pieces that were cut.
    sent: u64,
    /// Cost of those that the peer has taken.
    taken: u64,
    granted: u64,
    is_ended: bool,
    /// Whether the body was dropped. Then credit and tables of the peer are not checked.
    is_dropped: bool,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            kind: BodyKind::Json,
            pending: VecDeque::new(),
            pending_bytes: 0,
            is_complete: false,
            kept: VecDeque::new(),
            unsent: 0,
            next_seq: 0,
            sent: 0,
            taken: 0,
            granted: WINDOW,
            is_ended: false,
            is_dropped: false,
        }
    }
}

impl Outgoing {
    pub(super) fn push(&mut self, kind: BodyKind, bytes: Bytes) {
        self.kind = kind;
        if !bytes.is_empty() && !self.is_dropped {
            self.pending_bytes += bytes.len();
            self.pending.push_back(bytes);
        }
    }

    pub(super) fn finish(&mut self) {
        self.is_complete = true;
    }

    /// Drops the body: the peer needs no more of it. Its later credit and tables are ignored.
    pub(super) fn drop_body(&mut self) {
        *self = Self { is_complete: true, is_ended: true, is_dropped: true, ..Self::default() };
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Bytes that were pushed and not cut, for lack of credit or of a turn.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether the peer has taken the whole body.
    pub(super) fn is_taken(&self) -> bool {
        self.is_ended && self.kept.is_empty()
    }

    /// Whether the whole body was sent on this connection or an earlier one.
    pub(super) fn is_sent(&self) -> bool {
        self.is_ended && self.unsent == self.kept.len()
    }

    /// Whether [`next`](Self::next) gives a piece.
    pub(super) fn is_ready(&self) -> bool {
        self.unsent < self.kept.len() || self.can_cut()
    }

    /// Credit must suffice for a whole cut: a receiver that takes a little at a time must not make the pieces tiny.
    fn can_cut(&self) -> bool {
        let has_more = self.pending_bytes > 0 || self.is_complete;
        has_more && !self.is_ended && self.granted - self.sent >= cost(self.pending_bytes.min(MAX_PIECE))
    }

    /// The next piece to send.
    pub(super) fn next(&mut self) -> Option<Piece> {
        if self.unsent == self.kept.len() {
            if !self.can_cut() {
                return None;
            }
            let bytes = self.cut();
            self.pending_bytes -= bytes.len();
            self.sent += cost(bytes.len());
            self.is_ended = self.is_complete && self.pending_bytes == 0;
            self.kept.push_back(Piece { seq: self.next_seq, kind: self.kind, is_last: self.is_ended, bytes });
            self.next_seq += 1;
        }
        let piece = self.kept.get(self.unsent).cloned();
        self.unsent += 1;
        piece
    }

    /// At most [`MAX_PIECE`] of the pending bytes: a part of one of them, or several small ones together.
    fn cut(&mut self) -> Bytes {
        let Some(front) = self.pending.front_mut() else { return Bytes::new() };
        if front.len() > MAX_PIECE {
            return front.split_to(MAX_PIECE);
        }
        let mut whole = Vec::new();
        let mut first = self.pending.pop_front().unwrap_or_default();
        while let Some(more) =
            self.pending.front().filter(|more| first.len() + whole.len() + more.len() <= MAX_PIECE)
        {
            if whole.is_empty() {
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(more);
            self.pending.pop_front();
        }
        if whole.is_empty() { first } else { whole.into() }
    }

    /// Takes the peer's totals. Older ones change nothing.
    pub(super) fn credit(&mut self, credit: Credit) -> Result<(), Violation> {
        if self.is_dropped {
            return Ok(());
        }
        // Also of pieces that this connection was not given yet: the peer may have read them on the last one after it wrote
        // its hello.
        if credit.taken > self.next_seq {
            return Err(Violation::NotSent);
        }
        self.drop_taken(credit.taken);
        if credit.granted > self.taken + WINDOW {
            return Err(Violation::BeyondWindow);
        }
        self.granted = self.granted.max(credit.granted);
        Ok(())
    }

    fn drop_taken(&mut self, taken: u64) {
        while let Some(piece) = self.kept.pop_front_if(|piece| piece.seq < taken) {
            self.taken += cost(piece.bytes.len());
            self.unsent = self.unsent.saturating_sub(1);
        }
    }

    /// Checks that the peer can have `received` pieces, and have granted `granted` bytes.
    pub(super) fn check(&self, received: u64, granted: u64) -> Result<(), Violation> {
        if self.is_dropped {
            return Ok(());
        }
        let oldest = self.kept.front().map_or(self.next_seq, |piece| piece.seq);
        if received < oldest || received > self.next_seq {
            return Err(Violation::NotSent);
        }
        let received = self.kept.iter().take_while(|piece| piece.seq < received);
        let base: u64 = received.map(|piece| cost(piece.bytes.len())).sum();
        if granted > self.taken + base + WINDOW { Err(Violation::BeyondWindow) } else { Ok(()) }
    }

    /// Sends again on a new connection what the peer does not have: it has `received` pieces.
    pub(super) fn resume(&mut self, received: u64, granted: u64) {
        self.granted = self.granted.max(granted);
        self.drop_taken(received);
        self.unsent = 0;
    }

    /// Bytes that are kept for a new connection.
    #[cfg(test)]
    pub(super) fn kept_cost(&self) -> u64 {
        self.kept.iter().map(|piece| cost(piece.bytes.len())).sum()
    }
}

/// The receiving end of a body.
#[derive(Debug)]
pub(super) struct Incoming {
    /// Pieces that were received.
    received: u64,
    /// Cost of the pieces that were received.
    cost: u64,
    /// Pieces that were consumed.
    taken: u64,
    /// Cost of the pieces that were consumed.
    consumed: u64,
    granted: u64,
    is_ended: bool,
}

impl Default for Incoming {
    fn default() -> Self {
        Self { received: 0, cost: 0, taken: 0, consumed: 0, granted: WINDOW, is_ended: false }
    }
}

impl Incoming {
    /// Takes a piece. `false` for one that came before.
    pub(super) fn accept(&mut self, piece: &Piece) -> Result<bool, Violation> {
        if piece.seq < self.received {
            return Ok(false);
        }
        if self.is_ended {
            return Err(Violation::BehindEnd);
        }
        if piece.seq > self.received {
            return Err(Violation::OutOfOrder);
        }
        let total = self.cost + cost(piece.bytes.len());
        if total > self.granted || piece.bytes.len() > MAX_PIECE {
            return Err(Violation::BeyondCredit);
        }
        (self.received, self.cost, self.is_ended) = (self.received + 1, total, piece.is_last);
        Ok(true)
    }

    /// Notes that the oldest received piece, of `length` bytes, was consumed. Returns whether to tell the peer: not until
    /// there is news of a quarter of the window, or the whole of a large body.
    pub(super) fn consume(&mut self, length: usize) -> bool {
        self.taken += 1;
        self.consumed += cost(length);
        let granted = self.consumed + WINDOW;
        let is_whole = self.is_ended && self.taken == self.received && self.cost > WINDOW / 4;
        if !is_whole && (self.is_ended || granted - self.granted < WINDOW / 4) {
            return false;
        }
        self.granted = granted;
        true
    }

    /// The totals to tell the peer.
    pub(super) fn credit(&self) -> Credit {
        Credit { granted: self.granted, taken: self.taken }
    }

    /// Whether credit was granted since the start.
    pub(super) fn has_grown(&self) -> bool {
        self.granted > WINDOW
    }

    /// Number of pieces that were received, and the credit, for a new connection.
    pub(super) fn held(&self) -> (u64, u64) {
        (self.received, self.granted)
    }
}
