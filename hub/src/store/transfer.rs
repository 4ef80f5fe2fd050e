//! The records of a hub alone, moved to the database of a cluster.

use std::path::Path;

use super::{
    AuditQuery, Change, HubDir, ListCursor, PostgresStore, Snapshot, SqliteStore, Store, StoreError,
};
use crate::model::{Day, TaskStatus};
use crate::options::ClusterOptions;

/// Changes in one transaction.
const BATCH: usize = 500;
/// Bytes of tasks in one transaction, above which it ends.
const BATCH_BYTES: usize = 8 << 20;

/// Numbers of the records that were moved.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Transferred {
    pub llms: usize,
    pub agents: usize,
    pub sessions: usize,
    pub names: usize,
    pub aliases: usize,
    pub tokens: usize,
    pub limits: usize,
    pub open_tasks: usize,
    pub ended_tasks: usize,
    pub audit_rows: usize,
    pub usage_sums: usize,
}

/// Copies all records of the hub whose directory is `from`, which must not run, to the empty database of a cluster. Nothing is
/// changed in the directory.
///
/// After an error the database may hold a part of the records: make it anew before the next attempt.
pub async fn transfer(from: &Path, to: &ClusterOptions) -> Result<Transferred, StoreError> {
    if !from.join("hub.db").is_file() {
        let cause = "there is no hub.db in it: it is not the data directory of a hub".into();
        return Err(StoreError::Unusable { path: from.to_owned(), cause });
    }
    let source = SqliteStore::open(HubDir::open(from)?)?;
    let target = PostgresStore::open(to).await?;
    if !target.is_empty().await? {
        return Err(StoreError::Database("it is not empty: give a new one, nothing was moved".into()));
    }
    let mut counts = Transferred::default();
    let Snapshot { llms, agents, sessions, names, aliases, tokens, limits, tasks, usage: _ } =
        source.load().await?;
    counts.llms = put(&target, llms, |llm| Change::PutLlm(Box::new(llm))).await?;
    counts.agents = put(&target, agents, |agent| Change::PutAgent(Box::new(agent))).await?;
    counts.sessions = put(&target, sessions, Change::PutSession).await?;
    counts.names = put(&target, names, Change::PutName).await?;
    counts.aliases = put(&target, aliases, Change::PutAlias).await?;
    counts.tokens = put(&target, tokens, Change::PutToken).await?;
    counts.limits = put(&target, limits, Change::PutLimits).await?;
    let mut batch = Batch::new(&target);
    for head in tasks {
        if let Some(task) = source.task(&head.id).await? {
            batch.add(Change::PutTask(Box::new(task))).await?;
            if head.state == TaskStatus::Claimed {
                let (llm, session) = (head.llm, head.session);
                batch.add(Change::ClaimTask { id: head.id, llm, session }).await?;
            }
            counts.open_tasks += 1;
        }
    }
    let mut before = ListCursor::end();
    loop {
        let page = source.ended_tasks(None, &before, BATCH).await?;
        let Some(last) = page.last() else { break };
        before = ListCursor { created_at: last.created_at, id: last.id.clone() };
        for head in page {
            if let Some(task) = source.task(&head.id).await? {
                batch.add(Change::PutTask(Box::new(task))).await?;
                counts.ended_tasks += 1;
            }
        }
    }
    batch.write().await?;
    let mut after = 0;
    loop {
        let page = source.audit_after(after, BATCH).await?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        counts.audit_rows += put(&target, page, |(_, record)| Change::Audit(record)).await?;
    }
    let mut day = Day(i64::MIN);
    loop {
        let page = source.usage_after(day).await?;
        let Some(last) = page.last() else { break };
        day = last.key.day;
        let add = |sum| Change::AddUsage { sum: Box::new(sum), batch: 0 };
        counts.usage_sums += put(&target, page, add).await?;
    }
    // Read back, so that what is told is there.
    let found = target.load().await?;
    let found_usage = found.usage;
    let found =
        (found.llms.len(), found.agents.len(), found.tokens.len(), found.limits.len(), found.tasks.len());
    if found != (counts.llms, counts.agents, counts.tokens, counts.limits, counts.open_tasks)
        || target.audit(AuditQuery::of(None, None, 1)).await?.is_empty() != (counts.audit_rows == 0)
        || found_usage.is_empty() != (counts.usage_sums == 0)
    {
        return Err(StoreError::Damaged("the database does not hold what was written to it".into()));
    }
    Ok(counts)
}

async fn put<T>(
    target: &PostgresStore,
    records: Vec<T>,
    change: impl Fn(T) -> Change,
) -> Result<usize, StoreError> {
    let count = records.len();
    let mut batch = Batch::new(target);
    for record in records {
        batch.add(change(record)).await?;
    }
    batch.write().await?;
    Ok(count)
}

/// Changes that are written together.
struct Batch<'a> {
    target: &'a PostgresStore,
    changes: Vec<Change>,
    bytes: usize,
}

impl<'a> Batch<'a> {
    fn new(target: &'a PostgresStore) -> Self {
        Self { target, changes: Vec::new(), bytes: 0 }
    }

    async fn add(&mut self, change: Change) -> Result<(), StoreError> {
        if let Change::PutTask(task) = &change {
            let result = task.result.as_ref().map_or(0, |(_, body)| body.len());
            self.bytes += task.request.as_ref().map_or(0, String::len) + result;
        }
        self.changes.push(change);
        if self.changes.len() >= BATCH || self.bytes >= BATCH_BYTES { self.write().await } else { Ok(()) }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        self.target.write(std::mem::take(&mut self.changes)).await
    }
}
