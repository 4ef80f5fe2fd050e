//! What a frame of the peer means for its receiver.

use std::sync::Arc;

use bytes::Bytes;

use super::Going;
use super::frame::Piece;

/// What a frame means to the owner of a [`Link`](super::Link).
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A new piece of a body. Its owner calls [`Link::consumed`](super::Link::consumed) when it has used it.
    Piece {
        /// Task id.
        task: Arc<str>,
        /// Whether the link did not know the task.
        is_new: bool,
        /// The piece.
        piece: Piece,
    },
    /// The peer granted credit to this task's body.
    Credit(Arc<str>),
    /// The hub has decided about the answer. The task has been removed.
    Taken {
        /// Task id.
        task: Arc<str>,
        /// HTTP status of the decision.
        status: u16,
    },
    /// Nobody waits for the task. If the link knew it, it has been removed.
    Cancelled(Arc<str>),
    /// The hub's hello.
    Hello(Bytes),
    /// The registrar's resume.
    Resume(Bytes),
    /// A newer channel of this session was opened. A registrar that opened it itself reads no more here.
    Superseded,
    /// The hub shuts down, and finishes its tasks on this link.
    Going(Going),
    /// A heartbeat: its number and its JSON.
    Beat(u64, Bytes),
    /// The answer to a heartbeat.
    Beaten {
        /// Number of the heartbeat.
        number: u64,
        /// HTTP status.
        status: u16,
        /// Body of the response.
        body: Bytes,
    },
    /// Nothing that matters: a piece that came before, a task that has ended.
    Nothing,
}
