//! The options of a hub.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::address::Proxies;
use crate::origins::Origins;
use crate::quota::Limits;

/// The options of a hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hub's URL for others, without a trailing slash; `None` if unknown.
    pub public_url: Option<String>,
    /// The place of the database.
    pub data: DataDir,
    /// An admin token of 16 or more visible ASCII characters, which replaces the stored one (`VIRTUAL_LLM_ADMIN_TOKEN`).
    pub admin_token: Option<String>,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The policy for rows that name a pool of another user.
    pub pools: PoolPolicy,
    /// Origins of web pages whose scripts may call the hub.
    pub cors_origins: Origins,
    /// Limits of one user.
    pub limits: Limits,
    /// The resources of the machine, and the proxies in front of it.
    pub machine: MachineOptions,
    /// Time-outs and intervals.
    pub timings: HubTimings,
}

/// The place of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// In memory: everything is lost when the hub stops.
    Memory,
    /// In this directory, which one hub at a time may use.
    Path(PathBuf),
}

/// The resources of the machine that a hub may use.
#[derive(Debug, Clone)]
pub struct MachineOptions {
    /// Connections of one address without a valid token; `None` for no limit.
    pub connections_per_address: Option<usize>,
    /// Memory in bytes, of the process and of what it holds for all users; `None` for a quarter of the machine's.
    pub max_memory: Option<u64>,
    /// Reverse proxies whose headers tell the caller's address.
    pub trusted_proxies: Proxies,
}

impl Default for MachineOptions {
    fn default() -> Self {
        Self { connections_per_address: Some(1024), max_memory: None, trusted_proxies: Proxies::default() }
    }
}

/// PEM files for TLS.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The users, beside its owner, whose rows may serve a named pool (`hub --pools`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolPolicy {
    /// Each row is admitted by the owner or an admin.
    #[default]
    Ask,
    /// Every member.
    Members,
    /// No other user.
    Owner,
}

/// Time-outs and intervals of a hub (SPEC.md section 2).
#[derive(Debug, Clone)]
pub struct HubTimings {
    /// Time without a heartbeat after which a session gets no new tasks. Its tasks are lost `reattach_grace` later.
    /// Default: three heartbeats of 30 s.
    pub heartbeat_timeout: Duration,
    /// Time after which an inactive row is deleted.
    pub inactive_retention: Duration,
    /// Time for which an unused name stays reserved for its owner.
    pub name_retention: Duration,
    /// Interval of the search for expired sessions, rows and tasks.
    pub sweep_interval: Duration,
    /// Interval of pings on a control channel.
    pub ping_interval: Duration,
    /// Interval of comments on a caller's stream without content; zero for none.
    pub keepalive_interval: Duration,
    /// Time for which the tasks of a session wait for it to reconnect.
    pub reattach_grace: Duration,
    /// Time after which a pending task fails.
    pub queue_timeout: Duration,
    /// Time for which results of durable tasks are kept.
    pub task_retention: Duration,
    /// Time for which audit rows are kept.
    pub audit_retention: Duration,
    /// Time for which a caller waits for the first content.
    pub wait_timeout: Duration,
    /// Time for which a publisher may pause within an answer; zero for no limit.
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
