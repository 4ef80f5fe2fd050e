//! One published provider, as the root holds it.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::time::Instant;
use wire::row::Timestamp;

use crate::options::ProviderConfig;
use crate::provider::ProviderActor;
use crate::stream::messages::Route;
use crate::supervise::ChildHandle;

/// How long a provider that crashed too often stays away, the first time and at most (SPEC.md section 6).
const FIRST_PENALTY: Duration = Duration::from_mins(1);
const LONGEST_PENALTY: Duration = Duration::from_mins(10);

/// One published provider.
pub(super) struct Provider {
    pub(super) config: Arc<ProviderConfig>,
    /// Its name in the supervisor's reports. Each actor has its own copy: a late report of an older one means nothing.
    pub(super) child: Arc<str>,
    pub(super) running: Option<Running>,
    /// While it is withdrawn.
    pub(super) back_at: Option<Timestamp>,
    pub(super) crashes: u64,
    /// Its last report said `hibernating`.
    pub(super) asleep: bool,
    penalty: Duration,
}

/// Its actor.
pub(super) struct Running {
    pub(super) address: Addr<ProviderActor>,
    pub(super) handle: ChildHandle,
    pub(super) since: Instant,
}

impl Provider {
    pub(super) fn new(config: Arc<ProviderConfig>) -> Self {
        let penalty = FIRST_PENALTY;
        Self { config, child: "".into(), running: None, back_at: None, crashes: 0, asleep: false, penalty }
    }

    /// Whether a report is of the actor that it has, or had last.
    pub(super) fn is(&self, child: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.child, child)
    }

    /// Whether it goes by this name, in the configuration or at the hub.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.config.name == name || self.config.wire_name.as_str() == name
    }

    /// It was given up: how long it stays away. Twice as long as the last time, unless it held out for long.
    pub(super) fn withdraw(&mut self, now: Instant) -> Duration {
        if self.running.take().is_some_and(|running| now - running.since >= LONGEST_PENALTY) {
            self.penalty = FIRST_PENALTY;
        }
        let penalty = self.penalty;
        self.penalty = (penalty * 2).min(LONGEST_PENALTY);
        penalty
    }

    /// Its settings changed: what they did before is forgiven.
    pub(super) fn forgive(&mut self) {
        self.penalty = FIRST_PENALTY;
        self.back_at = None;
    }

    pub(super) fn route(&self) -> Option<Route> {
        let address = &self.running.as_ref()?.address;
        let room = self.config.max_concurrency.saturating_add(self.config.max_queue);
        Some(Route { infer: address.clone().recipient(), cancel: address.clone().recipient(), room })
    }
}
