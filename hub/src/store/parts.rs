//! Large texts of tasks, stored in parts of 1 MiB so that they can be read and deleted in small steps.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::columns::StoredRow;
use super::tasks::STEP_BYTES;

/// Size of a part in bytes. A longer text is stored in parts.
const PART: usize = 1 << 20;
/// Values of the column `what`.
pub(super) const REQUEST: i64 = 0;
pub(super) const RESULT: i64 = 1;

/// Returns `text` as the value of a column of `tasks`, or as one to store in parts.
pub(super) fn split(text: Option<&str>) -> (Option<&str>, Option<&str>) {
    match text {
        Some(text) if text.len() > PART => (None, Some(text)),
        small => (small, None),
    }
}

pub(super) fn size_of(text: Option<&str>) -> Option<i64> {
    text.map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX))
}

pub(super) fn put(conn: &Connection, task: &str, what: i64, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    // Parts of an older text.
    conn.prepare_cached("DELETE FROM parts WHERE task = ?1 AND what = ?2")?.execute(params![task, what])?;
    conn.prepare_cached("DELETE FROM erased WHERE task = ?1 AND what = ?2")?.execute(params![task, what])?;
    let mut insert =
        conn.prepare_cached("INSERT INTO parts (task, what, n, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    for (n, bytes) in (0_i64..).zip(text.as_bytes().chunks(PART)) {
        insert.execute(params![task, what, n, bytes])?;
    }
    Ok(())
}

/// Reads a text of `size` bytes; `None` if some of its parts are deleted.
pub(super) fn read(conn: &Connection, task: &str, what: i64, size: u64) -> Result<Option<String>> {
    let sql = "SELECT bytes FROM parts WHERE task = ?1 AND what = ?2 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![task, what])?;
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    while let Some(row) = rows.next()? {
        text.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    Ok(String::from_utf8(text).ok().filter(|text| text.len() as u64 == size))
}

/// Deletes some parts of a text listed in `erased`. `true` if there may be more.
pub(super) fn delete_some(conn: &Connection) -> Result<bool> {
    let sql = "SELECT task, what FROM erased LIMIT 1";
    let first = conn
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((task, what)) = first else { return Ok(false) };
    let limit = STEP_BYTES / PART as u64;
    let sql = "DELETE FROM parts WHERE rowid IN
        (SELECT rowid FROM parts WHERE task = ?1 AND what = ?2 ORDER BY n LIMIT ?3)";
    let deleted =
        conn.prepare_cached(sql)?.execute(params![task, what, i64::try_from(limit).unwrap_or(1)])?;
    if (deleted as u64) < limit {
        conn.prepare_cached("DELETE FROM erased WHERE task = ?1 AND what = ?2")?
            .execute(params![task, what])?;
    }
    Ok(true)
}

/// Reads at max `max` bytes of a task's result from offset `at`. `None` without such a task or result.
pub(super) fn result_part(conn: &Connection, id: &str, at: u64, max: usize) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT seq, result_size FROM tasks WHERE id = ?1 AND result_status IS NOT NULL";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.field::<Option<u64>>("result_size")?));
    let Some((seq, size)) = conn.prepare_cached(sql)?.query_row([id], read).optional()? else {
        return Ok(None);
    };
    if let Some(size) = size {
        let part = read_range(conn, id, at, max)?;
        // Parts of a deleted result may be missing.
        let whole = size.saturating_sub(at).min(max as u64);
        return Ok(Some(part).filter(|part| part.len() as u64 == whole));
    }
    let blob = conn.blob_open("main", "tasks", "result_body", seq, true)?;
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(blob.len());
    let mut part = vec![0; max.min(blob.len() - at)];
    blob.read_at_exact(&mut part, at)?;
    Ok(Some(part))
}

/// Reads at max `max` bytes of a result in parts from offset `at`.
fn read_range(conn: &Connection, id: &str, at: u64, max: usize) -> Result<Vec<u8>> {
    let mut at = usize::try_from(at).unwrap_or(usize::MAX);
    let sql = "SELECT bytes FROM parts WHERE task = ?1 AND what = ?2 AND n >= ?3 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let first = i64::try_from(at / PART).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, RESULT, first])?;
    at %= PART;
    let mut part = Vec::new();
    while part.len() < max
        && let Some(row) = rows.next()?
    {
        let bytes = row.get_ref(0)?.as_blob()?;
        let from = at.min(bytes.len());
        let to = bytes.len().min(from.saturating_add(max - part.len()));
        part.extend_from_slice(&bytes[from..to]);
        at = 0;
    }
    Ok(part)
}
