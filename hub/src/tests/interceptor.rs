//! A store whose writes a test intercepts. Everything else goes to a `SqliteStore`.

use crate::model::{AuditRecord, DurableTask};
use crate::store::{
    AuditQuery, Change, ListCursor, RetentionLimits, Snapshot, SqliteStore, Store, StoreFuture, UsageQuery,
    UsageTable,
};

/// Intercepts the writes to a store.
pub(super) trait StoreInterceptor: Send + Sync {
    fn store(&self) -> &SqliteStore;

    /// Handles `write` or `write_behind`.
    fn intercept(&self, is_write_behind: bool, changes: Vec<Change>) -> StoreFuture<()>;

    /// Called before `write_coalesced`.
    fn on_coalesced(&self, _: &[Change]) {}
}

impl<T: StoreInterceptor> Store for T {
    fn load(&self) -> StoreFuture<Snapshot> {
        self.store().load()
    }

    fn write(&self, changes: Vec<Change>) -> StoreFuture<()> {
        self.intercept(false, changes)
    }

    fn write_behind(&self, changes: Vec<Change>) -> StoreFuture<()> {
        self.intercept(true, changes)
    }

    fn write_coalesced(&self, changes: Vec<Change>) {
        self.on_coalesced(&changes);
        self.store().write_coalesced(changes);
    }

    fn task(&self, id: &str) -> StoreFuture<Option<DurableTask>> {
        self.store().task(id)
    }

    fn task_head(&self, id: &str) -> StoreFuture<Option<(DurableTask, Option<u64>)>> {
        self.store().task_head(id)
    }

    fn result_part(&self, id: &str, at: u64, max: usize) -> StoreFuture<Option<Vec<u8>>> {
        self.store().result_part(id, at, max)
    }

    fn ended_tasks(
        &self,
        owner: Option<&str>,
        before: &ListCursor,
        limit: usize,
    ) -> StoreFuture<Vec<DurableTask>> {
        self.store().ended_tasks(owner, before, limit)
    }

    fn audit(&self, query: AuditQuery) -> StoreFuture<Vec<AuditRecord>> {
        self.store().audit(query)
    }

    fn usage(&self, query: UsageQuery) -> StoreFuture<UsageTable> {
        self.store().usage(query)
    }

    fn expire(&self, limits: RetentionLimits) -> StoreFuture<()> {
        self.store().expire(limits)
    }
}
