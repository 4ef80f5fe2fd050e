//! What a `ProviderActor` is told and asked.

use actix::Message;
use serde::{Deserialize, Serialize};
use wire::TaskId;
use wire::register::ProviderStatus;
use wire::task::InferTask;

use crate::outbox::Ticket;
use crate::status::Pause;
use crate::uplink::Agreed;

/// From `StreamActor`: answer a request. The answer goes to the hub by the outbox. Never lost: the mailbox outlives a
/// crash, the queue too, and the ticket ends the task where all else fails.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Infer {
    /// The task.
    pub task: InferTask,
    /// The duty to end it, from [`Outbox::admit`](crate::outbox::Outbox::admit).
    pub ticket: Ticket,
    /// What was agreed on its channel.
    pub agreed: Agreed,
}

impl Infer {
    /// Bytes that it takes while it waits.
    pub(crate) fn size(&self) -> usize {
        let headers: usize = self.task.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let endpoint = self.task.endpoint.as_ref().map_or(0, String::len);
        self.task.request.get().len() + headers + endpoint
    }
}

/// From `StreamActor`, to every provider: the caller of a task went away. If lost, the result POST's 404 says the same.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Cancel {
    /// The task.
    pub task_id: TaskId,
}

/// From the root: take no more tasks and end the queued ones with `publisher shutting down`; those that run go on.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// From the root at the end of the drain timeout, or when a provider is withdrawn: end what runs with this error.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Abort {
    /// The error that callers get.
    pub error: String,
}

/// From the root: new settings; tasks that run end on those they started with.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reconfigure {
    /// The new settings.
    pub config: std::sync::Arc<crate::options::ProviderConfig>,
}

/// From the root: the owner wants the machine (`pause`), or gives it back. A paused provider starts no task: one that
/// comes all the same is refused, or waits in its queue where the hub cannot learn of the pause.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetPaused(pub Option<Pause>);

/// From the root, for heartbeats and the `status` command.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ProviderReport")]
pub struct GetReport;

/// Answer of [`GetReport`]; also sent by a provider to its listener, unasked, when it changes.
#[derive(Debug, Clone, PartialEq, actix::dev::MessageResponse, Message, Serialize, Deserialize)]
#[rtype(result = "()")]
#[serde(rename_all = "camelCase")]
pub struct ProviderReport {
    /// For the hub.
    pub status: ProviderStatus,
    /// Why it is not active, for its owner.
    pub reason: Option<String>,
    /// Tasks ended since start.
    pub tasks_done: u64,
    /// Tokens a second of the last streamed answer.
    pub tokens_per_second: Option<f64>,
    /// Whether it is paused.
    pub paused: bool,
}
