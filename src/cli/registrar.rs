//! Commands of the machine that publishes.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{LogFormat, OutputFormat, duration};

/// `up`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm up                    until Ctrl-C
  virtual-llm up --once             one chat, then exit
  virtual-llm up --model qwen3:8b --port 9000")]
pub(crate) struct UpArgs {
    /// Exit after the chat, with status 0 if it was answered
    #[arg(long)]
    pub(crate) once: bool,
    /// Chat with this model
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// The hub's port [default: 8787, or a free one]
    #[arg(long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// The hub's public address to print, such as a tunnel's
    #[arg(long, value_name = "URL", value_parser = super::hub::public_url)]
    pub(crate) public_url: Option<String>,
}

/// `publish`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm publish
  virtual-llm --hub-url https://hub.example publish --drain-timeout 5m")]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    pub(crate) timings: RegistrarTimings,
    /// How to talk to the hub: by one WebSocket (link), by SSE and POSTs (classic), or by what works (auto)
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) transport: TransportArg,
    /// The log's lines on standard error: for people, or one JSON object each
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

/// `--transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TransportArg {
    Auto,
    Link,
    Classic,
}

/// Timings of the registrar.
#[derive(Debug, Args)]
#[command(next_help_heading = "Timings (ms, s, m, h)")]
pub(crate) struct RegistrarTimings {
    /// Time between two heartbeats
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse_positive)]
    pub(crate) heartbeat_interval: Duration,
    /// Minimum delay before a reconnect
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration::parse_positive)]
    pub(crate) reconnect_base: Duration,
    /// Maximum delay before a reconnect
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_positive)]
    pub(crate) reconnect_max: Duration,
    /// Silence after which the control channel is dropped
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_positive)]
    pub(crate) idle_timeout: Duration,
    /// Time for running tasks to end when the registrar stops
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse)]
    pub(crate) drain_timeout: Duration,
}

/// `login URL`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm login https://hub.example
  virtual-llm login 'https://hub.example/#/sign-in/vlc_3f9a…'
  pass hub-token | virtual-llm login https://hub.example --token-file -")]
pub(crate) struct LoginArgs {
    /// The hub's address, or a sign-in link
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Read the token from a file (- for standard input) instead of asking
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// `logout`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm logout
  virtual-llm logout --revoke

Without --revoke the token stays valid, and a registrar that runs goes on with it.")]
pub(crate) struct LogoutArgs {
    /// Revoke the token at the hub first: nobody can use it any more
    #[arg(long)]
    pub(crate) revoke: bool,
}

/// `whoami`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtual-llm whoami\n  virtual-llm whoami -o json")]
pub(crate) struct WhoamiArgs {
    /// The output format, instead of plain text
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<super::TokenFormat>,
}

/// `add`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm add
  virtual-llm add --yes
  virtual-llm add --url http://localhost:8000/v1 --model Qwen/Qwen3-8B --name qwen --pool qwen")]
pub(crate) struct AddArgs {
    /// Publish all backends that are found, without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// The name to publish it under
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The backend's model
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<String>,
    /// The address of a backend at an unusual port
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Join this pool
    #[arg(long, value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Let all users of the hub use it
    #[arg(long)]
    pub(crate) public: bool,
}

/// `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  virtual-llm status -o json")]
pub(crate) struct StatusArgs {
    /// The output format
    #[arg(short, long, value_name = "FORMAT")]
    pub(crate) output: Option<OutputFormat>,
}

/// `provider NAME up|down|status`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  virtual-llm provider vllm-local up\n  virtual-llm provider vllm-local status"
)]
pub(crate) struct ProviderArgs {
    /// The provider's local or published name
    pub(crate) name: String,
    /// What to do with it
    #[arg(value_enum)]
    pub(crate) action: ProviderAction,
}

/// Actions of `provider`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProviderAction {
    /// Run the wake recipe
    Up,
    /// Run the sleep recipe
    Down,
    /// Show its state
    Status,
}

/// `pause`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  virtual-llm pause\n  virtual-llm pause --for 2h

Callers get 503, with the time at which the pause ends; tasks that run end as usual.")]
pub(crate) struct PauseArgs {
    /// Resume after this time (ms, s, m, h)
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) duration: Option<Duration>,
}
