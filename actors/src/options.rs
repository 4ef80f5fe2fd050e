//! What a registrar is told: checked values only. The binary makes them of files, a library user by hand.

pub use backend::{Availability, HttpBackend, MockConfig};

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use wire::WireName;
use wire::row::{Tier, Visibility};

use crate::Secret;

/// All that a registrar needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the hub is and how to prove who we are; `None`: nothing can be published.
    pub credentials: Option<Credentials>,
    /// Where the sticky session id is kept; `None` keeps it in memory and takes no lock.
    pub session_file: Option<PathBuf>,
    /// The LLMs to publish.
    pub providers: Vec<ProviderConfig>,
    /// The agents to publish.
    pub agents: Vec<AgentConfig>,
    /// Clockwork.
    pub timings: Timings,
}

impl Options {
    /// To publish `providers` to one hub, with an id in memory and the usual timings.
    pub fn new(credentials: Credentials, providers: Vec<ProviderConfig>) -> Self {
        Self {
            credentials: Some(credentials),
            session_file: None,
            providers,
            agents: Vec::new(),
            timings: Timings::default(),
        }
    }
}

/// Where the hub is and how to prove who we are.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// `https://hub.example`, a trailing slash tolerated.
    pub hub_url: String,
    /// The bearer token.
    pub token: Secret,
    /// The file that `token` came from: it is read again on a 401 or 429, and its token replaces `token` when it differs.
    pub file: Option<CredentialsFile>,
    /// Whether the token may go over plain http to another machine.
    pub allow_insecure: bool,
    /// PEM certificates added to the system's roots.
    pub ca_file: Option<PathBuf>,
}

/// Where a newer token may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialsFile {
    /// The file.
    pub path: PathBuf,
    /// Its `mcpdUrl` when the token was taken from it. When it says otherwise, its token is another hub's.
    pub hub_url: Option<String>,
}

impl Credentials {
    /// A hub and a token; https, or http to this machine, with the system's roots.
    pub fn new(hub_url: impl Into<String>, token: Secret) -> Self {
        Self { hub_url: hub_url.into(), token, file: None, allow_insecure: false, ca_file: None }
    }
}

/// Clockwork of a registrar (SPEC.md sections 2 and 6).
#[derive(Debug, Clone)]
pub struct Timings {
    /// Between heartbeats: a third of the hub's 90 s.
    pub heartbeat_interval: Duration,
    /// Shortest delay before a reconnect.
    pub reconnect_base: Duration,
    /// Longest delay before a reconnect.
    pub reconnect_max: Duration,
    /// A control channel without a byte for so long is dropped: three pings of 20 s.
    pub idle_timeout: Duration,
    /// How long tasks in flight may go on after a stop was asked for.
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
    /// Its name in the configuration, for logs and for the `provider` command.
    pub name: String,
    /// Its name at the hub.
    pub wire_name: WireName,
    /// What the hub is told (`openai` for llamacpp, lmstudio and mock).
    pub hub_type: String,
    /// The model that callers get.
    pub model: String,
    /// What runs the model.
    pub backend: BackendConfig,
    /// Hint for choosing.
    pub tier: Option<Tier>,
    /// For people.
    pub description: Option<String>,
    /// The pool it joins.
    pub pool_name: Option<String>,
    /// Who may see it.
    pub visibility: Visibility,
    /// Inferences at a time, at least 1.
    pub max_concurrency: usize,
    /// Inferences that may wait.
    pub max_queue: usize,
    /// Longest silence of the backend, before or between tokens.
    pub timeout: Duration,
    /// Whether a caller's own `model` goes through.
    pub allow_model_override: bool,
    /// Whether those who are not its owner may have the backend fetch addresses, run tools and keep answers.
    pub allow_remote_urls: bool,
    /// What becomes of a running request whose caller went away.
    pub on_abort: OnAbort,
    /// How to bring the backend up.
    pub wake: Option<WakeRecipe>,
    /// How to put it to sleep; needs `wake`.
    pub sleep: Option<SleepRecipe>,
    /// How to tell whether it is available; `None`: whatever `GET {url}/models` answers.
    pub availability: Option<Availability>,
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
            tier: None,
            description: None,
            pool_name: None,
            visibility: Visibility::default(),
            max_concurrency: Self::MAX_CONCURRENCY,
            max_queue: Self::MAX_QUEUE,
            timeout: Self::TIMEOUT,
            allow_model_override: false,
            allow_remote_urls: false,
            on_abort: OnAbort::default(),
            wake: None,
            sleep: None,
            availability: None,
        }
    }

    /// Inferences at a time: what a server on one GPU batches without slowing each down.
    pub const MAX_CONCURRENCY: usize = 4;
    /// Inferences that wait: a few minutes of work at four at a time.
    pub const MAX_QUEUE: usize = 64;
    /// Silence that a large model needs to load from a slow disk.
    pub const TIMEOUT: Duration = Duration::from_mins(10);
}

/// What runs a model.
#[derive(Debug, Clone)]
pub enum BackendConfig {
    /// Any OpenAI-compatible server.
    OpenAi(HttpBackend),
    /// The Anthropic Messages API.
    Anthropic(HttpBackend),
    /// Built in, for tests and demonstrations.
    Mock(MockConfig),
    /// A library user's own.
    Custom(CustomBackend),
}

/// A backend made by a library user: a function that makes one, called at start and after each crash. The function
/// travels in messages, so it is `Send`; what it makes stays on its arbiter.
#[derive(Clone)]
pub struct CustomBackend(pub Arc<dyn Fn() -> Rc<dyn backend::Backend> + Send + Sync>);

impl std::fmt::Debug for CustomBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CustomBackend")
    }
}

/// What becomes of a running request whose caller went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAbort {
    /// The backend request is dropped at once.
    #[default]
    Close,
    /// The backend finishes, the rest is thrown away: for engines that crash on an abort.
    Drain,
}

/// How to bring a backend up.
#[derive(Debug, Clone)]
pub struct WakeRecipe {
    /// What to do.
    pub action: Action,
    /// How long the backend may take to come up, and a command to run.
    pub max_wait: Duration,
}

/// How to put a backend to sleep.
#[derive(Debug, Clone)]
pub struct SleepRecipe {
    /// What to do (`Http` or `Command`).
    pub action: Action,
    /// How long a command may run.
    pub max_wait: Duration,
    /// Run after so long without a task; `None`: only when told to.
    pub idle: Option<Duration>,
}

/// One step of a recipe.
#[derive(Debug, Clone)]
pub enum Action {
    /// One HTTP call; any 2xx is success, 30 s for it.
    Http {
        /// Where.
        url: Secret,
        /// `POST` unless told otherwise.
        method: String,
        /// Sent as they stand.
        headers: Vec<(String, Secret)>,
        /// Sent as it stands.
        body: Option<Secret>,
    },
    /// One command, no shell; exit 0 is success.
    Command {
        /// Looked up in `PATH`.
        command: String,
        /// As they stand.
        args: Vec<String>,
        /// Variables taken out of its environment: hub tokens and every `apiKeyEnv`.
        scrub_env: Vec<String>,
    },
    /// A Wake-on-LAN packet.
    WakeOnLan {
        /// The machine's address.
        mac: [u8; 6],
        /// Where to send it, 255.255.255.255 unless told otherwise.
        broadcast: String,
        /// UDP port, 9 unless told otherwise.
        port: u16,
    },
}

/// One agent to publish.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Its name at the hub.
    pub wire_name: WireName,
    /// The provider's name in the configuration, or the name of an LLM that is not published here.
    pub llm: String,
    /// For people.
    pub description: Option<String>,
    /// Put before the caller's messages.
    pub system_prompt: Option<String>,
    /// Free text.
    pub project: Option<String>,
    /// A JSON object.
    pub default_params: Option<Box<RawValue>>,
    /// A JSON object.
    pub extras: Option<Box<RawValue>>,
    /// Who may see it.
    pub visibility: Visibility,
}
