//! Lists of changes in one transaction, whose ending is known even if the connection breaks during the commit.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep};

use super::connection::{Connection, Failure, Session};
use super::lease::Lease;
use super::tasks;
use crate::store::columns::StoredRow;
use crate::store::rows::{self, Statement};
use crate::store::tasks::size;
use crate::store::{Change, StoreError};

/// Statements that are sent without waiting for the one before.
const PIPELINED: usize = 30;
/// Time to learn how a commit ended whose answer was lost.
const DOUBT: Duration = Duration::from_secs(5);
/// Time between two questions for that.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Applies `lists` and commits, all of them or none. Without a list, it only asks whether a commit succeeds.
pub(super) async fn run(
    connection: &mut Connection,
    lease: &Lease,
    lists: &[&[Change]],
) -> Result<(), Failure> {
    let session = connection.session().await.map_err(Failure::Broken)?;
    let applied = match begin(&session, lease).await {
        Ok(transaction) => apply_all(&session, lists).await.map(|()| transaction),
        Err(failure) => Err(failure),
    };
    let (failure, transaction) = match applied {
        Ok(transaction) => match session.batch("COMMIT").await {
            Ok(()) => return Ok(()),
            Err(failure) => (failure, Some(transaction)),
        },
        Err(failure) => (failure, None),
    };
    if let Failure::Refused(_) = failure
        && session.batch("ROLLBACK").await.is_ok()
    {
        return Err(failure);
    }
    connection.close();
    match transaction {
        Some(transaction) if was_committed(connection, &transaction).await => Ok(()),
        _ => Err(failure),
    }
}

/// Begins a transaction and checks the lease. Returns the transaction's id.
async fn begin(session: &Session, lease: &Lease) -> Result<String, Failure> {
    let (begun, transaction) = join(session.batch("BEGIN"), lease.check(session)).await;
    begun?;
    transaction?.ok_or_else(|| Failure::Broken(lease.lost()))
}

/// Applies the lists in order.
async fn apply_all(session: &Session, lists: &[&[Change]]) -> Result<(), Failure> {
    let mut waiting = Vec::with_capacity(PIPELINED);
    for change in lists.iter().copied().flatten() {
        if let Change::NewTask { task, max_bytes } = change {
            flush(session, &mut waiting).await?;
            let rows = session.query(tasks::OPEN_BYTES, &[(&task.owner).into()]).await?;
            let open =
                rows.first().map_or(Ok(0), |row| row.field::<u64>("bytes")).map_err(Failure::Broken)?;
            if open.saturating_add(size(task)) > *max_bytes {
                return Err(Failure::Refused(StoreError::OverQuota(open)));
            }
        }
        waiting.extend(rows::statement(change, '$').or_else(|| tasks::statement(change)));
        if waiting.len() == PIPELINED {
            flush(session, &mut waiting).await?;
        }
    }
    flush(session, &mut waiting).await
}

/// Runs the waiting statements in order, and waits for all of them.
async fn flush(session: &Session, waiting: &mut Vec<Statement<'_>>) -> Result<(), Failure> {
    for statement in &*waiting {
        session.prepare(&statement.sql).await?;
    }
    // Each is sent when it is first polled, which `join_all` does in order. After the first that fails the others do, too.
    let running = waiting.iter().map(|statement| session.execute(&statement.sql, &statement.values));
    let results = join_all(running).await;
    waiting.clear();
    results.into_iter().try_for_each(|result| result.map(drop))
}

/// Asks how a transaction ended whose commit was sent, but not answered.
async fn was_committed(connection: &mut Connection, transaction: &str) -> bool {
    let deadline = Instant::now() + DOUBT;
    while Instant::now() < deadline {
        if let Ok(session) = connection.session().await
            && let Ok(rows) =
                session.query("SELECT pg_xact_status($1::text::xid8) AS status", &[transaction.into()]).await
            && let Some(row) = rows.first()
        {
            match row.field::<Option<String>>("status").ok().flatten().as_deref() {
                Some("committed") => return true,
                // The server has not noticed yet that the connection is gone.
                Some("in progress") => {}
                _ => return false,
            }
        }
        sleep(ASK_EVERY).await;
    }
    log::warn!("store: the database did not say in time whether a transaction was committed");
    false
}
