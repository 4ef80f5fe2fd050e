//! Persistence: the embedded `SQLite` store and its directory, or a PostgreSQL database. The registry in memory is
//! authoritative while the hub runs; it hands the store ordered lists of [`Change`]s. Register calls, tokens and durable tasks
//! wait for their commit; the hot path never does.

use std::future::Future;
use std::pin::Pin;

use wire::row::Timestamp;

use crate::model::{
    Agent, Alias, AliasScope, AuditRecord, CallLimits, Day, DurableTask, LimitOwner, LimitRecord, Llm,
    NameRecord, SessionRecord, Token, UsageSum, UserId,
};

mod apply;
mod cleanup;
mod columns;
mod dir;
mod error;
mod job;
mod parts;
mod pending;
mod postgres;
mod queue;
mod reader;
mod rows;
mod schema;
mod search;
mod sqlite;
mod tasks;
mod transfer;
mod usage;
mod vacuum;
mod write_behind;
mod writer;

pub use dir::HubDir;
pub(crate) use dir::plain;
pub use error::StoreError;
pub use postgres::{Merge, PostgresStore};
pub use sqlite::SqliteStore;
pub use transfer::{Transferred, transfer};
pub use usage::{UsageBy, UsageQuery, UsageTable, UsageTotal};

/// A change of one record. A list of changes is one transaction; lists are applied in order. `Put…` inserts or replaces by
/// id or name, `Delete…` deletes by id or name.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Change {
    PutLlm(Box<Llm>),
    DeleteLlm(String),
    PutAgent(Box<Agent>),
    DeleteAgent(String),
    PutSession(SessionRecord),
    DeleteSession(String),
    PutName(NameRecord),
    DeleteName(String),
    PutAlias(Alias),
    DeleteAlias {
        scope: AliasScope,
        name: String,
    },
    PutToken(Token),
    PutLimits(LimitRecord),
    DeleteLimits(LimitOwner),
    /// Inserts a task. Fails with [`StoreError::OverQuota`] if its owner's open tasks would exceed `max_bytes` on disk; the
    /// ended ones are deleted as by [`EnforceTaskQuota`](Self::EnforceTaskQuota).
    NewTask {
        task: Box<DurableTask>,
        /// See [`Limits::disk`](crate::options::Limits::disk).
        max_bytes: u64,
    },
    /// Inserts or replaces a task. A task that has ended is not changed.
    PutTask(Box<DurableTask>),
    /// Records that a task runs at a publisher, without writing its request (up to 32 MiB) again.
    ClaimTask {
        id: String,
        /// The row that runs it, if the owner may see that.
        llm: Option<String>,
        session: Option<String>,
    },
    /// Makes a claimed task pending again.
    UnclaimTask(String),
    DeleteTask(String),
    /// Schedules the deletion of ended tasks of `owner`, oldest ending first, until all its tasks take at most `max_bytes`.
    EnforceTaskQuota {
        owner: UserId,
        max_bytes: u64,
    },
    Audit(AuditRecord),
    /// Adds to the sum of a day. `batch` is a random number for all sums that are added together, and again after an error: a
    /// sum to which the same batch was added last is not changed, so that nothing is added twice.
    AddUsage {
        sum: Box<UsageSum>,
        batch: i64,
    },
}

/// All that a hub reads when it starts.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Snapshot {
    pub llms: Vec<Llm>,
    pub agents: Vec<Agent>,
    pub sessions: Vec<SessionRecord>,
    pub names: Vec<NameRecord>,
    pub aliases: Vec<Alias>,
    pub tokens: Vec<Token>,
    pub limits: Vec<LimitRecord>,
    /// Open durable tasks, oldest first, without requests and results.
    pub tasks: Vec<DurableTask>,
    /// The sums of the newest day that has any.
    pub usage: Vec<UsageSum>,
}

/// How long ended tasks, audit records and sums are kept.
#[derive(Debug, Clone, Copy)]
pub struct RetentionLimits {
    /// Ended tasks are kept if they ended at this time or later.
    pub tasks_since: Timestamp,
    /// Audit records are kept if their inference began at this time or later.
    pub audit_since: Timestamp,
    /// Maximum number of audit records. Of more, the oldest of the user with the most are deleted.
    pub audit_rows: u64,
    /// Sums of this day or later are kept.
    pub usage_since: Day,
}

/// What the database of a cluster knows of it.
#[derive(Debug)]
pub struct ClusterRecord {
    /// The cluster's name.
    pub name: String,
    /// Where the database is: its name and hosts.
    pub address: String,
    /// The version of its server.
    pub server: String,
    /// Number of migrations that it has.
    pub schema: i64,
    /// The newest first.
    pub processes: Vec<ProcessRecord>,
}

/// A process of a hub that had the lease. Times are of the database's clock.
#[derive(Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct ProcessRecord {
    pub hub: String,
    pub boot: String,
    /// Number of the process among those of its hub that had the lease.
    pub term: i64,
    /// `serving`, `stopped`, `superseded` by a newer process of the hub, or `lost`.
    pub state: String,
    pub version: String,
    pub started_at: Timestamp,
    pub renewed_at: Timestamp,
    pub lease_until: Timestamp,
}

/// A query for audit records, newest first. `None` matches all.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct AuditQuery {
    pub user: Option<String>,
    pub llm: Option<String>,
    /// Only calls that failed at an LLM of this user.
    pub owner: Option<String>,
    pub since: Option<Timestamp>,
    /// The id of the inference, of its task, or of its request.
    pub id: Option<String>,
    pub limit: usize,
    /// `llm` is a name that a member may see: it is compared with `through` where a record has that.
    pub as_member: bool,
}

impl AuditQuery {
    /// The records of `user`, without what this user may not see, or of all users; and of `llm`, or of all LLMs.
    pub fn of(user: Option<&str>, llm: Option<&str>, limit: usize) -> Self {
        let as_member = user.is_some();
        Self {
            user: user.map(str::to_owned),
            llm: llm.map(str::to_owned),
            limit,
            as_member,
            ..Self::default()
        }
    }

    /// Whether an index answers the query. Others scan many records.
    pub fn is_lookup(&self) -> bool {
        self.id.is_none() && self.since.is_none() && (self.llm.is_none() || self.user.is_none())
    }
}

/// A position in a list of tasks ordered by creation time, then id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    /// The creation time of the task.
    pub created_at: Timestamp,
    /// The id of the task; the empty id is before all tasks of that time.
    pub id: String,
}

impl ListCursor {
    /// The position after every task.
    pub fn end() -> Self {
        Self { created_at: Timestamp(i64::MAX), id: String::new() }
    }
}

/// The result of an operation, sent by a thread of the store.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// The operations of a store, which tests intercept.
pub trait Store: Send + Sync {
    /// Reads all that a hub needs at its start.
    fn load(&self) -> StoreFuture<Snapshot>;

    /// Applies `changes` in one transaction, after all earlier lists. Dropping the future does not cancel the write.
    fn write(&self, changes: Vec<Change>) -> StoreFuture<()>;

    /// Asks whether the store can write: whether its next commit succeeds. That need not be after the commit of earlier lists.
    fn probe(&self) -> StoreFuture<()> {
        self.write(Vec::new())
    }

    /// As [`write`](Self::write), for changes that the registry in memory has already applied: after an error they are
    /// retried until they are written, except for audit records and sums.
    fn write_behind(&self, changes: Vec<Change>) -> StoreFuture<()>;

    /// Whether the end of a task is written that an earlier [`write_behind`](Self::write_behind) could not write.
    fn written(&self, _task: &str) -> StoreFuture<()> {
        // The next commit writes all changes that the store still has.
        self.write_behind(Vec::new())
    }

    /// As [`write_behind`](Self::write_behind), for records that change often, such as the status of a row: only the newest
    /// change of each record is written, at most once a second. The records must be in the store already and keep their
    /// names.
    fn write_coalesced(&self, changes: Vec<Change>);

    /// Reads a durable task, open or ended.
    fn task(&self, id: &str) -> StoreFuture<Option<DurableTask>>;

    /// Reads a durable task without its request and with an empty result, and the size of its result in bytes.
    fn task_head(&self, id: &str) -> StoreFuture<Option<(DurableTask, Option<u64>)>>;

    /// Reads at most `max` bytes of a task's result from offset `at`. `None` without such a task or result.
    fn result_part(&self, id: &str, at: u64, max: usize) -> StoreFuture<Option<Vec<u8>>>;

    /// Reads the `limit` newest ended tasks created before `before`, without requests and results; of `owner`, or of all.
    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> StoreFuture<Vec<DurableTask>>;

    /// Reads the newest audit records that match.
    fn audit(&self, query: AuditQuery) -> StoreFuture<Vec<AuditRecord>>;

    /// Adds up the sums that match.
    fn usage(&self, query: UsageQuery) -> StoreFuture<UsageTable>;

    /// Reads the token whose secret has the hash `hash`, which another hub may have made, and its limits.
    fn token(&self, _hash: [u8; 32]) -> StoreFuture<Option<(Token, CallLimits)>> {
        Box::pin(async { Ok(None) })
    }

    /// Deletes what `limits` do not keep, in small steps between other jobs.
    fn expire(&self, limits: RetentionLimits) -> StoreFuture<()>;

    /// Reads what is known of the cluster; `None` for a hub alone.
    fn cluster(&self) -> StoreFuture<Option<ClusterRecord>> {
        Box::pin(async { Ok(None) })
    }

    /// Resolves with the reason when another process has taken the store over. The hub then has to stop.
    fn lost(&self) -> StoreFuture<()> {
        Box::pin(std::future::pending())
    }
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
