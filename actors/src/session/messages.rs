//! What the `SessionActor` is told, and what it tells.

use std::sync::Arc;

use actix::Message;
use wire::SessionId;
use wire::register::AgentEntry;

use crate::options::ProviderConfig;

/// From `StreamActor` before each reconnect, and from the root when a provider fell asleep under a classic hub:
/// register, and tell when it is done. While a registration runs or waits for its delay, one more asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct Register;

/// From `StreamActor` and `HeartbeatActor`: the hub answered 404 or 410 to this session. If lost, the next
/// heartbeat says the same.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SessionLost {
    /// The session that the hub does not know.
    pub session: SessionId,
}

/// From the root after a reload, a withdrawal or a return: this is the whole set from now on. Empty: rest.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Publish(pub Published);

/// From the root when the machine woke up: whatever delay was being waited for is over.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RetryNow;

/// What a registrar publishes.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// The LLMs.
    pub providers: Vec<Arc<ProviderConfig>>,
    /// The agents, ready for the wire.
    pub agents: Vec<AgentEntry>,
}

/// To `StreamActor`, `HeartbeatActor` and the root: the hub knows us by this id.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct SessionReady {
    /// The id.
    pub session: SessionId,
    /// Whether an open channel belongs to a session that is no more.
    pub reopen: bool,
}

/// To the root: the hub did not register us. If lost, a status line is missing.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct NotRegistered {
    /// Why.
    pub reason: String,
    /// Whether the hub refused, and not merely failed.
    pub refused: bool,
    /// Whether that ends the registrar: it was refused before it was ever accepted.
    pub fatal: bool,
}
