//! What a session's link keeps between its connections: tasks, answers, and what counts them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use tokio::sync::mpsc;
use wire::link::{BodyKind, HubEnd, MAX_PIECE, Piece};

use crate::quota::{ByteQuota, BytesPermit};

/// Memory in bytes of the frames without a body that may wait while more is read, or sent: some 150 of them.
pub(super) const MAX_CONTROL: usize = 16 << 10;

/// HTTP status of an answer for which the hub has no memory now.
const BUSY: u16 = 503;

/// Memory in bytes from which on pieces are counted. Smaller ones are counted together.
const UNCOUNTED: usize = 4 << 10;

/// Memory in bytes of a small piece besides its own bytes: its place in the channel, and its allocation.
const PIECE_OVERHEAD: usize = size_of::<CountedPiece>() + 48;

/// Smaller pieces are copied. A piece shares the block in which it was read, and the rest of the block may be frames that
/// cost no credit.
const COPIED: usize = MAX_PIECE / 2;

/// The state of a link, which outlives its connections.
#[derive(Default)]
pub(super) struct SessionLinkState {
    pub(super) link: HubEnd,
    /// Whether the link was removed from its session: no connection carries it again.
    pub(super) is_removed: bool,
    /// Receivers of the answers that have begun. What waits there is bounded by the credit of each.
    answers: HashMap<Arc<str>, AnswerSender>,
    /// Counts the tasks whose body waits to be sent or to be taken.
    pub(super) held: HashMap<Arc<str>, [BytesPermit; 2]>,
    /// Number of answers that are put together although their tasks have ended.
    pub(super) late: usize,
    /// The task of the connection that carries the link, which writes.
    pub(super) writer: Option<Waker>,
}

struct AnswerSender {
    pieces: mpsc::UnboundedSender<CountedPiece>,
    /// Memory in bytes of the last pieces that nothing counts.
    uncounted: usize,
    /// Whether it ended its task, so that the registrar is being told what was decided.
    is_final: bool,
}

/// A piece of an answer, and what counts it for its publisher until it is passed on. The pieces are passed on in order, so
/// one of them counts for the small ones before it, too.
pub(crate) struct CountedPiece {
    pub(crate) piece: Piece,
    _held: BytesPermit,
}

/// A frame that the reader of a link has to act on.
pub(crate) enum Arrival {
    /// A task's answer begins: its pieces come on `pieces`.
    Answer { task: Arc<str>, kind: BodyKind, pieces: mpsc::UnboundedReceiver<CountedPiece> },
    /// A heartbeat: its number and its JSON.
    Beat(u64, Bytes),
    /// Nothing.
    Nothing,
}

impl SessionLinkState {
    pub(super) fn has_backlog(&self) -> bool {
        self.link.waiting_control() >= MAX_CONTROL
    }

    /// Sends a task, unless the registrar has it: a task may come again when its session is back.
    pub(super) fn task(&mut self, task: Arc<str>, data: VecDeque<Bytes>, held: [BytesPermit; 2]) {
        if self.link.knows(&task) {
            return;
        }
        for bytes in data {
            self.link.push(&task, BodyKind::Json, bytes);
        }
        self.link.finish(&task);
        self.held.insert(task, held);
    }

    pub(super) fn piece(&mut self, task: Arc<str>, piece: Piece, results: &ByteQuota) -> Arrival {
        if self.held.contains_key(&task) && self.link.is_sent(&task) {
            // A registrar answers what it has read.
            self.drop_body(&task);
        }
        let kind = piece.kind;
        let size = piece.bytes.len();
        let answer = self.answers.get_mut(&task);
        let uncounted = answer.as_ref().map_or(0, |answer| answer.uncounted) + size + PIECE_OVERHEAD;
        let is_counted = uncounted >= UNCOUNTED;
        let held = if is_counted { results.take(uncounted) } else { Ok(BytesPermit::default()) };
        let Ok(held) = held else {
            // Its receiver reads the end. The registrar may send a whole answer again.
            self.link.take(&task, BUSY);
            self.forget(&task);
            self.wake_writer();
            return Arrival::Nothing;
        };
        let bytes = if size < COPIED { Bytes::copy_from_slice(&piece.bytes) } else { piece.bytes };
        let piece = CountedPiece { piece: Piece { bytes, ..piece }, _held: held };
        let uncounted = if is_counted { 0 } else { uncounted };
        if let Some(answer) = answer {
            answer.uncounted = uncounted;
            // A receiver that is gone has decided, and the registrar is being told.
            let _ = answer.pieces.send(piece);
            return Arrival::Nothing;
        }
        let (sender, pieces) = mpsc::unbounded_channel();
        let _ = sender.send(piece);
        self.answers.insert(task.clone(), AnswerSender { pieces: sender, uncounted, is_final: false });
        Arrival::Answer { task, kind, pieces }
    }

    /// Breaks off all answers. Each keeps its link, and the link the sender of each.
    pub(super) fn remove(&mut self) {
        self.is_removed = true;
        self.link.release();
        // A connection that its registrar does not read keeps the link.
        self.link.clear();
        self.answers.clear();
        self.held.clear();
        self.wake_writer();
    }

    /// Keeps the answer that ended `task` until the registrar is told the decision. `false` if no answer ended it.
    pub(super) fn keep_answer(&mut self, task: &str, by_answer: bool) -> bool {
        let Some(answer) = self.answers.get_mut(task).filter(|answer| by_answer || answer.is_final) else {
            return false;
        };
        answer.is_final = true;
        self.drop_body(task);
        true
    }

    /// Drops the body that the registrar has, or does not need any more, and what counts it.
    fn drop_body(&mut self, task: &str) {
        self.link.drop_body(task);
        self.held.remove(task);
    }

    pub(super) fn forget(&mut self, task: &str) {
        self.answers.remove(task);
        self.held.remove(task);
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
impl SessionLinkState {
    pub(super) fn kept(&self) -> [usize; 3] {
        [self.link.len(), self.answers.len(), self.held.len()]
    }
}
