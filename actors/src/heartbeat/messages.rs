//! Messages to and from the `HeartbeatActor`.

use actix::{Message, Recipient};
use wire::row::Timestamp;

use crate::provider::messages::GetReport;

/// Sends a heartbeat now, unless one is in flight. Sent by `WakeActor` at each poll, so that a long wake does not look like a
/// dead publisher.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Beat;

/// Replaces the providers whose reports go into a heartbeat (feature `status`). Without any, the heartbeats stop until the
/// next session. Sent by the root.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct SetReporters(pub(crate) Vec<Recipient<GetReport>>);

/// The result of a heartbeat. Sent to the root; if it is lost, a status line is stale.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum BeatResult {
    Accepted { at: Timestamp },
    Failed { reason: String },
}
