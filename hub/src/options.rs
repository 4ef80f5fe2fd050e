//! The options of a hub.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use backend::Secret;

use crate::address::Proxies;
use crate::origins::Origins;

/// The options of a hub.
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The hub's URL for others, without a trailing slash; `None` if unknown.
    pub public_url: Option<String>,
    /// The place of the database, or of the admin token alone if the hub belongs to a cluster.
    pub data: DataDir,
    /// The cluster that the hub belongs to; `None` for a hub alone.
    pub cluster: Option<ClusterOptions>,
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

/// A hub's place in a cluster, whose records are in a PostgreSQL database (SPEC.md section 5, cluster).
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// The cluster's name, which its database has too.
    pub cluster: String,
    /// The hub's id, 1 to 16 of `a-z0-9`, unique in the cluster.
    pub hub_id: String,
    /// The address of the database, with its password.
    pub database_url: Secret,
    /// The network between the hubs of the cluster; `None` if this one is to be the only one.
    pub nats: Option<NatsOptions>,
}

/// The NATS servers between the hubs of a cluster.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// Addresses of servers, with commas between them.
    pub url: String,
    /// The text of a `.creds` file.
    pub credentials: Option<Secret>,
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

/// Limits of one user, whatever the number of its tokens. Each default is several times what a large team needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions, with a channel or not. Default: four times a fleet of 1,000 registrars with one token.
    pub sessions: usize,
    /// LLM rows, and as many agents again. Default: two for each session.
    pub rows: usize,
    /// Rows of one pool: a call of the pool examines each.
    pub pool_rows: usize,
    /// Bytes of rows and agents: their texts, and 128 for each. Default: 64 of the longest prompts, or all rows without any.
    pub row_bytes: usize,
    /// Unused names that are reserved for their owner. Beyond it, the one unused for longest becomes free.
    pub names: usize,
    /// Bytes of each kind (requests, results, unread answers …). Default: fifty of 20 MB. The sum over all kinds may also
    /// not exceed what is left of the hub's memory.
    pub bytes: usize,
    /// Inferences that run or wait, and readers of durable tasks. Default: eight times the 512 callers of a busy service.
    pub calls: usize,
    /// Durable tasks that have not ended.
    pub open_tasks: usize,
    /// Bytes on disk of durable tasks: requests, results, errors, and 512 for each task. Default: fifty of 20 MB. The tasks
    /// that ended first are deleted to make room; tasks that have not ended stay, and new ones are refused.
    pub disk: u64,
    /// Audit rows of all users together. Default: some 300 MB. Beyond it, the oldest rows of the user with most are deleted.
    pub audit_rows: u64,
    /// Concurrent searches of the audit: each reads for some 100 ms.
    pub searches: usize,
    /// Watchers of `/api/v1/events`, one for each browser tab. Default: a thirtieth of all that the hub serves.
    pub watchers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            rows: 8192,
            pool_rows: 256,
            row_bytes: 4 << 20,
            names: 1024,
            bytes: 1 << 30,
            calls: 4096,
            open_tasks: 1000,
            disk: 1 << 30,
            audit_rows: 1_000_000,
            searches: 4,
            watchers: 8,
        }
    }
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
    /// Time for which the sums of a day are kept. Default: a year and a month, so that a month can be compared with the same
    /// one a year before.
    pub usage_retention: Duration,
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
            reattach_grace: Duration::from_secs(30),
            queue_timeout: Duration::from_hours(1),
            task_retention: Duration::from_hours(7 * 24),
            audit_retention: Duration::from_hours(7 * 24),
            usage_retention: Duration::from_hours(400 * 24),
            wait_timeout: Duration::from_mins(10),
            stream_idle_timeout: Duration::from_mins(10),
        }
    }
}
