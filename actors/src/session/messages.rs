//! Messages to and from the `SessionActor`.

use std::sync::Arc;

use actix::Message;
use wire::SessionId;
use wire::register::AgentEntry;

use crate::options::ProviderConfig;

/// Registers now, unless a registration is running or the delay after a failed one is not over.
///
/// Sent by `StreamActor` when it has no channel, and by the root when a provider fell asleep under a classic hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct Register;

/// The hub answered 404 or 410 to this session. Sent by `StreamActor` and `HeartbeatActor`; if it is lost, the next
/// heartbeat repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct SessionLost {
    pub(crate) session: SessionId,
}

/// Ends a running delay. Sent by the root when the machine has woken up.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct RetryNow;

/// The backend of a provider came back: its server may serve another context now. Sent by the root.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct BackendReturned(pub(crate) Arc<ProviderConfig>);

/// Replaces the published set. With an empty one nothing is registered. Sent by the root after a reload, a withdrawal or a
/// return.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "()")]
pub(crate) struct Publish {
    pub(crate) providers: Vec<Arc<ProviderConfig>>,
    pub(crate) agents: Vec<AgentEntry>,
}

/// The hub has accepted a registration. Sent to `StreamActor`, `HeartbeatActor` and the root.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct SessionReady {
    pub(crate) session: SessionId,
    /// Whether an open channel belongs to an earlier session and must be replaced.
    pub(crate) reopen: bool,
}

/// A registration failed. Sent to the root; if it is lost, a status line is missing.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct NotRegistered {
    pub(crate) reason: String,
    /// Whether the hub refused the registration; false for a failure that may be temporary.
    pub(crate) refused: bool,
    /// Whether the registrar must end, because the hub refused its first registration.
    pub(crate) fatal: bool,
}
