//! A snapshot of a registrar, as JSON for `status -o json`. It contains no secret.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::register::ProviderStatus;
use wire::result::TaskResult;
use wire::row::Timestamp;
use wire::{openai, texts};

/// The data of the `status` command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistrarStatus {
    /// URL of the hub, as configured.
    pub hub_url: String,
    /// `HOST:PORT` of the proxy on the way to the hub, if there is one.
    pub proxy: Option<String>,
    /// Session id, once the hub has given one.
    pub provider_session_id: Option<String>,
    /// State of the control channel.
    pub channel: ChannelStatus,
    /// Time of the last heartbeat that the hub accepted.
    pub last_heartbeat_at: Option<Timestamp>,
    /// Last error of a call to the hub; it stays after the hub is back.
    pub last_error: Option<LastError>,
    /// The pause, if the registrar is paused.
    pub paused: Option<Pause>,
    /// Start of the registrar.
    pub started_at: Timestamp,
    /// The published providers.
    pub providers: Vec<ProviderState>,
}

/// State of the control channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelState {
    /// Registering or connecting, or waiting for the next try.
    Connecting,
    /// Open.
    Connected,
    /// The hub refuses; the next try is a minute later.
    Refused,
    /// Nothing is published at the moment.
    Idle,
    /// The registrar stops, and running tasks end.
    Draining,
    /// The hub shuts down: running tasks end on this channel, new ones come over the next one.
    Restarting,
}

/// What carries the control channel and the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelTransport {
    /// One WebSocket for both.
    Link,
    /// SSE for the channel, and POSTs for the answers, for this reason.
    Sse(String),
}

/// The control channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStatus {
    /// Its state.
    pub state: ChannelState,
    /// Time of the last change of `state`.
    pub since: Timestamp,
    /// Features agreed with the hub; empty with a classic hub.
    pub features: Vec<String>,
    /// Number of channels opened since the start.
    pub opened: u64,
    /// What carries it; `None` before the first one was opened.
    pub transport: Option<ChannelTransport>,
    /// When the open channel was opened; `None` without one.
    pub open_since: Option<Timestamp>,
    /// Last round trip of the open link in milliseconds, if one was measured within a minute.
    pub round_trip_ms: Option<f64>,
}

/// An error of a call to the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// Its text.
    pub message: String,
    /// Time of its first occurrence.
    pub at: Timestamp,
}

/// A pause by the owner of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pause {
    /// Its end; `None` until [`Registrar::resume`](crate::Registrar::resume).
    pub until: Option<Timestamp>,
}

impl Pause {
    /// Result of a task that the paused provider refuses, for a hub with the feature `status`.
    pub(crate) fn refusal(self, wire_name: &str) -> TaskResult {
        let text = texts::paused(wire_name, self.until);
        let now = Timestamp(jiff::Timestamp::now().as_millisecond());
        let seconds = self.until.map(|until| until.millis_since(now).div_ceil(1000).max(1));
        let body = openai::error_body(&text, "server_error", Some(texts::PAUSED));
        let result = TaskResult::answer(503, &body).unwrap_or_else(|_| TaskResult::error(text));
        result.retry_after(seconds.and_then(|seconds| u32::try_from(seconds).ok()))
    }
}

/// A published provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderState {
    /// Name in the configuration.
    pub name: String,
    /// Name at the hub.
    pub wire_name: String,
    /// Name of the model.
    pub model: String,
    /// Whether the provider has a wake recipe.
    pub can_wake: bool,
    /// Its last report; `None` while it is withdrawn or restarts.
    pub report: Option<ProviderReport>,
    /// End of the withdrawal of a provider that crashed too often.
    pub withdrawn_until: Option<Timestamp>,
    /// Number of crashes since the start.
    pub crashes: u64,
}

/// What a provider reports: to the hub, to the `status` command, and to its listeners when it changes.
#[derive(Debug, Clone, PartialEq, actix::dev::MessageResponse, actix::Message, Serialize, Deserialize)]
#[rtype(result = "()")]
#[serde(rename_all = "camelCase")]
pub struct ProviderReport {
    /// The part for the hub.
    pub status: ProviderStatus,
    /// Why the provider is not active, for its owner.
    pub reason: Option<String>,
    /// Number of tasks ended since the start.
    pub tasks_done: u64,
    /// Number of tasks refused since the start because a queue was full.
    #[serde(default)]
    pub tasks_refused: u64,
    /// Tokens per second of the last streamed answer.
    pub tokens_per_second: Option<f64>,
    /// Whether the provider is paused.
    pub paused: bool,
    /// How fast it takes new tasks, for its heartbeats.
    #[serde(skip)]
    pub pace: Pace,
}

/// How fast a provider takes new tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Time that a task takes, as a mean of the last ones.
    pub task_time: Option<Duration>,
    /// Most tasks that wait.
    pub max_queue: u32,
}

impl Pace {
    /// Notes the time that a task took.
    pub(crate) fn add(&mut self, took: Duration) {
        self.task_time = Some(self.task_time.map_or(took, |mean| (mean * 7 + took) / 8));
    }
}
