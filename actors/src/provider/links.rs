//! Whom a provider talks to.

use actix::Recipient;

use super::messages::ProviderReport;
use crate::backend::Client;
use crate::wake::messages::{EnsureAwake, PutToSleep};

/// Whom a provider talks to. The root makes one actor a provider with
/// `ProviderActor::new(config: Arc<ProviderConfig>, links: ProviderLinks, outbox: Outbox, crashes: CrashReporter)`.
#[derive(Clone)]
pub struct ProviderLinks {
    /// `WakeActor`: bring the backend up.
    pub ensure_awake: Recipient<EnsureAwake>,
    /// `WakeActor`: nothing to do for so long that the backend may sleep.
    pub put_to_sleep: Recipient<PutToSleep>,
    /// `HeartbeatActor` and the root, each time a report differs from the last one.
    pub changed: Vec<Recipient<ProviderReport>>,
    /// For the backend: one client for all of them, so that they share the roots of TLS and nothing with the hub.
    pub http: Client,
    /// Between two health checks of the backend.
    pub check_every: std::time::Duration,
}
