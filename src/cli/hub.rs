//! `hub` and `token`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

use super::{LogFormat, duration, size};

/// `hub`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  virtual-llm hub --data-dir /var/lib/virtual-llm
  virtual-llm hub --listen 0.0.0.0:8443 --tls-cert hub.pem --tls-key hub.key
  virtual-llm hub --public-url https://hub.example
  virtual-llm hub --in-memory --listen 127.0.0.1:0
  virtual-llm hub --cors-origin https://chat.example.com,http://localhost:3000
  virtual-llm hub --cluster team --hub-id a --database-url-file /etc/virtual-llm/database
  virtual-llm hub --cluster team --hub-id b --database-url-file /etc/virtual-llm/database --nats-url nats://nats.example

Environment:
  VIRTUAL_LLM_ADMIN_TOKEN    the admin token, while it is set: 16 or more visible characters")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct HubArgs {
    #[command(subcommand)]
    pub(crate) command: Option<HubCommand>,
    /// The address and port to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8787")]
    pub(crate) listen: String,
    /// The hub's public address to print, such as the reverse proxy's
    #[arg(long, value_name = "URL", value_parser = public_url)]
    pub(crate) public_url: Option<String>,
    /// The hub's data directory [default: $XDG_DATA_HOME/virtual-llm, or ~/.local/share/virtual-llm]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Store nothing on disk
    #[arg(long, conflicts_with = "data_dir")]
    pub(crate) in_memory: bool,
    /// Keep the records of this cluster in a PostgreSQL database instead of the data directory
    #[arg(long, value_name = "NAME", requires_all = ["hub_id", "database_url_file"], value_parser = cluster_name)]
    pub(crate) cluster: Option<String>,
    /// The hub's id in the cluster, such as a
    #[arg(long, value_name = "ID", requires = "cluster", value_parser = hub_id)]
    pub(crate) hub_id: Option<String>,
    /// A file with the database's address, a URL with user and password
    #[arg(long, value_name = "FILE", requires = "cluster", conflicts_with = "in_memory")]
    pub(crate) database_url_file: Option<PathBuf>,
    /// The NATS server between the hubs of the cluster, if it has more than one (several with commas)
    #[arg(long, value_name = "URL", requires = "cluster", env = "VIRTUAL_LLM_NATS_URL", hide_env_values = true, value_parser = nats_url)]
    pub(crate) nats_url: Option<String>,
    /// A file with the credentials for the NATS server (.creds: a JWT and a seed)
    #[arg(long, value_name = "FILE", requires = "nats_url", env = "VIRTUAL_LLM_NATS_CREDS")]
    pub(crate) nats_creds: Option<PathBuf>,
    /// Serve https with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Which users' LLMs can serve another user's pool: those admitted, all, or none
    #[arg(long, value_enum, default_value = "ask")]
    pub(crate) pools: PoolsPolicy,
    /// Allow web pages of this origin to call the hub (repeatable, or comma-separated; * for all) [default: none]
    #[arg(long, value_name = "ORIGIN", value_delimiter = ',')]
    pub(crate) cors_origin: Vec<String>,
    /// Maximum connections from one address without a valid token; 0 for no limit
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(crate) max_connections_per_address: usize,
    /// Trust this reverse proxy's headers about a caller's address (repeatable)
    #[arg(long, value_name = "ADDR|CIDR")]
    pub(crate) trusted_proxy: Vec<String>,
    /// Maximum memory for requests and answers of all users; more is refused (KiB, MiB, GiB, TiB) [default: a quarter of the machine's, or of the control group's]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_memory)]
    pub(crate) max_memory: Option<u64>,
    /// Maximum disk space for one user's durable tasks and results; the oldest results are deleted first (KiB, MiB, GiB, TiB)
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size::parse)]
    pub(crate) disk_per_user: u64,
    /// Maximum number of audit rows; the oldest rows of the user with most rows are deleted first
    #[arg(long, value_name = "COUNT", default_value = "1000000")]
    pub(crate) audit_rows: u64,
    /// The log's lines on standard error: for people, or one JSON object each
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) timings: HubTimings,
}

/// `hub …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Copy the records of a hub's data directory to the empty database of a cluster
    #[command(after_help = "Example:
  virtual-llm hub migrate-store --from /var/lib/virtual-llm --cluster team --database-url-file /etc/virtual-llm/database

The hub of the directory must not run. Nothing is changed in the directory.")]
    MigrateStore {
        /// The data directory of the hub
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// The name of the cluster
        #[arg(long, value_name = "NAME", value_parser = cluster_name)]
        cluster: String,
        /// A file with the database's address, a URL with user and password
        #[arg(long, value_name = "FILE")]
        database_url_file: PathBuf,
    },
}

/// Parses a public URL: without user, query and fragment.
pub(crate) fn public_url(text: &str) -> Result<String, String> {
    let url = crate::config::url::http(text).map_err(str::to_owned)?;
    if url.contains(['?', '#']) {
        return Err("expected an address without '?' or '#'".to_owned());
    }
    Ok(url)
}

/// Parses a hub's id.
fn hub_id(text: &str) -> Result<String, String> {
    word(text, 16, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        .ok_or_else(|| "expected 1 to 16 of a-z and 0-9".to_owned())
}

/// Parses the name of a cluster.
fn cluster_name(text: &str) -> Result<String, String> {
    word(text, 63, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        .ok_or_else(|| "expected 1 to 63 of a-z, 0-9 and -".to_owned())
}

/// Parses addresses of NATS servers.
fn nats_url(text: &str) -> Result<String, String> {
    let is_url = |url: &str| {
        let rest = url.strip_prefix("nats://").or_else(|| url.strip_prefix("tls://"));
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    if text.split(',').map(str::trim).all(is_url) {
        return Ok(text.to_owned());
    }
    Err("expected nats://HOST:4222 or tls://HOST:4222, several with commas between them".to_owned())
}

fn word(text: &str, longest: usize, is_allowed: fn(u8) -> bool) -> Option<String> {
    let is_word = (1..=longest).contains(&text.len()) && text.bytes().all(is_allowed);
    is_word.then(|| text.to_owned())
}

/// Users whose LLMs can serve a named pool of another user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PoolsPolicy {
    /// Those that the pool's owner or an admin admitted with `pool admit`
    Ask,
    /// Those of all users
    Members,
    /// Those of the pool's owner only
    Owner,
}

/// Timings of the hub.
#[derive(Debug, Args)]
#[command(next_help_heading = "Timings (ms, s, m, h, d)")]
pub(crate) struct HubTimings {
    /// Time without a heartbeat after which a publisher counts as gone
    #[arg(long, value_name = "TIME", default_value = "90s", value_parser = duration::parse_positive)]
    pub(crate) heartbeat_timeout: Duration,
    /// How long an inactive row is kept
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = duration::parse)]
    pub(crate) inactive_retention: Duration,
    /// How long an unused name stays reserved for its owner
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration::parse)]
    pub(crate) name_retention: Duration,
    /// Time between two sweeps
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse_positive)]
    pub(crate) sweep_interval: Duration,
    /// Time between two pings on a control channel
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse_positive)]
    pub(crate) ping_interval: Duration,
    /// Time between two keep-alive comments in a silent stream; 0 for none
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration::parse)]
    pub(crate) keepalive_interval: Duration,
    /// Time for a publisher to reconnect before its running tasks fail
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) reattach_grace: Duration,
    /// How long a queued task may wait
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration::parse_positive)]
    pub(crate) queue_timeout: Duration,
    /// How long the result of an ended task is kept
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration::parse)]
    pub(crate) task_retention: Duration,
    /// How long the audit row of an inference is kept
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration::parse)]
    pub(crate) audit_retention: Duration,
    /// How many days the daily sums of calls and tokens are kept
    #[arg(long, value_name = "DAYS", default_value = "400", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) usage_days: u32,
    /// How long a caller waits for an answer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse_positive)]
    pub(crate) wait_timeout: Duration,
    /// Maximum silence of a publisher within an answer; 0 for no limit by the hub
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    pub(crate) stream_idle_timeout: Duration,
}

/// `token`.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Create a token and print it, once
    #[command(after_help = "Examples:
  virtual-llm token create --user alice
  virtual-llm token create --user alice --link
  virtual-llm token create --user ops --role admin --expires 30d
  virtual-llm token create --user ci --models qwen --tokens-per-day 500k --max-concurrent 2
  virtual-llm token create --user alice | ssh alice@desk virtual-llm login https://hub.example --token-file -

To a pipe or a file it prints the token alone; the rest is on standard error.")]
    Create {
        /// The user that it belongs to
        #[arg(long, value_name = "USER")]
        user: String,
        /// The role that it has
        #[arg(long, value_enum, default_value = "member")]
        role: Role,
        /// The time after which it expires (h, d) [default: never]
        #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
        expires: Option<Duration>,
        /// Print a link that signs its user in at the console, once and within 15 minutes, instead of the token
        #[arg(long)]
        link: bool,
        /// The output format, instead of plain text
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<TokenFormat>,
        #[command(flatten)]
        limits: super::LimitArgs,
    },
    /// Set the limits of a token; what is not given stays as it is
    #[command(after_help = "Examples:
  virtual-llm token set tok-3f9a --tokens-per-day 500k --requests-per-minute 20
  virtual-llm token set alice --tokens-per-day none          if alice has one token")]
    Set {
        /// The token's id, from `token list`, or its user if that has one token
        id: String,
        #[command(flatten)]
        limits: super::LimitArgs,
    },
    /// List the tokens
    #[command(after_help = "Example:\n  virtual-llm token list -o json")]
    List {
        /// The output format
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<super::OutputFormat>,
    },
    /// Give a token another secret; its id, user and limits stay
    #[command(after_help = "Examples:
  virtual-llm token rotate                      your own; the stored login takes the new secret
  virtual-llm token rotate tok-3f9a --grace 1h

Without --grace the present secret ends at once, and what was opened with it.
To a pipe or a file it prints the secret alone; the rest is on standard error.")]
    Rotate {
        /// The token's id, from `token list`, or its user if that has one token [default: yours]
        id: Option<String>,
        /// The time for which the present secret stays valid (h, d)
        #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
        grace: Option<Duration>,
        /// The output format, instead of plain text
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<TokenFormat>,
    },
    /// Revoke a token at once
    #[command(
        after_help = "Examples:\n  virtual-llm token revoke tok-3f9a\n  virtual-llm token revoke alice                if alice has one token"
    )]
    Revoke {
        /// The token's id, from `token list`, or its user if that has one token
        id: String,
    },
}

/// Output formats of `token create`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenFormat {
    /// The hub's JSON, with the hub's address
    Json,
    /// The same as YAML
    Yaml,
}

/// Role of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Use and publish LLMs
    Member,
    /// As member, and manage all rows, agents and tokens
    Admin,
}
