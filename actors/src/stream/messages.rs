//! What the `StreamActor` is told, and what it tells.

use std::collections::HashMap;
use std::time::Duration;

use actix::{Message, Recipient};
use wire::{Features, SessionId};

use crate::provider::messages::{Cancel, Infer};

/// From the root: where tasks go, by wire name. Replaces what was known before.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetRoutes(pub HashMap<String, Route>);

/// How one provider is reached.
#[derive(Clone)]
pub struct Route {
    /// For its tasks.
    pub infer: Recipient<Infer>,
    /// For callers that left.
    pub cancel: Recipient<Cancel>,
    /// How many tasks may run and wait there.
    pub room: usize,
}

/// From `HeartbeatActor`: the hub does not hold the stream that we think we have (feature `status`).
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct StreamUnknown {
    /// The stream that the heartbeat named.
    pub stream_id: String,
}

/// From the root, when the machine woke up: drop the channel and connect at once.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Reconnect;

/// From the root: tasks that come from now on get `publisher shutting down`. The channel stays.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RefuseTasks;

/// From the root, when there is nothing to publish: close the channel and stay away until the next session.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct CloseChannel;

/// To `HeartbeatActor` and the root: the channel is open, or, with its features, agreed upon.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ChannelOpened {
    /// Whose it is.
    pub session: SessionId,
    /// The hub's name for it (feature `status`).
    pub stream_id: Option<String>,
    /// What is agreed on it; nothing until the hub's hello.
    pub features: Features,
    /// Whether this is the hub's hello on a channel already announced.
    pub hello: bool,
}

/// To `HeartbeatActor` and the root: the channel is closed, or did not open.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub struct ChannelLost {
    /// Why.
    pub reason: String,
    /// Whether the hub refused, and not merely failed.
    pub refused: bool,
    /// When it is tried again.
    pub retry_in: Duration,
}
