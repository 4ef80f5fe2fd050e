//! Whom the `WakeActor` talks to.

use actix::Recipient;

use crate::backend::Client;
use crate::heartbeat::messages::Beat;

/// Whom the `WakeActor` talks to. The root makes the one there is with `WakeActor::new(links: WakeLinks, outbox: Outbox)`.
#[derive(Clone)]
pub struct WakeLinks {
    /// `HeartbeatActor`, at every poll.
    pub beat: Recipient<Beat>,
    /// For recipes and for polling the backends.
    pub http: Client,
}
