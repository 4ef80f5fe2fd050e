//! What the hub takes of its machine: connections and memory. For admins alone: it is of nobody's rows.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::Instant;

/// Between two lines in the log about the same.
const QUIET: Duration = Duration::from_mins(1);

/// Numbers of the machine.
#[derive(Clone)]
pub struct Machine {
    known: IntGauge,
    strangers: IntGauge,
    cuts: IntCounterVec,
    held: IntGauge,
    most: IntGauge,
    refused: IntCounter,
    names: IntCounter,
    audit: IntCounter,
    /// When the log was told last that bodies are refused.
    told: Arc<Mutex<Option<Instant>>>,
}

impl Machine {
    /// All at zero, in `registry`.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let machine = Self {
            known: IntGauge::new("connections", "Open connections whose caller has shown a valid token.")?,
            strangers: IntGauge::new("connections_without_token", "Open connections without a valid token.")?,
            cuts: IntCounterVec::new(
                Opts::new(
                    "connections_closed_total",
                    "Connections that the hub closed: too many of an address, or of the hub, or idle.",
                ),
                &["reason"],
            )?,
            held: IntGauge::new(
                "memory_held_bytes",
                "Bytes of requests, results and answers that are held.",
            )?,
            most: IntGauge::new("memory_limit_bytes", "What they, and the process, may take: --max-memory.")?,
            refused: IntCounter::new("bodies_refused_total", "Bodies that were refused for want of memory.")?,
            names: IntCounter::new(
                "naming_calls_refused_total",
                "Register and create calls that were not looked at: too many of their user's were refused.",
            )?,
            audit: IntCounter::new(
                "audit_rows_lost_total",
                "Audit rows that were not written: more waited than the store wrote.",
            )?,
            told: Arc::default(),
        };
        registry.register(Box::new(machine.known.clone()))?;
        registry.register(Box::new(machine.strangers.clone()))?;
        registry.register(Box::new(machine.cuts.clone()))?;
        registry.register(Box::new(machine.held.clone()))?;
        registry.register(Box::new(machine.most.clone()))?;
        registry.register(Box::new(machine.refused.clone()))?;
        registry.register(Box::new(machine.names.clone()))?;
        registry.register(Box::new(machine.audit.clone()))?;
        Ok(machine)
    }

    /// So many are open now.
    pub(crate) fn connections(&self, known: usize, strangers: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.known.set(number(known));
        self.strangers.set(number(strangers));
    }

    /// So many bytes are held, of so many.
    pub(crate) fn memory(&self, held: u64, most: u64) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.set(number(held));
        self.most.set(number(most));
    }

    /// A body is refused for want of memory; whether that is worth a line in the log.
    pub(crate) fn refused_a_body(&self) -> bool {
        self.refused.inc();
        let mut told = self.told.lock();
        let is_news = told.is_none_or(|told| told.elapsed() > QUIET);
        if is_news {
            *told = Some(Instant::now());
        }
        is_news
    }

    /// A call that gives a name was not looked at.
    pub(crate) fn names_not_looked_at(&self) {
        self.names.inc();
    }

    /// An audit row is lost.
    pub(crate) fn lost_an_audit_row(&self) {
        self.audit.inc();
    }

    /// One is closed, for a reason of a closed list.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cuts.with_label_values(&[reason]).inc();
    }
}
