//! Jobs of the writer thread.

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::reader::ReadFn;
use super::{Change, RetentionLimits, StoreError, tasks};
use crate::registry::usage;

/// Bytes that a deletion counts for when the size of the row cannot be read.
const UNKNOWN_SIZE: u64 = 1 << 20;

/// Resolves when a job is done. The receiver may be dropped.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Job {
    Write(Write),
    Expire(RetentionLimits, Reply<()>),
    /// Writes what is in the [`Coalescer`](super::coalescer::Coalescer).
    WriteCoalesced,
    /// Runs on the reader thread, after the commit of all earlier jobs.
    Read(ReadFn),
    /// Runs on the writer's connection, after the commit of all earlier jobs.
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// A list of changes, applied whole or not at all.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    pub(super) reply: Reply<()>,
    /// The registry has applied the changes already: they are never refused, and retried after an error.
    pub(super) is_write_behind: bool,
}

impl Job {
    pub(super) fn changes(&self) -> &[Change] {
        match self {
            Self::Write(write) => &write.changes,
            Self::Expire(..) | Self::WriteCoalesced | Self::Read(_) | Self::Run(_) => &[],
        }
    }

    /// Bytes that the job writes, or overwrites because of `secure_delete`. Texts in parts are deleted later, by
    /// [`Cleanup`](super::cleanup::Cleanup), and are not counted.
    pub(super) fn weight(&self, conn: &Connection) -> u64 {
        let deleted = |id: &str| tasks::text_bytes_in_row(conn, id).unwrap_or(UNKNOWN_SIZE);
        let weigh = |change: &Change| match change {
            Change::NewTask { task, .. } => tasks::size(task),
            Change::PutTask(task) => tasks::size(task).saturating_add(deleted(&task.id)),
            Change::DeleteTask(id) => deleted(id),
            Change::PutLlm(llm) => usage::llm_bytes(llm) as u64,
            Change::PutAgent(agent) => usage::agent_bytes(agent) as u64,
            _ => 0,
        };
        self.changes().iter().map(weigh).fold(0, u64::saturating_add)
    }

    pub(super) fn is_write_behind(&self) -> bool {
        matches!(self, Self::Write(Write { is_write_behind: true, .. }))
    }
}
