//! Deletion of ended tasks, audit records and sums that are past their retention or over a quota, in small steps.

use wire::row::Timestamp;

use super::connection::{Failure, Session};
use crate::store::columns::{StoredRow, Value};
use crate::store::{RetentionLimits, usage};

/// Maximum number of tasks or records deleted in one step.
const STEP: i64 = 256;

/// Deletes what `limits` do not keep.
pub(super) async fn expire(session: &Session, limits: RetentionLimits) -> Result<(), Failure> {
    let tasks = "DELETE FROM tasks WHERE seq IN
        (SELECT seq FROM tasks WHERE ended AND updated_at < $1 ORDER BY updated_at LIMIT $2)";
    before(session, tasks, limits.tasks_since).await?;
    let audit = "DELETE FROM audit WHERE seq IN
        (SELECT seq FROM audit WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    before(session, audit, limits.audit_since).await?;
    bound_audit(session, limits.audit_rows).await?;
    let usage = usage::expire_sql('$');
    while session.execute(&usage, &[limits.usage_since.0.into(), STEP.into()]).await? > 0 {}
    Ok(())
}

async fn before(session: &Session, sql: &str, time: Timestamp) -> Result<(), Failure> {
    while session.execute(sql, &[time.into(), STEP.into()]).await? > 0 {}
    Ok(())
}

/// Deletes audit records until at most `most` are left: of the user with the most, the oldest first. So no user displaces
/// another's records.
async fn bound_audit(session: &Session, most: u64) -> Result<(), Failure> {
    let counts = "SELECT \"user\", count(*) AS records FROM audit GROUP BY \"user\"";
    let mut users = Vec::new();
    for row in session.query(counts, &[]).await? {
        let user = || Ok((row.field::<u64>("records")?, row.field::<String>("user")?));
        users.push(user().map_err(Failure::Broken)?);
    }
    let mut excess = users.iter().map(|(records, _)| records).sum::<u64>().saturating_sub(most);
    let sql =
        "DELETE FROM audit WHERE seq IN (SELECT seq FROM audit WHERE \"user\" = $1 ORDER BY seq LIMIT $2)";
    while excess > 0
        && let Some((records, user)) = users.iter_mut().max()
    {
        let step = excess.min(STEP.unsigned_abs());
        let deleted = session.execute(sql, &[(&*user).into(), step.into()]).await?;
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
pub(super) async fn enforce_quota(session: &Session, owner: &str, max_bytes: u64) -> Result<(), Failure> {
    let excess = "SELECT bytes - $2 AS excess FROM stored WHERE owner = $1 AND bytes > $2";
    let delete = "WITH listed AS (
            SELECT seq, sum(bytes) OVER (ORDER BY updated_at, seq) - bytes AS earlier,
                row_number() OVER (ORDER BY updated_at DESC, seq DESC) AS place
            FROM (SELECT seq, virtual_llm_bytes(tasks) AS bytes, updated_at FROM tasks WHERE owner = $1 AND ended) AS own)
        DELETE FROM tasks WHERE seq IN
            (SELECT seq FROM listed WHERE earlier < $2::bigint AND place > 1 ORDER BY earlier LIMIT $3)";
    loop {
        let rows = session.query(excess, &[owner.into(), max_bytes.into()]).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let excess: i64 = row.field("excess").map_err(Failure::Broken)?;
        let values: [Value<'_>; 3] = [owner.into(), excess.into(), STEP.into()];
        if session.execute(delete, &values).await? == 0 {
            return Ok(());
        }
    }
}
