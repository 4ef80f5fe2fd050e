//! Where the hub's records live: one trait with the embedded form as its only implementation, for now.
//!
//! The registry in memory is the truth while the hub runs. It hands the store ordered lists of [`Change`]s; a caller
//! that promised durability (register, tokens, durable tasks) waits for the commit, the hot path never does.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use wire::row::Timestamp;

use crate::model::{Agent, AuditRecord, DurableTask, Llm, NameRecord, SessionRecord, Token, UserId};

mod dir;
mod failpoint;
mod later;
mod reader;
mod rows;
mod schema;
mod search;
mod shrink;
mod sqlite;
mod tasks;
mod tidy;
mod write_behind;
mod writer;

pub use dir::HubDir;
pub(crate) use dir::plain;
pub use sqlite::SqliteStore;

/// One thing to write. A list of them is one transaction; lists are applied in the order in which they were given.
#[derive(Debug, Clone)]
pub enum Change {
    /// Insert or replace, by id.
    PutLlm(Box<Llm>),
    /// By id.
    DeleteLlm(String),
    /// Insert or replace, by id.
    PutAgent(Box<Agent>),
    /// By id.
    DeleteAgent(String),
    /// Insert or replace, by id.
    PutSession(SessionRecord),
    /// By id.
    DeleteSession(String),
    /// Insert or replace, by name.
    PutName(NameRecord),
    /// By name.
    DeleteName(String),
    /// Insert or replace, by id.
    PutToken(Token),
    /// Insert, unless those of its owner's tasks that have not ended then take more than `most` bytes on disk:
    /// [`StoreError::OverQuota`]. For the others, see [`MakeRoom`](Self::MakeRoom).
    NewTask {
        /// The task, with its request.
        task: Box<DurableTask>,
        /// Bytes, see [`Limits::disk`](crate::quota::Limits::disk).
        most: u64,
    },
    /// Insert or replace, by id.
    PutTask(Box<DurableTask>),
    /// Notes that a task is out at a publisher, beside it: its request, which may have 32 MiB, is not written again.
    ClaimTask {
        /// The task's id.
        id: String,
        /// The row that took it, where the owner may read that.
        llm: Option<String>,
        /// The session of that row.
        session: Option<String>,
    },
    /// By id: it waits again.
    UnclaimTask(String),
    /// By id.
    DeleteTask(String),
    /// The tasks of `owner` may take more than `most` bytes now: those that ended first go, some time soon.
    MakeRoom {
        /// Whose.
        owner: UserId,
        /// Bytes.
        most: u64,
    },
    /// Insert.
    Audit(AuditRecord),
}

/// All that a hub reads when it starts.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Every LLM.
    pub llms: Vec<Llm>,
    /// Every agent.
    pub agents: Vec<Agent>,
    /// Every session.
    pub sessions: Vec<SessionRecord>,
    /// Every name that is somebody's.
    pub names: Vec<NameRecord>,
    /// Every token.
    pub tokens: Vec<Token>,
    /// Durable tasks that have not ended, oldest first; requests and results stay in the store.
    pub tasks: Vec<DurableTask>,
}

/// What is kept of what has ended.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    /// Tasks that ended at this moment or later.
    pub tasks_since: Timestamp,
    /// Audit records of inferences that came in at this moment or later.
    pub audit_since: Timestamp,
    /// Audit records, at most; of more those go that are the oldest of the user who has most.
    pub audit_rows: u64,
}

/// Which audit records are wanted, newest first. What is `None` does not matter.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Of this user.
    pub user: Option<String>,
    /// Of this LLM row.
    pub llm: Option<String>,
    /// That came in at this moment or later.
    pub since: Option<Timestamp>,
    /// With this id: the inference's, its task's, or its request's.
    pub id: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Whether `llm` is a name that a member may read: `through` stands for the row.
    pub as_member: bool,
}

impl AuditQuery {
    /// Those of one user, as this user may read them, and of one LLM, if named.
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

    /// Whether an index has them, so that it is done at once; for the others many rows are looked through.
    pub fn is_lookup(&self) -> bool {
        self.id.is_none() && self.since.is_none() && (self.llm.is_none() || self.user.is_none())
    }
}

/// Why the store failed. The text is for the log: no bodies in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Disk full, locked too long, I/O: worth another try later. Callers get 503.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The tasks of a new task's owner that have not ended take so many bytes, and may not take more.
    #[error("the open tasks of a user take {0} bytes")]
    OverQuota(u64),
    /// Made by a newer version.
    #[error(
        "{file} has schema version {found}, this program knows {known}: use the newer version, or another directory",
        file = .file.display()
    )]
    Newer {
        /// Which file.
        file: PathBuf,
        /// Version in the file.
        found: i64,
        /// Newest that we know.
        known: i64,
    },
    /// Not a database, or damaged.
    #[error("the store is damaged: {0}; restore a backup, or move the file away to start anew")]
    Damaged(String),
    /// Another hub holds the directory's lock.
    #[error("another hub already uses {dir}: stop it, or give this one its own --data-dir", dir = .0.display())]
    InUse(PathBuf),
    /// A file or the directory cannot be made or read.
    #[error("cannot use {path}: {cause}", path = .path.display())]
    Unusable {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        cause: String,
    },
}

impl StoreError {
    /// The same for whoever starts a hub on `path`. Nobody waits for a hub that does not start to try again: what is to be
    /// done, and where.
    pub(crate) fn at_start(self, path: &Path) -> Self {
        let Self::Unavailable(why) = self else { return self };
        let cause = if why.contains("full") {
            "the disk is full; free some space, or choose another folder with --data-dir".to_owned()
        } else {
            why
        };
        Self::Unusable { path: path.to_owned(), cause }
    }
}

/// A place in a list of tasks, which is ordered by the time at which they came in, then by id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListCursor {
    /// When the task came in.
    pub created_at: wire::row::Timestamp,
    /// Its id; the empty one is before all tasks of that moment.
    pub id: String,
}

impl ListCursor {
    /// Behind every task.
    pub fn end() -> Self {
        Self { created_at: wire::row::Timestamp(i64::MAX), id: String::new() }
    }
}

/// A pending answer of the store.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

/// Where the hub's records live.
pub trait Store: Send + Sync {
    /// Everything a hub needs at boot.
    fn load(&self) -> Pending<Snapshot>;

    /// Applies `changes` in one transaction, after all that was given before. Dropping the future loses nothing.
    fn write(&self, changes: Vec<Change>) -> Pending<()>;

    /// As [`write`](Self::write), for what is a fact already, whether it is written or not: after an error, or for a
    /// caller who did not wait, it is written as soon as that is possible. Audit rows alone are not kept.
    fn write_behind(&self, changes: Vec<Change>) -> Pending<()>;

    /// As [`owe`](Self::write_behind), for what may change again at once, such as a publisher's status: the newest of each record
    /// is written, once a second at most. Only for records that the store has already, and that keep their names.
    fn note(&self, changes: Vec<Change>);

    /// A durable task by id, ended ones included.
    fn task(&self, id: &str) -> Pending<Option<DurableTask>>;

    /// The same without its request, with an empty text for its result, and how many bytes that has.
    fn task_head(&self, id: &str) -> Pending<Option<(DurableTask, Option<u64>)>>;

    /// At most `most` bytes of a task's result from `at` on; `None` for a task, or a result, that is not there.
    fn result_part(&self, id: &str, at: u64, most: usize) -> Pending<Option<Vec<u8>>>;

    /// Ended durable tasks of `owner` (`None`: of all), without request and result: the `limit` newest of those that
    /// came in before `before`.
    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> Pending<Vec<DurableTask>>;

    /// The newest audit records that fit.
    fn audit(&self, wanted: AuditQuery) -> Pending<Vec<AuditRecord>>;

    /// Deletes what is kept no longer, in small steps, between which others have their turn.
    fn expire(&self, kept: Kept) -> Pending<()>;
}

#[cfg(test)]
mod tests;
