//! Messages to the `ProviderActor`.

use std::sync::Arc;

use actix::Message;
use wire::task::InferTask;
use wire::{Features, TaskId};

use crate::options::ProviderConfig;
use crate::outbox::Ticket;
use crate::status::{Pause, ProviderReport};

/// Runs an inference; the outbox delivers its result. Sent by `StreamActor`.
///
/// The message is never lost: mailbox and queue survive a crash, and a dropped ticket ends the task.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Infer {
    pub(crate) task: InferTask,
    pub(crate) ticket: Ticket,
    /// The features of the task's channel.
    pub(crate) features: Features,
}

impl Infer {
    /// Bytes that count for the task while it waits.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.task.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let endpoint = self.task.endpoint.as_ref().map_or(0, String::len);
        self.task.request.get().len() + headers + endpoint
    }
}

/// The caller of a task has left. Sent by `StreamActor` to every provider; if it is lost, the hub answers the result 404 or 410.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct Cancel {
    pub(crate) task_id: TaskId,
}

/// Ends the queued tasks and every later one with `publisher shutting down`; running ones go on. Sent by the root.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain;

/// Ends running tasks with `publisher shutting down`. Sent by the root at the end of the drain timeout.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Abort;

/// Replaces the settings; running tasks keep theirs. Sent by the root.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reconfigure {
    pub(crate) config: Arc<ProviderConfig>,
}

/// Pauses the provider, or resumes it. Sent by the root.
///
/// A paused provider starts no task: a hub with `status` has its tasks refused, those of a classic hub wait.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct SetPaused(pub(crate) Option<Pause>);

/// Asks for a report. Sent by the root and by `HeartbeatActor`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ProviderReport")]
pub(crate) struct GetReport;
