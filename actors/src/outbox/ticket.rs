//! The duty to end one task.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::TaskId;

/// The duty to end one task exactly once. It is returned to the outbox with the result. Dropping a ticket, in an unhandled
/// message or by a panic, ends the task with an error.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: TaskId,
    accepted_at: Instant,
    lost: Option<mpsc::UnboundedSender<TaskId>>,
}

impl Ticket {
    pub(super) fn new(id: TaskId, lost: mpsc::UnboundedSender<TaskId>) -> Self {
        Self { id, accepted_at: Instant::now(), lost: Some(lost) }
    }

    pub(crate) fn id(&self) -> &TaskId {
        &self.id
    }

    /// Time since the task was accepted.
    pub(crate) fn age(&self) -> Duration {
        self.accepted_at.elapsed()
    }

    /// Takes the duty from the ticket.
    pub(super) fn complete(mut self) -> TaskId {
        self.lost = None;
        self.id.clone()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            // Fails only if the outbox was dropped.
            let _ = lost.send(self.id.clone());
        }
    }
}
