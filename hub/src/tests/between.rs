//! A store that a test stands before: it sees, or spoils, what is written, and lets another one do the rest.

use crate::model::{AuditRecord, DurableTask};
use crate::store::{AuditQuery, Change, Kept, ListCursor, Pending, Snapshot, SqliteStore, Store};

/// What a test does with what is written.
pub(super) trait Between: Send + Sync {
    /// The store behind it.
    fn store(&self) -> &SqliteStore;

    /// What is given to be written; `owed` is what may not be refused.
    fn give(&self, owed: bool, changes: Vec<Change>) -> Pending<()>;

    /// What is noted, before it is.
    fn watch(&self, _: &[Change]) {}
}

impl<T: Between> Store for T {
    fn load(&self) -> Pending<Snapshot> {
        self.store().load()
    }

    fn write(&self, changes: Vec<Change>) -> Pending<()> {
        self.give(false, changes)
    }

    fn write_behind(&self, changes: Vec<Change>) -> Pending<()> {
        self.give(true, changes)
    }

    fn note(&self, changes: Vec<Change>) {
        self.watch(&changes);
        self.store().note(changes);
    }

    fn task(&self, id: &str) -> Pending<Option<DurableTask>> {
        self.store().task(id)
    }

    fn task_head(&self, id: &str) -> Pending<Option<(DurableTask, Option<u64>)>> {
        self.store().task_head(id)
    }

    fn result_part(&self, id: &str, at: u64, most: usize) -> Pending<Option<Vec<u8>>> {
        self.store().result_part(id, at, most)
    }

    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> Pending<Vec<DurableTask>> {
        self.store().ended_tasks(owner, before, limit)
    }

    fn audit(&self, wanted: AuditQuery) -> Pending<Vec<AuditRecord>> {
        self.store().audit(wanted)
    }

    fn expire(&self, kept: Kept) -> Pending<()> {
        self.store().expire(kept)
    }
}
