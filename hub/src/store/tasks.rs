//! Durable tasks, to and from table rows, and which of them go when there is no room.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::row::Timestamp;

use super::rows::{self, Result, maybe_count, time, word};
use super::schema::size_with_parts;
use crate::model::{DurableTask, TaskStatus};

/// What a task counts for besides its texts: its row, and its places in the indexes.
const ROW: u64 = 512;
/// Most tasks that are deleted at once: others wait for the store meanwhile.
const STEP: i64 = 256;
/// Bytes of tasks that are deleted at once, one task at least, and of parts: each page is overwritten.
pub(super) const STEP_BYTES: u64 = 8 << 20;
/// A text of more bytes is kept in parts of so many.
const PART: usize = 1 << 20;
/// Which of a task's texts a part is of.
const REQUEST: i64 = 0;
const RESULT: i64 = 1;

macro_rules! ended {
    ($of:literal) => {
        concat!(
            "SELECT seq, id, owner, token, target, state, NULL AS request, streaming, llm, session, result_status,
            NULL AS result_body, error, code, created_at, updated_at FROM tasks
            WHERE state IN ('completed', 'error', 'cancelled') AND (created_at, id) < (?1, ?2) ",
            $of,
            " ORDER BY created_at DESC, id DESC LIMIT ?3"
        )
    };
}
/// A page of ended tasks. One statement for each question: with `?4 IS NULL OR …` no index would be used.
pub(super) const ENDED: &str = ended!("");
/// The same of one owner, `?4`.
pub(super) const ENDED_OF: &str = ended!("AND owner = ?4");

/// Durable tasks that have not ended, without their requests: they can be large, and there may be many.
pub(super) const OPEN: &str = "SELECT seq, id, owner, token, target,
    iif(claims.task IS NULL, state, 'claimed') AS state, NULL AS request, streaming,
    coalesce(claims.llm, tasks.llm) AS llm, coalesce(claims.session, tasks.session) AS session,
    NULL AS result_status, NULL AS result_body, error, code, created_at, updated_at
    FROM tasks LEFT JOIN claims ON claims.task = tasks.id
    WHERE state NOT IN ('completed', 'error', 'cancelled') ORDER BY seq";
/// One task, without request and result. Of a large value only the length is read.
pub(super) const HEAD: &str = "SELECT seq, id, owner, token, target, state, NULL AS request, streaming, llm, session,
    result_status, iif(ifnull(octet_length(result_body), result_size) IS NULL, NULL, '') AS result_body, error, code,
    created_at, updated_at, ifnull(octet_length(result_body), result_size) AS result_size FROM tasks WHERE id = ?1";

/// What an owner's tasks take, as the triggers of the schema count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    /// Bytes of all of them.
    pub(super) all: u64,
    /// Bytes of those that have ended.
    pub(super) ended: u64,
}

/// What the tasks of `owner` take.
pub(super) fn stored(conn: &Connection, owner: &str) -> Result<Stored> {
    let sql = "SELECT ifnull(sum(bytes), 0), ifnull(sum(ended), 0) FROM stored WHERE owner = ?1";
    conn.prepare_cached(sql)?
        .query_row([owner], |row| Ok(Stored { all: count(row, 0)?, ended: count(row, 1)? }))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// What a task takes, as the triggers count it.
pub(super) fn size(task: &DurableTask) -> u64 {
    let texts = [task.request.as_ref(), task.result.as_ref().map(|(_, body)| body), task.error.as_ref()];
    let bytes: usize = texts.into_iter().flatten().map(String::len).sum();
    ROW.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Deletes some of the ended tasks of `owner`, those that ended first, where all take more than `most`; the one that
/// ended last stays, and what has not ended. Whether there may be more to do.
pub(super) fn make_room(conn: &Connection, owner: &str, most: u64) -> Result<bool> {
    let excess = stored(conn, owner)?.all.saturating_sub(most);
    if excess == 0 {
        return Ok(false);
    }
    let last = "SELECT seq FROM tasks WHERE owner = ?1 AND state IN ('completed', 'error', 'cancelled')
        ORDER BY updated_at DESC, seq DESC LIMIT 1";
    let last = conn.prepare_cached(last)?.query_row([owner], |row| row.get::<_, i64>(0)).optional()?;
    let sql = concat!(
        "SELECT seq, ",
        size_with_parts!(""),
        " FROM tasks WHERE owner = ?1 AND state IN ('completed', 'error', 'cancelled') AND seq <> ?2
        ORDER BY updated_at, seq LIMIT ?3"
    );
    delete_some(conn, sql, params![owner, last, STEP], excess)
}

/// Deletes some of the tasks that ended before `before`. Whether there may be more to do.
pub(super) fn expire(conn: &Connection, before: Timestamp) -> Result<bool> {
    let sql = concat!(
        "SELECT seq, ",
        size_with_parts!(""),
        " FROM tasks WHERE state IN ('completed', 'error', 'cancelled') AND updated_at < ?1
        ORDER BY updated_at LIMIT ?2"
    );
    delete_some(conn, sql, params![before.0, STEP], u64::MAX)
}

/// Deletes the first of the tasks that `sql` finds: so many that `enough` bytes are free, and no more than one step has.
fn delete_some(conn: &Connection, sql: &str, params: impl rusqlite::Params, enough: u64) -> Result<bool> {
    let found: Vec<(i64, u64)> = rows::all(conn, sql, params, |row| Ok((row.get(0)?, count(row, 1)?)))?;
    let most = enough.min(STEP_BYTES);
    let mut freed = 0;
    let some = found.into_iter().take_while(|(_, size)| {
        let goes = freed < most;
        freed += size;
        goes
    });
    let mut delete = conn.prepare_cached("DELETE FROM tasks WHERE seq = ?1")?;
    let mut deleted = 0;
    for (seq, _) in some {
        deleted += delete.execute([seq])?;
    }
    Ok(deleted > 0)
}

/// The first ending of a task is the last: what comes behind it changes nothing.
pub(super) fn put_task(conn: &Connection, task: &DurableTask) -> Result<()> {
    // The role of then is an older version's: nobody reads it.
    let sql = "INSERT INTO tasks (id, owner, token, target, state, request, streaming, llm, session, result_status,
        result_body, error, created_at, updated_at, code, request_size, result_size, role)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, 'member')
        ON CONFLICT (id) DO UPDATE SET owner = ?2, token = ?3, target = ?4, state = ?5, request = ?6, streaming = ?7,
        llm = ?8, session = ?9, result_status = ?10, result_body = ?11, error = ?12, created_at = ?13,
        updated_at = ?14, code = ?15, request_size = ?16, result_size = ?17
        WHERE state NOT IN ('completed', 'error', 'cancelled')";
    let (request, large_request) = split(task.request.as_deref());
    let (result, large_result) = split(task.result.as_ref().map(|(_, body)| body.as_str()));
    let values = params![
        task.id,
        task.owner,
        task.token,
        task.target,
        task.state.as_str(),
        request,
        task.streaming,
        task.llm,
        task.session,
        task.result.as_ref().map(|(status, _)| status),
        result,
        task.error,
        task.created_at.0,
        task.updated_at.0,
        task.code,
        size_of(large_request),
        size_of(large_result),
    ];
    if conn.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(());
    }
    put_parts(conn, &task.id, REQUEST, large_request)?;
    put_parts(conn, &task.id, RESULT, large_result)
}

/// A text that stands in its task's row, or one that is in parts.
fn split(text: Option<&str>) -> (Option<&str>, Option<&str>) {
    match text {
        Some(text) if text.len() > PART => (None, Some(text)),
        small => (small, None),
    }
}

fn size_of(text: Option<&str>) -> Option<i64> {
    text.map(|text| i64::try_from(text.len()).unwrap_or(i64::MAX))
}

fn put_parts(conn: &Connection, task: &str, what: i64, text: Option<&str>) -> Result<()> {
    let Some(text) = text else { return Ok(()) };
    // Those of an older text, if there was one.
    conn.prepare_cached("DELETE FROM parts WHERE task = ?1 AND what = ?2")?.execute(params![task, what])?;
    conn.prepare_cached("DELETE FROM erased WHERE task = ?1 AND what = ?2")?.execute(params![task, what])?;
    let mut insert =
        conn.prepare_cached("INSERT INTO parts (task, what, n, bytes) VALUES (?1, ?2, ?3, ?4)")?;
    for (n, bytes) in (0_i64..).zip(text.as_bytes().chunks(PART)) {
        insert.execute(params![task, what, n, bytes])?;
    }
    Ok(())
}

/// A text that is in parts; `None` where they are on their way out.
fn parts(conn: &Connection, task: &str, what: i64, size: u64) -> Result<Option<String>> {
    let sql = "SELECT bytes FROM parts WHERE task = ?1 AND what = ?2 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params![task, what])?;
    let mut text = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    while let Some(row) = rows.next()? {
        text.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    Ok(String::from_utf8(text).ok().filter(|text| text.len() as u64 == size))
}

/// Erases some of what nothing leads to any more. Whether there may be more to do.
pub(super) fn erase_some(conn: &Connection) -> Result<bool> {
    let sql = "SELECT task, what FROM erased LIMIT 1";
    let first = conn
        .prepare_cached(sql)?
        .query_row([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((task, what)) = first else { return Ok(false) };
    let some = STEP_BYTES / PART as u64;
    let sql = "DELETE FROM parts WHERE rowid IN
        (SELECT rowid FROM parts WHERE task = ?1 AND what = ?2 ORDER BY n LIMIT ?3)";
    let gone = conn.prepare_cached(sql)?.execute(params![task, what, i64::try_from(some).unwrap_or(1)])?;
    if (gone as u64) < some {
        conn.prepare_cached("DELETE FROM erased WHERE task = ?1 AND what = ?2")?
            .execute(params![task, what])?;
    }
    Ok(true)
}

/// What the row of a task has of texts, which are overwritten when it goes.
pub(super) fn in_row(conn: &Connection, id: &str) -> Result<u64> {
    let sql = "SELECT ifnull(octet_length(request), 0) + ifnull(octet_length(result_body), 0) FROM tasks WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([id], |row| count(row, 0)).optional()?.unwrap_or(0))
}

/// A task with all its texts.
pub(super) fn whole(conn: &Connection, id: &str) -> Result<Option<DurableTask>> {
    let read = |row: &Row<'_>| {
        let status: Option<u16> = row.get("result_status")?;
        Ok((task(row)?, status, maybe_count(row, "request_size")?, maybe_count(row, "result_size")?))
    };
    let found = conn.prepare_cached("SELECT * FROM tasks WHERE id = ?1")?.query_row([id], read).optional()?;
    let Some((mut task, status, request, result)) = found else { return Ok(None) };
    if let Some(size) = request {
        task.request = parts(conn, id, REQUEST, size)?;
    }
    if let Some(size) = result {
        task.result = status.zip(parts(conn, id, RESULT, size)?);
    }
    Ok(Some(task))
}

pub(super) fn claim(conn: &Connection, id: &str, llm: Option<&str>, session: Option<&str>) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO claims (task, llm, session)
        SELECT id, ?2, ?3 FROM tasks WHERE id = ?1 AND state NOT IN ('completed', 'error', 'cancelled')";
    conn.prepare_cached(sql)?.execute(params![id, llm, session]).map(drop)
}

pub(super) fn task(row: &Row<'_>) -> Result<DurableTask> {
    let status: Option<u16> = row.get("result_status")?;
    let body: Option<String> = row.get("result_body")?;
    Ok(DurableTask {
        id: row.get("id")?,
        owner: row.get("owner")?,
        token: row.get("token")?,
        target: row.get("target")?,
        state: word(row, "state", TaskStatus::parse)?,
        request: row.get("request")?,
        streaming: row.get("streaming")?,
        llm: row.get("llm")?,
        session: row.get("session")?,
        result: status.zip(body),
        error: row.get("error")?,
        code: row.get("code")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
    })
}

pub(super) fn head(row: &Row<'_>) -> Result<(DurableTask, Option<u64>)> {
    Ok((task(row)?, maybe_count(row, "result_size")?))
}

/// A part of a result, without the rest of it.
pub(super) fn result_part(conn: &Connection, id: &str, at: u64, most: usize) -> Result<Option<Vec<u8>>> {
    let sql = "SELECT seq, result_size FROM tasks WHERE id = ?1 AND result_status IS NOT NULL";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, maybe_count(row, "result_size")?));
    let Some((seq, size)) = conn.prepare_cached(sql)?.query_row([id], read).optional()? else {
        return Ok(None);
    };
    if let Some(size) = size {
        let part = part_of_parts(conn, id, at, most)?;
        // What is on its way out is not there.
        let whole = size.saturating_sub(at).min(most as u64);
        return Ok(Some(part).filter(|part| part.len() as u64 == whole));
    }
    let blob = conn.blob_open("main", "tasks", "result_body", seq, true)?;
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(blob.len());
    let mut part = vec![0; most.min(blob.len() - at)];
    blob.read_at_exact(&mut part, at)?;
    Ok(Some(part))
}

/// The same of one that is in parts.
fn part_of_parts(conn: &Connection, id: &str, at: u64, most: usize) -> Result<Vec<u8>> {
    let mut at = usize::try_from(at).unwrap_or(usize::MAX);
    let sql = "SELECT bytes FROM parts WHERE task = ?1 AND what = ?2 AND n >= ?3 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let first = i64::try_from(at / PART).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![id, RESULT, first])?;
    at %= PART;
    let mut part = Vec::new();
    while part.len() < most
        && let Some(row) = rows.next()?
    {
        let bytes = row.get_ref(0)?.as_blob()?;
        let from = at.min(bytes.len());
        let to = bytes.len().min(from.saturating_add(most - part.len()));
        part.extend_from_slice(&bytes[from..to]);
        at = 0;
    }
    Ok(part)
}
