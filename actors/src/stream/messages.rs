//! Messages to and from the `StreamActor`.

use std::collections::HashMap;
use std::time::Duration;

use actix::{Message, Recipient};
use tokio::time::Instant;
use wire::link::Going;
use wire::{Features, SessionId};

use crate::provider::messages::{Cancel, Infer};
use crate::status::ChannelTransport;

/// Replaces the routes, by wire name. If there are none, the channel is closed until the next session. Sent by the root.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct SetRoutes(pub(crate) HashMap<String, Route>);

/// The route to one provider.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) infer: Recipient<Infer>,
    pub(crate) cancel: Recipient<Cancel>,
    /// Number of tasks that may run and wait there.
    pub(crate) capacity: usize,
}

/// The hub does not hold this stream (feature `status`). Sent by `HeartbeatActor`.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct StreamUnknown {
    pub(crate) stream_id: String,
}

/// Drops the channel and registers at once. Sent by the root when the machine has woken up.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Reconnect;

/// Ends every later task with `publisher shutting down`; the channel stays open. Sent by the root.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct RefuseTasks;

/// The channel is open, or its features are agreed. Sent to `SessionActor`, `HeartbeatActor` and the root.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct ChannelOpened {
    pub(crate) session: SessionId,
    /// The hub's id of the stream (feature `status`).
    pub(crate) stream_id: Option<String>,
    /// The features of both sides; none until the hub's hello.
    pub(crate) features: Features,
    /// Whether this is the hub's hello on a channel that was announced before.
    pub(crate) hello: bool,
    pub(crate) transport: ChannelTransport,
}

/// The channel was lost, or did not open. Sent to `SessionActor`, `HeartbeatActor` and the root.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct ChannelLost {
    pub(crate) reason: String,
    /// Whether the hub refused the channel; false for a failure that may be temporary.
    pub(crate) refused: bool,
    /// How long the channel was open; `None` if it did not open.
    pub(crate) open_for: Option<Duration>,
    /// Least delay that the hub asked for: `retry:` of an open channel, `Retry-After` of one that did not open.
    pub(crate) retry_hint: Option<Duration>,
    /// Whether it was a link, which goes on where it was when it is opened again.
    pub(crate) is_link: bool,
    /// Whether tasks run that came on it.
    pub(crate) has_tasks: bool,
    /// When to connect again to a hub that said before that it shuts down: this is no fault.
    pub(crate) restart: Option<Restart>,
}

/// The times at which a hub that shuts down is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restart {
    pub(crate) going: Going,
    /// When the hub named them.
    pub(crate) since: Instant,
}

/// The hub of the open channel shuts down, and finishes its tasks. Sent to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) struct HubGoing;
