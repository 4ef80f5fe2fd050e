//! Turns: one hub of several at a time changes the table of LLMs, and each has read what the others have changed before.
//!
//! An advisory lock lets hubs wait for each other. It is not what makes a turn exclusive, since it ends with its connection
//! without a word: each turn has a number, and the transaction that writes its changes checks that no later one has begun.
//! A hub that is stopped in its turn keeps its connection, and with it the lock. Those that wait end that connection.

use super::connection::{Failure, Session};
use crate::cluster::Process;
use crate::store::StoreError;
use crate::store::columns::StoredRow;

/// Key of the advisory lock: "turn" in ASCII.
const LOCK: i64 = 0x7475_726e;

/// Ends the connection that has the lock and did nothing for 2 s. Its turn ends with the begin of the next one.
const END_HOLDER: &str = "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid, objid, objsubid) = (0, $1::bigint::oid, 1) AND state = 'idle' AND state_change < now() - interval '2 s'";

/// Waits for a turn of `process`, at most 2 s and once more if a stopped hub had it. Returns its number.
pub(super) async fn begin(session: &Session, process: Process) -> Result<i64, Failure> {
    // A crash of the server may lose the last number, which is then given again. No hub still has a turn then: its
    // connection ended too.
    session.batch("SET lock_timeout = '2s'; SET synchronous_commit = off").await?;
    let lock = async || session.query("SELECT pg_advisory_lock($1)", &[LOCK.into()]).await;
    match lock().await {
        Err(Failure::Conflict(_)) => {
            session.query(END_HOLDER, &[LOCK.into()]).await?;
            lock().await?
        }
        locked => locked?,
    };
    let sql = "UPDATE turns SET number = number + 1, boot = $1 RETURNING number";
    let rows = session.query(sql, &[process.boot().into()]).await?;
    let number = rows.first().map(|row| row.field("number")).transpose().map_err(Failure::Broken)?;
    number.ok_or_else(|| Failure::Broken(StoreError::Database("its table `turns` is empty".into())))
}

/// Ends a turn.
pub(super) async fn end(session: &Session) -> Result<(), Failure> {
    session.query("SELECT pg_advisory_unlock($1)", &[LOCK.into()]).await.map(drop)
}

/// The number of the turn of `process`, if no other process has begun one. None begins before the end of the transaction.
pub(super) async fn held(session: &Session, process: Process) -> Result<Option<i64>, Failure> {
    let sql = "SELECT number FROM turns WHERE boot = $1 FOR SHARE";
    let rows = session.query(sql, &[process.boot().into()]).await?;
    rows.first().map(|row| row.field("number")).transpose().map_err(Failure::Broken)
}

/// The error of changes whose turn is over.
pub(super) fn over() -> StoreError {
    StoreError::Unavailable("another hub has changed the table of LLMs meanwhile".into())
}
