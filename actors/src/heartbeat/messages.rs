//! What the `HeartbeatActor` is told.

use actix::Message;

/// From `WakeActor` at every poll: beat now, so that a long wake does not look like a death. If one is in flight, this
/// one is dropped.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Beat;
