//! Changes as statements for `SQLite`.

use rusqlite::{Connection, Result, params_from_iter};

use super::rows::{Statement, statement};
use super::{Change, tasks};

pub(super) fn apply(conn: &Connection, change: &Change) -> Result<()> {
    if let Some(Statement { sql, values }) = statement(change, '?') {
        return conn.prepare_cached(&sql)?.execute(params_from_iter(values)).map(drop);
    }
    match change {
        Change::PutTask(task) | Change::NewTask { task, .. } => tasks::put_task(conn, task),
        Change::ClaimTask { id, llm, session } => tasks::claim(conn, id, llm.as_deref(), session.as_deref()),
        Change::UnclaimTask(id) => delete(conn, "DELETE FROM claims WHERE task = ?1", id),
        Change::DeleteTask(id) => delete(conn, "DELETE FROM tasks WHERE id = ?1", id),
        // `Cleanup` enforces quotas. All others have a statement.
        _ => Ok(()),
    }
}

fn delete(conn: &Connection, sql: &str, id: &str) -> Result<()> {
    conn.prepare_cached(sql)?.execute([id]).map(drop)
}
