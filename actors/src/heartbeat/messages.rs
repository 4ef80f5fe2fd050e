//! What the `HeartbeatActor` is told, and what it tells.

use actix::{Message, Recipient};
use wire::row::Timestamp;

use crate::provider::messages::GetReport;

/// From `WakeActor` at every poll: beat now, so that a long wake does not look like a death. If one is in flight, this
/// one is dropped.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Beat;

/// From the root: whom to ask for the state of the providers (feature `status`). Replaces what was known before.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct SetReporters(pub Vec<Recipient<GetReport>>);

/// From the root, when there is nothing to publish: no more beats until the next session.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopBeats;

/// To the root: what became of a heartbeat. If lost, a status line is stale.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub enum BeatOutcome {
    /// The hub accepted one.
    Accepted {
        /// When.
        at: Timestamp,
    },
    /// The hub did not accept one.
    Failed {
        /// Why.
        reason: String,
    },
}
