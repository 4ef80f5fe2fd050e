//! The options of a registrar, as checked values. The binary makes them from files.

mod recipes;

pub use backend::{Availability, HttpBackend, MockConfig, ServerKind};
pub use recipes::{Action, SleepRecipe, WakeRecipe};

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use wire::row::{Tier, Visibility};
use wire::{Abilities, WireName};

use crate::Secret;
use crate::http::{self, Proxy};

/// The options of a registrar.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hub and the token; without them a registrar does not start.
    pub credentials: Option<Credentials>,
    /// The session file; `None` keeps the session id in memory and takes no lock.
    pub session_file: Option<PathBuf>,
    /// The LLMs to publish.
    pub providers: Vec<ProviderConfig>,
    /// The agents to publish.
    pub agents: Vec<AgentConfig>,
    /// Intervals and limits.
    pub timings: Timings,
    /// How to talk to the hub.
    pub transport: Transport,
}

/// How a registrar talks to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// By a link (SPEC.md section 4.1), or by SSE and POSTs if the hub or a proxy before it allows no link.
    #[default]
    Auto,
    /// By a link only.
    Link,
    /// By SSE and POSTs only.
    Classic,
}

impl Options {
    /// Options that publish `providers`, with the session id in memory and default timings.
    pub fn new(credentials: Credentials, providers: Vec<ProviderConfig>) -> Self {
        Self {
            credentials: Some(credentials),
            session_file: None,
            providers,
            agents: Vec::new(),
            timings: Timings::default(),
            transport: Transport::Auto,
        }
    }
}

/// The hub and the token.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// URL of the hub, such as `https://hub.example`.
    pub hub_url: String,
    /// The bearer token.
    pub token: Secret,
    /// The file of `token`. After a 401 or 429 it is read again, and a newer token replaces `token`.
    pub file: Option<CredentialsFile>,
    /// Whether the token may be sent over plain http to another machine.
    pub allow_insecure: bool,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// The proxy on the way to the hub; not used if the hub's host is loopback.
    pub proxy: Option<Proxy>,
}

/// The file that holds the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Its `mcpdUrl` when the token was read. A file with another one has the token of another hub.
    pub hub_url: Option<String>,
}

impl Credentials {
    /// Credentials with the system's certificates. Plain http is allowed to this machine only.
    pub fn new(hub_url: impl Into<String>, token: Secret) -> Self {
        Self { hub_url: hub_url.into(), token, file: None, allow_insecure: false, ca_file: None, proxy: None }
    }

    /// The proxy, unless the hub's host is loopback.
    pub fn proxy_in_use(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| http::proxy::is_remote(&self.hub_url))
    }
}

/// Intervals and limits of a registrar (SPEC.md sections 2 and 6).
#[derive(Debug, Clone)]
pub struct Timings {
    /// Interval of heartbeats: a third of the hub's 90 s.
    pub heartbeat_interval: Duration,
    /// Shortest delay before a reconnect.
    pub reconnect_base: Duration,
    /// Longest delay before a reconnect.
    pub reconnect_max: Duration,
    /// A control channel without a byte for this long is dropped: three pings of 20 s.
    pub idle_timeout: Duration,
    /// Limit for running tasks after [`Registrar::stop`](crate::Registrar::stop).
    pub drain_timeout: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(30),
            reconnect_base: Duration::from_secs(5),
            reconnect_max: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(1),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

/// One LLM to publish.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Name in the configuration, for logs and for the `provider` command.
    pub name: String,
    /// Name at the hub.
    pub wire_name: WireName,
    /// Provider type at the hub (`openai` for llamacpp, lmstudio and mock).
    pub hub_type: String,
    /// Name of the model.
    pub model: String,
    /// The backend that runs the model.
    pub backend: BackendConfig,
    /// The proxy on the way to the backend; for the backend's calls and its availability check, not for recipes.
    pub proxy: Option<Proxy>,
    /// Speed and quality class, for callers.
    pub tier: Option<Tier>,
    /// Description for people.
    pub description: Option<String>,
    /// Name of its pool.
    pub pool_name: Option<String>,
    /// The users that see it.
    pub visibility: Visibility,
    /// Number of inferences that run at the same time, at least 1.
    pub max_concurrency: usize,
    /// Number of inferences that may wait.
    pub max_queue: usize,
    /// Longest silence of the backend, before or between tokens.
    pub timeout: Duration,
    /// Whether the `model` of a request is kept.
    pub allow_model_override: bool,
    /// Whether other users may have the backend fetch URLs, run tools and store answers.
    pub allow_remote_urls: bool,
    /// Whether the attribution line of Claude Code is sent to a backend that is not Anthropic's.
    pub keep_attribution: bool,
    /// What happens to a running request when its caller leaves.
    pub on_abort: OnAbort,
    /// Brings the backend up.
    pub wake: Option<WakeRecipe>,
    /// Puts the backend to sleep; needs `wake`.
    pub sleep: Option<SleepRecipe>,
    /// How to check that the backend is available; `None` checks `GET {url}/models`.
    pub availability: Option<Availability>,
    /// The program behind an OpenAI-compatible backend.
    pub server: ServerKind,
    /// What the model can do, as its owner says. What is unknown here is asked of the backend.
    pub abilities: Abilities,
}

impl ProviderConfig {
    /// An LLM for its owner alone, with the defaults of SPEC.md section 7 and no recipe.
    pub fn new(wire_name: WireName, model: impl Into<String>, backend: BackendConfig) -> Self {
        Self {
            name: wire_name.as_str().to_owned(),
            wire_name,
            hub_type: "openai".to_owned(),
            model: model.into(),
            backend,
            proxy: None,
            tier: None,
            description: None,
            pool_name: None,
            visibility: Visibility::default(),
            max_concurrency: Self::MAX_CONCURRENCY,
            max_queue: Self::MAX_QUEUE,
            timeout: Self::TIMEOUT,
            allow_model_override: false,
            allow_remote_urls: false,
            keep_attribution: false,
            on_abort: OnAbort::default(),
            wake: None,
            sleep: None,
            availability: None,
            server: ServerKind::default(),
            abilities: Abilities::default(),
        }
    }

    /// Default of `max_concurrency`: what a server on one GPU batches without slowing each inference down.
    pub const MAX_CONCURRENCY: usize = 4;
    /// Default of `max_queue`: a few minutes of work.
    pub const MAX_QUEUE: usize = 64;
    /// Default of `timeout`: a large model may take that long to load from a slow disk.
    pub const TIMEOUT: Duration = Duration::from_mins(10);
}

/// The backend of a provider.
#[derive(Debug, Clone)]
pub enum BackendConfig {
    /// Any OpenAI-compatible server.
    OpenAi(HttpBackend),
    /// The Anthropic Messages API.
    Anthropic(HttpBackend),
    /// A built-in backend for tests and demonstrations.
    Mock(MockConfig),
    /// A backend of the library user.
    Custom(CustomBackend),
}

/// A function that makes a backend. It is called at start and after each crash.
///
/// The function is sent in messages, so it is `Send`; the backend stays on its arbiter. `Backend::available` has a limit of
/// 3 s, and `Backend::health` one of 30 s.
#[derive(Clone)]
pub struct CustomBackend(pub Arc<dyn Fn() -> Rc<dyn backend::Backend> + Send + Sync>);

impl std::fmt::Debug for CustomBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomBackend")
    }
}

/// What happens to a running request when its caller leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAbort {
    /// The backend request is dropped at once.
    #[default]
    Close,
    /// The backend finishes, and the rest is dropped: for servers that crash on an abort.
    Drain,
}

/// One agent to publish.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name at the hub.
    pub wire_name: WireName,
    /// Name of a provider in the configuration, or of an LLM of another publisher.
    pub llm: String,
    /// Description for people.
    pub description: Option<String>,
    /// Message before those of the caller.
    pub system_prompt: Option<String>,
    /// Name of a project, as free text.
    pub project: Option<String>,
    /// Default parameters of requests, a JSON object.
    pub default_params: Option<Box<RawValue>>,
    /// Further data, a JSON object.
    pub extras: Option<Box<RawValue>>,
    /// The users that see it.
    pub visibility: Visibility,
}
