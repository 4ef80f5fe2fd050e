//! Opens and checks a database file, and translates errors of `SQLite`.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::schema::migrate;
use super::{StoreError, vacuum};

/// How long a write waits for another program that locks the file (a backup, a shell) before it fails.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens and checks a file. A damaged or newer file is refused before anything is written to it.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    let mut conn = Connection::open(path).map_err(failed)?;
    conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let health: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if health != "ok" {
        return Err(StoreError::Damaged(health));
    }
    vacuum::enable_on_empty(&conn).map_err(failed)?;
    migrate(&mut conn)?;
    // Deleted data is overwritten: a prompt must not outlive its task in free pages.
    conn.pragma_update(None, "secure_delete", true).map_err(failed)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(failed)?;
    // FULL: a task answered with 202 survives a power cut. Commits are shared, and the hot path waits for none.
    conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    vacuum::enable_by_rebuild(&conn, path).map_err(failed)?;
    Ok(conn)
}

/// Translates an error of `SQLite`. Its texts name tables and columns, never values.
#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
pub(super) fn failed(error: rusqlite::Error) -> StoreError {
    use rusqlite::Error as E;
    let text = error.to_string();
    match error {
        E::SqliteFailure(cause, _)
            if matches!(cause.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) =>
        {
            StoreError::Damaged(text)
        }
        E::FromSqlConversionFailure(..) | E::InvalidColumnType(..) | E::IntegralValueOutOfRange(..) => {
            StoreError::Damaged(text)
        }
        _ => StoreError::Unavailable(text),
    }
}
