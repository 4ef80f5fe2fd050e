//! The record of each inference: [`Inference`] updates the metrics, the list of recent inferences, the audit and the
//! sums of the day.
//!
//! Also here: the gauges of the process ([`Machine`]) and the changes that `/api/v1/events` shows ([`Watcher`]). Durable tasks
//! have a list of their own ([`crate::tasks`]).

mod audit;
mod cache;
mod inference;
mod limit;
mod live;
mod metrics;
mod rate;
mod recent;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use audit::AuditLog;
pub use cache::{CacheCounters, CacheView};
pub(crate) use cache::{RowCache, metrics_text, total};
pub(crate) use inference::{CALLER_LEFT, Inference, RequestInfo};
pub(crate) use limit::Limit;
pub(crate) use live::Watcher;
pub(crate) use metrics::{Machine, Metrics, WakeOutcome};
use parking_lot::Mutex;
use rate::Rates;
use recent::RecentInferences;
pub(crate) use recent::{Counts, TaskView, brief};

use crate::clock;
use crate::error::ApiError;
use crate::limits::CallerLimits;
use crate::model::{Caller, Day, REFUSED, UsageCounts, UsageKey};
use crate::store::{ListCursor, Store};

/// Least time between two counts of the public totals.
const RECOUNT_INTERVAL: Duration = Duration::from_secs(1);

/// The hub's metrics, audit and recent tasks.
pub struct Watch {
    /// Metrics of all rows, for admins.
    pub metrics: Metrics,
    /// Metrics of public rows, for all users.
    pub shared: Metrics,
    pub machine: Machine,
    /// The versions of registry and task table at the last count of the public totals, and the time of that count.
    counted: Mutex<Option<((u64, u64), Duration)>>,
    audit: AuditLog,
    recent: RecentInferences,
    rates: Rates,
    /// Where the tokens of each call are counted.
    limits: Arc<CallerLimits>,
}

impl Watch {
    /// All metrics are zero; audit records go to `store`.
    pub fn new(store: Arc<dyn Store>) -> prometheus::Result<Self> {
        let metrics = Metrics::new()?;
        let machine = metrics.of_machine()?;
        Ok(Self {
            audit: AuditLog::new(store, machine.clone()),
            machine,
            metrics,
            shared: Metrics::new()?,
            counted: Mutex::default(),
            recent: RecentInferences::default(),
            rates: Rates::default(),
            limits: Arc::default(),
        })
    }

    /// Counts the tokens of each call for the limits of its caller.
    pub(crate) fn with_limits(self, limits: Arc<CallerLimits>) -> Self {
        Self { limits, ..self }
    }

    /// The metrics that count an event of a row: those of public rows only if `is_public`.
    pub fn counters(&self, is_public: bool) -> impl Iterator<Item = &Metrics> {
        std::iter::once(&self.metrics).chain(is_public.then_some(&self.shared))
    }

    /// Whether the caller must count the public totals: `versions` of registry and task table have changed, and a second has
    /// passed since the last count.
    pub(crate) fn claim_recount(&self, versions: (u64, u64), now: Duration) -> bool {
        let mut counted = self.counted.lock();
        let is_due = counted.is_none_or(|(last_versions, last)| {
            last_versions != versions && now.saturating_sub(last) >= RECOUNT_INTERVAL
        });
        if is_due {
            *counted = Some((versions, now));
        }
        is_due
    }

    /// Counts a call of `llm` that a limit refused before it began, if `error` is that of a limit. It gets no audit record: a flood
    /// of refused calls adds to a bounded number of sums.
    pub(crate) fn refused(&self, caller: &Caller, llm: &str, error: &ApiError) {
        let Some(limit) = error.limit else { return };
        let key = UsageKey {
            day: Day::of(clock::now()),
            user: caller.user.clone(),
            token: caller.token_id.clone(),
            llm: llm.to_owned(),
            through: String::new(),
            code: format!("{REFUSED}{}", limit.label()),
        };
        self.audit.add_sum(key, UsageCounts { calls: 1, ..UsageCounts::default() });
    }

    /// Restores the keys of today's sums in the store.
    pub(crate) fn restore_usage(&self, keys: Vec<UsageKey>) {
        self.audit.restore_usage(keys);
    }

    /// Writes audit records and sums in batches until the future is dropped. Call [`Watch::flush`] then.
    pub async fn run(self: &Arc<Self>) {
        loop {
            self.audit.due().await;
            self.flush().await;
        }
    }

    /// Writes all pending audit records and sums. A caller that waits for this may leave, or be polled late: others that write then
    /// do not wait for it.
    pub async fn flush(self: &Arc<Self>) {
        let watch = self.clone();
        // A panic has been reported by the panic hook.
        let _ = tokio::spawn(async move { watch.audit.flush().await }).await;
    }

    /// The `limit` newest inferences older than `before` that `caller` may see, running and recently ended, in any order.
    pub(crate) fn tasks(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        self.recent.list(caller, before, limit)
    }

    /// The `limit` newest running inferences that `caller` may see, then the `limit` that ended last.
    pub(crate) fn live_tasks(&self, caller: &Caller, limit: usize) -> Vec<TaskView> {
        self.recent.live(caller, limit)
    }

    /// The number of running and waiting inferences that `caller` may see.
    pub(crate) fn counts(&self, caller: &Caller) -> Counts {
        self.recent.counts(caller)
    }

    /// Tokens a second of all rows with a rate above zero.
    pub(crate) fn rates(&self) -> Arc<HashMap<String, f64>> {
        self.rates.all()
    }

    /// One inference, if `caller` may see it.
    pub(crate) fn task(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        self.recent.one(caller, id)
    }

    /// The name that was called and the text of the error, of an inference that has failed and is still listed.
    pub(crate) fn failure(&self, id: &str) -> Option<(String, String)> {
        self.recent.failure(id)
    }

    /// A number that changes with the inferences that `caller` may see.
    pub(crate) fn version(&self, caller: &Caller) -> u64 {
        self.recent.version(caller)
    }
}

#[cfg(test)]
mod tests;
