//! Deletion of ended tasks, audit records and sums that are past their retention or over a quota, in small steps. Each checks the
//! lease.

use super::connection::{Failure, Session};
use super::lease::Lease;
use crate::store::columns::StoredRow;
use crate::store::tasks::STEP_BYTES;
use crate::store::{RetentionLimits, usage};

/// Maximum number of tasks or records deleted in one step.
const STEP: i64 = 256;

/// Deletes what `limits` do not keep.
pub(super) async fn expire(session: &Session, lease: &Lease, limits: RetentionLimits) -> Result<(), Failure> {
    let tasks = delete_tasks("updated_at < $1", lease);
    while session.execute(&tasks, &[limits.tasks_since.into(), STEP_BYTES.into()]).await? > 0 {}
    let held = lease.held();
    let audit = format!(
        "DELETE FROM audit WHERE {held} AND seq IN
            (SELECT seq FROM audit WHERE created_at < $1 ORDER BY created_at LIMIT {STEP})"
    );
    while session.execute(&audit, &[limits.audit_since.into()]).await? > 0 {}
    bound_audit(session, lease, limits.audit_rows).await?;
    let usage = format!("{} AND {held}", usage::expire_sql('$'));
    while session.execute(&usage, &[limits.usage_since.0.into(), STEP.into()]).await? > 0 {}
    Ok(())
}

/// SQL that deletes the oldest ended tasks that match a condition, until they had `$2` bytes: at least one, and at most
/// [`STEP`].
fn delete_tasks(condition: &str, lease: &Lease) -> String {
    format!(
        "DELETE FROM tasks WHERE {} AND seq IN (
            SELECT seq FROM (
                SELECT seq, sum(bytes) OVER (ORDER BY updated_at, seq) - bytes AS earlier FROM (
                    SELECT seq, updated_at, virtual_llm_bytes(tasks) AS bytes FROM tasks
                    WHERE ended AND {condition} ORDER BY updated_at, seq LIMIT {STEP}
                ) AS oldest
            ) AS listed WHERE earlier < $2::bigint)",
        lease.held()
    )
}

/// Deletes audit records until at most `most` are left: of the user with the most, the oldest first. So no user displaces
/// another's records.
async fn bound_audit(session: &Session, lease: &Lease, most: u64) -> Result<(), Failure> {
    let counts = "SELECT \"user\", count(*) AS records FROM audit GROUP BY \"user\"";
    let mut users = Vec::new();
    for row in session.query(counts, &[]).await? {
        let user = || Ok((row.field::<u64>("records")?, row.field::<String>("user")?));
        users.push(user().map_err(Failure::Broken)?);
    }
    let mut excess = users.iter().map(|(records, _)| records).sum::<u64>().saturating_sub(most);
    let sql = format!(
        "DELETE FROM audit WHERE {} AND seq IN
            (SELECT seq FROM audit WHERE \"user\" = $1 ORDER BY seq LIMIT $2)",
        lease.held()
    );
    while excess > 0
        && let Some((records, user)) = users.iter_mut().max()
    {
        let step = excess.min(STEP.unsigned_abs());
        let deleted = session.execute(&sql, &[(&*user).into(), step.into()]).await?;
        if deleted == 0 {
            break;
        }
        *records = records.saturating_sub(deleted);
        excess = excess.saturating_sub(deleted);
    }
    Ok(())
}

/// Deletes ended tasks of `owner`, oldest ending first, until all its tasks take at most `max_bytes`. The task that ended last
/// is kept, and so are open ones.
pub(super) async fn enforce_quota(
    session: &Session,
    lease: &Lease,
    owner: &str,
    max_bytes: u64,
) -> Result<(), Failure> {
    let excess = "SELECT bytes - $2 AS excess FROM stored WHERE owner = $1 AND bytes > $2";
    let not_last = "owner = $1 AND seq <>
        (SELECT seq FROM tasks WHERE ended AND owner = $1 ORDER BY updated_at DESC, seq DESC LIMIT 1)";
    let delete = delete_tasks(not_last, lease);
    loop {
        let rows = session.query(excess, &[owner.into(), max_bytes.into()]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let excess: u64 = row.field("excess").map_err(Failure::Broken)?;
        if session.execute(&delete, &[owner.into(), excess.min(STEP_BYTES).into()]).await? == 0 {
            return Ok(());
        }
    }
}
