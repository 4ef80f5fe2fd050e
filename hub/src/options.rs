//! What a hub is told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::address::Proxies;
use crate::origins::Origins;
use crate::quota::Limits;

/// All that a hub needs.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hub's address as others see it, without a trailing slash; `None`: nobody said.
    pub public_url: Option<String>,
    /// Where rows are kept.
    pub data: DataDir,
    /// An admin token that rules while it is set (`VIRTUAL_LLM_ADMIN_TOKEN`): 16 or more visible ASCII characters.
    pub admin_token: Option<String>,
    /// Certificate chain and key, PEM.
    pub tls: Option<TlsFiles>,
    /// Who may join a named pool.
    pub pools: PoolPolicy,
    /// Web pages that may call the hub.
    pub cors_origins: Origins,
    /// How much one user may have.
    pub limits: Limits,
    /// How much of its machine it takes, and who is in front of it.
    pub machine: MachineOptions,
    /// Clockwork.
    pub timings: HubTimings,
}

/// Where rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// Nowhere: they die with the hub.
    Memory,
    /// In this directory, one hub at a time.
    Path(PathBuf),
}

/// How much of its machine a hub takes.
#[derive(Debug, Clone)]
pub struct MachineOptions {
    /// Connections without a valid token from one address; `None` sets no limit.
    pub connections_per_address: Option<usize>,
    /// Bytes that the process, and what it holds for all users together, may take; `None`: a quarter of what there is.
    pub max_memory: Option<u64>,
    /// Reverse proxies whose word about a caller's address is believed.
    pub trusted_proxies: Proxies,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self { connections_per_address: Some(1024), max_memory: None, trusted_proxies: Proxies::default() }
    }
}

/// PEM files of the hub's own TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// Whose rows serve a named pool beside its owner's (`hub --pools`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolPolicy {
    /// Those that its owner or an admin has let in.
    #[default]
    Ask,
    /// Those of every member.
    Members,
    /// Nobody's.
    Owner,
}

/// Clockwork of a hub (SPEC.md section 2).
#[derive(Debug, Clone)]
pub struct HubTimings {
    /// Without a heartbeat for so long a session is lost: three beats of 30 s.
    pub heartbeat_timeout: Duration,
    /// A row inactive for so long is deleted.
    pub inactive_retention: Duration,
    /// A name that nothing has any more stays its owner's for so long.
    pub name_retention: Duration,
    /// Between two looks for what has timed out.
    pub sweep_interval: Duration,
    /// Between two pings on a control channel.
    pub ping_interval: Duration,
    /// Between two comments on a caller's stream without content; zero turns them off.
    pub keepalive_interval: Duration,
    /// How long a started task waits for its session's new channel.
    pub reattach_grace: Duration,
    /// A task pending for so long ends in an error.
    pub queue_timeout: Duration,
    /// How long results are kept.
    pub task_retention: Duration,
    /// How long audit rows are kept.
    pub audit_retention: Duration,
    /// How long a caller waits for the first content.
    pub wait_timeout: Duration,
    /// How long a publisher may say nothing within an answer that has begun; zero sets no limit of the hub's own.
    pub stream_idle_timeout: Duration,
}

impl Default for HubTimings {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::from_secs(90),
            inactive_retention: Duration::from_hours(4),
            name_retention: Duration::from_hours(30 * 24),
            sweep_interval: Duration::from_mins(1),
            ping_interval: Duration::from_secs(20),
            keepalive_interval: Duration::from_secs(15),
            reattach_grace: Duration::from_secs(15),
            queue_timeout: Duration::from_hours(1),
            task_retention: Duration::from_hours(7 * 24),
            audit_retention: Duration::from_hours(7 * 24),
            wait_timeout: Duration::from_mins(10),
            stream_idle_timeout: Duration::from_mins(10),
        }
    }
}
