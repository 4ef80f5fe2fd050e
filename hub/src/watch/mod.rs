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

use audit::AuditLog;
pub use inference::{Asked, Inference, Taker};
pub use live::{Told, Watcher};
pub use machine::Machine;
pub use metrics::{Metrics, WakeOutcome};
use rate::Rates;
use recent::Recent;
pub use recent::{Counts, TaskView, brief};

use crate::model::{Caller, Role};
use crate::store::{ListCursor, Store};

/// What the hub knows of its inferences.
pub struct Watch {
    /// Counters for Prometheus, for admins: of everything.
    pub metrics: Metrics,
    /// The same for everybody: of what everybody may see.
    pub shared: Metrics,
    /// What the hub takes of its machine.
    pub machine: Machine,
    audit: AuditLog,
    recent: Recent,
    rates: Rates,
}

impl Watch {
    /// Nothing seen yet; audit rows go to `store`.
    pub fn new(store: Arc<dyn Store>) -> prometheus::Result<Self> {
        let metrics = Metrics::new()?;
        Ok(Self {
            machine: metrics.of_machine()?,
            metrics,
            shared: Metrics::new()?,
            audit: AuditLog::new(store),
            recent: Recent::default(),
            rates: Rates::default(),
        })
    }

    /// The counters that count what happens on a row: all, and those for everybody if everybody sees the row.
    pub fn counters(&self, shared: bool) -> impl Iterator<Item = &Metrics> {
        std::iter::once(&self.metrics).chain(shared.then_some(&self.shared))
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
        self.recent.list(may_see(caller), before, limit)
    }

    /// The same for one who watches: the `limit` newest that run, then as many that have ended.
    pub fn live_tasks(&self, caller: &Caller, limit: usize) -> Vec<TaskView> {
        self.recent.live(may_see(caller), limit)
    }

    /// How many of them run and wait.
    pub fn counts(&self, caller: &Caller) -> Counts {
        self.recent.counts(may_see(caller))
    }

    /// Tokens a second of the rows that have some now, hidden ones too.
    pub fn rates(&self) -> HashMap<String, f64> {
        self.rates.all()
    }

    /// One of them.
    pub fn task(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        self.recent.one(id).filter(|task| may_see(caller)(&task.owner_id))
    }
}

fn may_see(caller: &Caller) -> impl Fn(&str) -> bool {
    |owner| caller.role == Role::Admin || caller.user == owner
}

#[cfg(test)]
mod tests;
