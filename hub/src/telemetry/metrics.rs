//! Metrics for Prometheus, of inferences and of the process. Labels come from closed lists and never name a row, user or
//! publisher, so they reveal nothing private and their number is bounded. The lines of rows, which name those that the
//! caller sees, are in [`cache`](super::cache).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use tokio::time::Instant;
use wire::task::Endpoint;

use super::{CALLER_LEFT, Limit};
use crate::model::TokenCounts;

/// Bounds, in seconds, of the histogram of waiting times: from a mock's first byte to a model that is loaded from disk.
const WAITS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// Buckets in seconds between two tokens, from 2,000 tokens a second to a backend that swaps.
const GAPS: &[f64] = &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The result of a wake task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeOutcome {
    Ok,
    Failed,
}

/// The metrics of inferences and publishers.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    pub(super) first_byte: Histogram,
    pub(super) gap: Histogram,
    pub(super) in_flight: IntGauge,
    cancels: IntCounter,
    /// Inferences that wait for capacity, durable or not.
    pub queue_depth: IntGauge,
    queue_wait: Histogram,
    wakes: IntCounterVec,
    wake_time: Histogram,
    /// Open control channels.
    pub publishers: IntGauge,
    /// Control channels that a known session opened again.
    pub reconnects: IntCounter,
}

impl Metrics {
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("virtual_llm".into()), None)?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        Ok(Self {
            requests: counters(
                "requests_total",
                "Inferences by endpoint and how they ended.",
                &["endpoint", "outcome"],
            )?,
            first_byte: histogram(
                "time_to_first_byte_seconds",
                "From a request to the first content.",
                WAITS,
            )?,
            gap: histogram("time_between_chunks_seconds", "Between two pieces of a streamed answer.", GAPS)?,
            in_flight: gauge("requests_in_flight", "Inferences that run or wait now.")?,
            cancels: counter("cancels_total", "Inferences whose caller left, or took them back.")?,
            queue_depth: gauge("queue_depth", "Inferences that wait for a publisher with room.")?,
            queue_wait: histogram("queue_wait_seconds", "From queueing to being sent out.", WAITS)?,
            wakes: counters("wakes_total", "Wake tasks by how they ended.", &["outcome"])?,
            wake_time: histogram("wake_seconds", "From a wake task to its end.", WAITS)?,
            publishers: gauge("publishers", "Publishers whose control channel is open.")?,
            reconnects: counter("reconnects_total", "Control channels opened again by a known session.")?,
            registry,
        })
    }

    /// Registers the metrics of the process among these.
    pub(crate) fn of_machine(&self) -> prometheus::Result<Machine> {
        Machine::new(&self.registry)
    }

    /// Counts an inference that ended with this HTTP status, [`CALLER_LEFT`] for a caller who left.
    pub(super) fn ended(&self, endpoint: Endpoint, status: u16) {
        if status == CALLER_LEFT {
            self.cancels.inc();
        }
        self.requests.with_label_values(&[endpoint.as_str(), outcome(status)]).inc();
    }

    /// Inferences that run or wait.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.get().max(0).unsigned_abs()
    }

    /// Counts a wake task that ended.
    pub fn woke(&self, outcome: WakeOutcome, took: Duration) {
        let outcome = match outcome {
            WakeOutcome::Ok => "ok",
            WakeOutcome::Failed => "failed",
        };
        self.wakes.with_label_values(&[outcome]).inc();
        self.wake_time.observe(took.as_secs_f64());
    }

    /// Records how long an inference waited before it was sent.
    pub fn waited(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// The text of `GET /metrics`.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    pub fn content_type() -> String {
        TextEncoder::new().format_type().to_owned()
    }
}

/// The label of a status.
fn outcome(status: u16) -> &'static str {
    match status {
        0..=399 => "ok",
        429 => "busy",
        CALLER_LEFT => "cancelled",
        400..=498 => "client_error",
        502 => "upstream_error",
        503 => "unavailable",
        504 => "timeout",
        _ => "error",
    }
}

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
    limits: IntCounterVec,
    audit: IntCounter,
    /// By kind: input, cached, output, counted.
    tokens: [IntCounter; 4],
    /// The time of the last log line about refused bodies.
    logged: Arc<Mutex<Option<Instant>>>,
}

impl Machine {
    /// Registers the metrics, all zero, in `registry`.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let help =
            "Tokens of all inferences: input, the cached part of it, output as reported, output as counted.";
        let tokens = IntCounterVec::new(Opts::new("tokens_total", help), &["kind"])?;
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
            limits: IntCounterVec::new(
                Opts::new("limit_refusals_total", "Refusals by the limit that was reached."),
                &["limit"],
            )?,
            audit: IntCounter::new(
                "audit_rows_lost_total",
                "Audit rows that were not written: more waited than the store wrote.",
            )?,
            // Looked up once: they are counted for each call.
            tokens: ["input", "cached", "output", "counted"].map(|kind| tokens.with_label_values(&[kind])),
            logged: Arc::default(),
        };
        let Self { known, strangers, cuts, held, limit, refused, names, limits, audit, .. } = machine.clone();
        for limit in Limit::ALL {
            limits.with_label_values(&[limit.label()]);
        }
        for counters in [cuts, limits, tokens] {
            registry.register(Box::new(counters))?;
        }
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

    /// Counts a refusal by `limit`.
    pub(crate) fn refused_by(&self, limit: Limit) {
        self.limits.with_label_values(&[limit.label()]).inc();
    }

    /// Counts the tokens of an inference that ended.
    pub(super) fn count_tokens(&self, tokens: TokenCounts) {
        let TokenCounts { input, cached, output, is_counted } = tokens;
        let [reported, counted] = if is_counted { [None, output] } else { [output, None] };
        for (counter, tokens) in self.tokens.iter().zip([input, cached, reported, counted]) {
            counter.inc_by(tokens.unwrap_or_default());
        }
    }

    pub(crate) fn lost_an_audit_row(&self) {
        self.audit.inc();
    }

    /// Counts a connection that the hub closed. `reason` is a metric label, from a closed list.
    pub(crate) fn cut(&self, reason: &'static str) {
        self.cuts.with_label_values(&[reason]).inc();
    }
}
