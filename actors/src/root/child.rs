//! The root's entry for a published provider.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::time::Instant;
use wire::row::Timestamp;

use crate::options::ProviderConfig;
use crate::provider::ProviderActor;
use crate::stream::messages::Route;
use crate::supervise::ChildHandle;

/// First and longest withdrawal of a provider that crashed too often (SPEC.md section 6).
const FIRST_PENALTY: Duration = Duration::from_mins(1);
const LONGEST_PENALTY: Duration = Duration::from_mins(10);

pub(super) struct Provider {
    pub(super) config: Arc<ProviderConfig>,
    /// Name of the actor in the supervisor's reports. Each actor has its own `Arc`, by which reports
    /// of an earlier actor are recognized.
    pub(super) child: Arc<str>,
    pub(super) running: Option<Running>,
    /// End of its withdrawal.
    pub(super) back_at: Option<Timestamp>,
    pub(super) crashes: u64,
    /// Whether its last report was `hibernating`.
    pub(super) asleep: bool,
    /// Whether its last report was `active`; true before the first one.
    pub(super) is_up: bool,
    penalty: Duration,
}

pub(super) struct Running {
    pub(super) address: Addr<ProviderActor>,
    pub(super) handle: ChildHandle,
    pub(super) since: Instant,
}

impl Provider {
    pub(super) fn new(config: Arc<ProviderConfig>) -> Self {
        let penalty = FIRST_PENALTY;
        Self {
            config,
            child: "".into(),
            running: None,
            back_at: None,
            crashes: 0,
            asleep: false,
            is_up: true,
            penalty,
        }
    }

    /// Whether `child` is its current or last actor.
    pub(super) fn is(&self, child: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.child, child)
    }

    /// Whether `name` is its name in the configuration or at the hub.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.config.name == name || self.config.wire_name.as_str() == name
    }

    /// Withdraws the provider, and returns for how long: twice as long as the last time, unless it ran long since then.
    pub(super) fn withdraw(&mut self, now: Instant) -> Duration {
        if self.running.take().is_some_and(|running| now - running.since >= LONGEST_PENALTY) {
            self.penalty = FIRST_PENALTY;
        }
        let penalty = self.penalty;
        self.penalty = (penalty * 2).min(LONGEST_PENALTY);
        penalty
    }

    /// Resets the length of the next withdrawal, because the settings have changed.
    pub(super) fn reset_penalty(&mut self) {
        self.penalty = FIRST_PENALTY;
        self.back_at = None;
    }

    pub(super) fn route(&self) -> Option<Route> {
        let address = &self.running.as_ref()?.address;
        let capacity = self.config.max_concurrency.saturating_add(self.config.max_queue);
        Some(Route { infer: address.clone().recipient(), cancel: address.clone().recipient(), capacity })
    }
}
