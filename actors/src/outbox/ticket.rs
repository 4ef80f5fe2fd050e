//! The duty to end one task.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::TaskId;

/// The duty to end one task, exactly once: the outbox takes it back with the ending. One that is dropped, with a
/// message that nobody handled or by a panic, ends its task with an error.
#[derive(Debug)]
pub struct Ticket {
    id: TaskId,
    /// When the task came.
    came: Instant,
    lost: Option<mpsc::UnboundedSender<TaskId>>,
}

impl Ticket {
    pub(super) fn new(id: TaskId, lost: mpsc::UnboundedSender<TaskId>) -> Self {
        Self { id, came: Instant::now(), lost: Some(lost) }
    }

    /// The task.
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// How long ago the task came.
    pub fn age(&self) -> Duration {
        self.came.elapsed()
    }

    /// The task without the duty.
    pub(super) fn redeem(mut self) -> TaskId {
        self.lost = None;
        self.id.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            // Without an outbox there is nobody left to tell.
            let _ = lost.send(self.id.clone());
        }
    }
}
