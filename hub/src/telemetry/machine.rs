//! Metrics of the process, for admins only: connections, memory, refused bodies, lost audit records.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::Instant;

/// Least time between two log lines about refused bodies.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// The metrics of the process.
#[derive(Clone)]
pub struct Machine {
    known: IntGauge,
    strangers: IntGauge,
    cuts: IntCounterVec,
    held: IntGauge,
    limit: IntGauge,
    refused: IntCounter,
    names: IntCounter,
    audit: IntCounter,
    /// The time of the last log line about refused bodies.
    logged: Arc<Mutex<Option<Instant>>>,
}

impl Machine {
    /// Registers the metrics, all zero, in `registry`.
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
            limit: IntGauge::new(
                "memory_limit_bytes",
                "What they, and the process, may take: --max-memory.",
            )?,
            refused: IntCounter::new("bodies_refused_total", "Bodies that were refused for want of memory.")?,
            names: IntCounter::new(
                "naming_calls_refused_total",
                "Register and create calls that were not looked at: too many of their user's were refused.",
            )?,
            audit: IntCounter::new(
                "audit_rows_lost_total",
                "Audit rows that were not written: more waited than the store wrote.",
            )?,
            logged: Arc::default(),
        };
        let Self { known, strangers, cuts, held, limit, refused, names, audit, .. } = machine.clone();
        registry.register(Box::new(cuts))?;
        for gauge in [known, strangers, held, limit] {
            registry.register(Box::new(gauge))?;
        }
        for counter in [refused, names, audit] {
            registry.register(Box::new(counter))?;
        }
        Ok(machine)
    }

    /// Sets the numbers of open connections with and without a valid token.
    pub(crate) fn connections(&self, known: usize, strangers: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.known.set(number(known));
        self.strangers.set(number(strangers));
    }

    /// Sets the bytes that are held and their limit.
    pub(crate) fn memory(&self, held: u64, limit: u64) {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.held.set(number(held));
        self.limit.set(number(limit));
    }

    /// Counts a body that is refused for lack of memory. Returns whether to log it.
    pub(crate) fn refused_a_body(&self) -> bool {
        self.refused.inc();
        let mut logged = self.logged.lock();
        let is_due = logged.is_none_or(|logged| logged.elapsed() > LOG_INTERVAL);
        if is_due {
            *logged = Some(Instant::now());
        }
        is_due
    }

    /// Counts a register or create call that was refused unread.
    pub(crate) fn refused_a_naming_call(&self) {
        self.names.inc();
    }

    pub(crate) fn lost_an_audit_row(&self) {
        self.audit.inc();
    }

    /// Counts a connection that the hub closed. `reason` is a metric label, from a closed list.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cuts.with_label_values(&[reason]).inc();
    }
}
