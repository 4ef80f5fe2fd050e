//! Watching: what runs now, what it counts for, and what is written down of it.
//!
//! Whoever serves an inference opens an [`Inference`] and tells it what happens; metrics, the list of tasks and the
//! audit follow from that. One that is dropped before its end counts as a caller who left.

mod audit;
mod inference;
mod live;
mod machine;
mod metrics;
mod rate;
mod recent;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use audit::AuditLog;
pub use inference::{Asked, Inference, Taker};
pub use live::Watcher;
pub use machine::Machine;
pub use metrics::{Metrics, WakeOutcome};
use parking_lot::Mutex;
use rate::Rates;
use recent::Recent;
pub use recent::{Counts, TaskView, brief};

use crate::model::Caller;
use crate::store::{ListCursor, Store};

/// The least time between two counts of what everybody may see.
const RECOUNT: Duration = Duration::from_secs(1);

/// What the hub knows of its inferences.
pub struct Watch {
    /// Counters for Prometheus, for admins: of everything.
    pub metrics: Metrics,
    /// The same for everybody: of what everybody may see.
    pub shared: Metrics,
    /// What the hub takes of its machine.
    pub machine: Machine,
    /// The versions of table and queue up to which the shared totals count, and when they were counted.
    counted: Mutex<Option<((u64, u64), Duration)>>,
    audit: AuditLog,
    recent: Recent,
    rates: Rates,
}

impl Watch {
    /// Nothing seen yet; audit rows go to `store`.
    pub fn new(store: Arc<dyn Store>) -> prometheus::Result<Self> {
        let metrics = Metrics::new()?;
        let machine = metrics.of_machine()?;
        Ok(Self {
            audit: AuditLog::new(store, machine.clone()),
            machine,
            metrics,
            shared: Metrics::new()?,
            counted: Mutex::default(),
            recent: Recent::default(),
            rates: Rates::default(),
        })
    }

    /// The counters that count what happens on a row: all, and those for everybody if everybody sees the row.
    pub fn counters(&self, shared: bool) -> impl Iterator<Item = &Metrics> {
        std::iter::once(&self.metrics).chain(shared.then_some(&self.shared))
    }

    /// Whether the shared totals are to be counted, at the reading `now` of the clock: they count another version of table
    /// and queue, and did so a second ago or earlier. They count this one from now on.
    pub fn is_to_be_counted(&self, versions: (u64, u64), now: Duration) -> bool {
        let mut counted = self.counted.lock();
        let is_due =
            |(known, at): ((u64, u64), Duration)| known != versions && now.saturating_sub(at) >= RECOUNT;
        let counts = counted.is_none_or(is_due);
        if counts {
            *counted = Some((versions, now));
        }
        counts
    }

    /// Writes audit rows in batches, until it is dropped. Call [`Watch::flush`] at the end.
    pub async fn run(&self) {
        self.audit.run().await;
    }

    /// Writes the audit rows that wait.
    pub async fn flush(&self) {
        self.audit.flush().await;
    }

    /// The synchronous inferences that `caller` may see and that came in before `before`, those that run and the last
    /// ones that ended: the `limit` newest, in no order.
    pub fn tasks(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        self.recent.list(caller, before, limit)
    }

    /// The same for one who watches: the `limit` newest that run, then as many that have ended.
    pub fn live_tasks(&self, caller: &Caller, limit: usize) -> Vec<TaskView> {
        self.recent.live(caller, limit)
    }

    /// How many of them run and wait.
    pub fn counts(&self, caller: &Caller) -> Counts {
        self.recent.counts(caller)
    }

    /// Tokens a second of the rows that have some now, hidden ones too.
    pub fn rates(&self) -> Arc<HashMap<String, f64>> {
        self.rates.all()
    }

    /// One of them.
    pub fn task(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        self.recent.one(caller, id)
    }

    /// Another number than before when something of them has changed.
    pub fn version(&self, caller: &Caller) -> u64 {
        self.recent.version(caller)
    }
}

#[cfg(test)]
mod tests;
