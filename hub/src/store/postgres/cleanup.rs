//! Deletion of ended tasks, audit records and sums that are past their retention or over a quota, in small steps. Each checks the
//! lease.
//!
//! One task enforces quotas and one deletes what has expired, however often that is asked for. They take turns at a connection.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::task::spawn_local;

use super::connection::{Failure, Session};
use super::lease::Lease;
use super::writer::SharedConnection;
use crate::model::UserId;
use crate::news::news;
use crate::store::columns::{StoredRow, Value};
use crate::store::job::Reply;
use crate::store::tasks::STEP_BYTES;
use crate::store::{Change, RetentionLimits, StoreError, usage};

/// Maximum number of tasks or records deleted in one step.
const STEP: i64 = 256;

pub(super) struct Cleanup {
    connection: SharedConnection,
    searches: SharedConnection,
    lease: Lease,
    /// Task quotas to enforce, in bytes.
    quotas: RefCell<BTreeMap<UserId, u64>>,
    /// Those that could not be enforced, which are tried again with the next expiry.
    failed: RefCell<BTreeMap<UserId, u64>>,
    is_enforcing: Cell<bool>,
    /// The retention to apply next, and the replies to send when it is.
    expiry: RefCell<Option<(RetentionLimits, Vec<Reply<()>>)>>,
    is_expiring: Cell<bool>,
    /// The number of the newest audit record when all were counted, and how many there were.
    counted: Cell<Option<(i64, u64)>>,
}

impl Cleanup {
    pub(super) fn new(connection: SharedConnection, searches: SharedConnection, lease: Lease) -> Rc<Self> {
        let (quotas, failed, expiry) = Default::default();
        let (is_enforcing, is_expiring, counted) = Default::default();
        Rc::new(Self {
            connection,
            searches,
            lease,
            quotas,
            failed,
            is_enforcing,
            expiry,
            is_expiring,
            counted,
        })
    }

    /// Schedules the deletion of ended tasks that are over their owner's quota after `changes`.
    pub(super) fn expect(self: &Rc<Self>, changes: &[Change]) {
        self.schedule(changes.iter().filter_map(|change| match change {
            Change::NewTask { task, max_bytes } => Some((task.owner.clone(), *max_bytes)),
            Change::EnforceTaskQuota { owner, max_bytes } => Some((owner.clone(), *max_bytes)),
            _ => None,
        }));
    }

    fn schedule(self: &Rc<Self>, quotas: impl IntoIterator<Item = (UserId, u64)>) {
        self.quotas.borrow_mut().extend(quotas);
        if !self.quotas.borrow().is_empty() && !self.is_enforcing.replace(true) {
            spawn_local(self.clone().enforce_quotas());
        }
    }

    /// Schedules the deletion of what `limits` do not keep. A newer retention replaces one that waits.
    pub(super) fn expire(self: &Rc<Self>, limits: RetentionLimits, reply: Reply<()>) {
        self.schedule(self.failed.take());
        let mut replies = self.expiry.take().map(|(_, replies)| replies).unwrap_or_default();
        replies.push(reply);
        self.expiry.replace(Some((limits, replies)));
        if !self.is_expiring.replace(true) {
            spawn_local(self.clone().apply_retention());
        }
    }

    async fn enforce_quotas(self: Rc<Self>) {
        loop {
            // Each owner has a turn before one comes again.
            let round = self.quotas.take();
            if round.is_empty() {
                return self.is_enforcing.set(false);
            }
            for (owner, max_bytes) in round {
                if let Err(error) = self.enforce_quota(&owner, max_bytes).await {
                    report(&error);
                    self.failed.borrow_mut().insert(owner, max_bytes);
                }
            }
        }
    }

    async fn apply_retention(self: Rc<Self>) {
        while let Some((limits, replies)) = self.expiry.take() {
            // One that fails keeps no other from its turn.
            let results = [
                self.expire_tasks(limits).await,
                self.expire_audit(limits).await,
                self.bound_audit(limits.audit_rows).await,
                self.expire_usage(limits).await,
                self.forget_changes().await,
            ];
            let mut result = Ok(());
            for error in results.into_iter().filter_map(Result::err) {
                report(&error);
                result = Err(error);
            }
            for reply in replies {
                drop(reply.send(result.clone()));
            }
        }
        self.is_expiring.set(false);
    }

    async fn expire_tasks(&self, limits: RetentionLimits) -> Result<(), StoreError> {
        let sql = self.delete_tasks("updated_at < $1");
        self.delete_all(&sql, &[limits.tasks_since.into(), STEP_BYTES.into()]).await
    }

    async fn expire_audit(&self, limits: RetentionLimits) -> Result<(), StoreError> {
        let sql = format!(
            "DELETE FROM audit WHERE {} AND seq IN
                (SELECT seq FROM audit WHERE created_at < $1 ORDER BY created_at LIMIT {STEP})",
            self.lease.held()
        );
        self.delete_all(&sql, &[limits.audit_since.into()]).await
    }

    async fn expire_usage(&self, limits: RetentionLimits) -> Result<(), StoreError> {
        let sql = format!("{} AND {}", usage::expire_sql('$'), self.lease.held());
        self.delete_all(&sql, &[limits.usage_since.0.into(), STEP.into()]).await
    }

    /// Deletes from the feed what every hub has read: one that was away for longer reads all anew.
    async fn forget_changes(&self) -> Result<(), StoreError> {
        let sql = format!(
            "DELETE FROM changes WHERE {} AND ctid IN
                (SELECT ctid FROM changes WHERE at < now() - interval '1 day' ORDER BY at LIMIT {STEP})",
            self.lease.held()
        );
        self.delete_all(&sql, &[]).await
    }

    /// Deletes audit records until at most `most` are left: of the user with the most, the oldest first. So no user displaces
    /// another's records.
    async fn bound_audit(&self, most: u64) -> Result<(), StoreError> {
        let ends = "SELECT coalesce(max(seq), 0) AS newest, coalesce(max(seq) - min(seq) + 1, 0) AS numbers FROM audit";
        let (newest, numbers): (i64, u64) = self
            .run(async |session| {
                let row = session.query(ends, &[]).await?.pop();
                let ends = row.map_or(Ok((0, 0)), |row| Ok((row.field("newest")?, row.field("numbers")?)));
                ends.map_err(Failure::Broken)
            })
            .await?;
        // Counting takes long. There are at most so many:
        let since = |last: i64| u64::try_from(newest.saturating_sub(last)).unwrap_or(0);
        let bound = self.counted.get().map_or(numbers, |(last, records)| numbers.min(records + since(last)));
        if bound <= most {
            return Ok(());
        }
        let mut users = self.count_audit().await?;
        let records = users.iter().map(|(records, _)| records).sum::<u64>();
        // With some room, so that they need not be counted again soon.
        let keep = if records > most { most - most / 100 } else { records };
        let sql = format!(
            "DELETE FROM audit WHERE {} AND seq IN
                (SELECT seq FROM audit WHERE \"user\" = $1 ORDER BY seq LIMIT $2)",
            self.lease.held()
        );
        let mut excess = records - keep;
        while excess > 0
            && let Some((records, user)) = users.iter_mut().max()
        {
            let step = excess.min(STEP.unsigned_abs());
            let deleted = self.delete(&sql, &[(&*user).into(), step.into()]).await?;
            if deleted == 0 {
                break;
            }
            *records = records.saturating_sub(deleted);
            excess = excess.saturating_sub(deleted);
        }
        self.counted.set(Some((newest, keep + excess)));
        Ok(())
    }

    /// The number of audit records of each user.
    async fn count_audit(&self) -> Result<Vec<(u64, String)>, StoreError> {
        let session = self.searches.lock().await.session().await?;
        let counts = "SELECT \"user\", count(*) AS records FROM audit GROUP BY \"user\"";
        let rows = session.query(counts, &[]).await.map_err(Failure::into_error)?;
        rows.iter().map(|row| Ok((row.field("records")?, row.field("user")?))).collect()
    }

    /// Deletes ended tasks of `owner`, oldest ending first, until all its tasks take at most `max_bytes`. The task that ended
    /// last is kept, and so are open ones.
    async fn enforce_quota(&self, owner: &str, max_bytes: u64) -> Result<(), StoreError> {
        let not_last = "owner = $1 AND seq <>
            (SELECT seq FROM tasks WHERE ended AND owner = $1 ORDER BY updated_at DESC, seq DESC LIMIT 1)";
        let sql = self.delete_tasks(not_last);
        loop {
            let excess = self.run(async |session| excess(session, owner, max_bytes).await).await?;
            let bytes = excess.min(STEP_BYTES);
            if bytes == 0 || self.delete(&sql, &[owner.into(), bytes.into()]).await? == 0 {
                return Ok(());
            }
        }
    }

    /// SQL that deletes the oldest ended tasks that match a condition, until they had `$2` bytes: at least one, and at most
    /// [`STEP`].
    fn delete_tasks(&self, condition: &str) -> String {
        format!(
            "DELETE FROM tasks WHERE {} AND seq IN (
                SELECT seq FROM (
                    SELECT seq, sum(bytes) OVER (ORDER BY updated_at, seq) - bytes AS earlier FROM (
                        SELECT seq, updated_at, virtual_llm_bytes(tasks) AS bytes FROM tasks
                        WHERE ended AND {condition} ORDER BY updated_at, seq LIMIT {STEP}
                    ) AS oldest
                ) AS listed WHERE earlier < $2::bigint)",
            self.lease.held()
        )
    }

    /// Runs a statement that deletes some rows until there are none.
    async fn delete_all(&self, sql: &str, values: &[Value<'_>]) -> Result<(), StoreError> {
        while self.delete(sql, values).await? > 0 {}
        Ok(())
    }

    async fn delete(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StoreError> {
        self.run(async |session| session.execute(sql, values).await).await
    }

    /// Runs a step.
    async fn run<T>(&self, step: impl AsyncFnOnce(&Session) -> Result<T, Failure>) -> Result<T, StoreError> {
        let mut connection = self.connection.lock().await;
        let session = connection.session().await?;
        let result = step(&session).await;
        if result.is_err() {
            connection.close();
        }
        result.map_err(Failure::into_error)
    }
}

/// Bytes of the owner's tasks over `max_bytes`.
async fn excess(session: &Session, owner: &str, max_bytes: u64) -> Result<u64, Failure> {
    let sql = "SELECT bytes - $2 AS excess FROM stored WHERE owner = $1 AND bytes > $2";
    let rows = session.query(sql, &[owner.into(), max_bytes.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.field("excess")).map_err(Failure::Broken)
}

fn report(error: &StoreError) {
    news!(warn, "failed deletions", "the store", "what is to be deleted is kept for now: {error}");
}
