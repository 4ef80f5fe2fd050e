//! Durable tasks, to and from table rows, and which of them go when there is no room.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::row::Timestamp;

use super::rows::{self, Result, maybe_count, time, word};
use super::schema::size_of_row;
use crate::model::{DurableTask, TaskState};

/// What a task counts for besides its texts: its row, and its places in the indexes.
const ROW: u64 = 512;
/// Most tasks that are deleted at once: others wait for the store meanwhile.
const STEP: i64 = 256;
/// Bytes of tasks that are deleted at once, one task at least: each page is overwritten.
const STEP_BYTES: u64 = 8 << 20;

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
    result_status, iif(octet_length(result_body) IS NULL, NULL, '') AS result_body, error, code, created_at, updated_at,
    octet_length(result_body) AS result_size FROM tasks WHERE id = ?1";

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
        size_of_row!(""),
        " FROM tasks WHERE owner = ?1 AND state IN ('completed', 'error', 'cancelled') AND seq <> ?2
        ORDER BY updated_at, seq LIMIT ?3"
    );
    delete_some(conn, sql, params![owner, last, STEP], excess)
}

/// Deletes some of the tasks that ended before `before`. Whether there may be more to do.
pub(super) fn expire(conn: &Connection, before: Timestamp) -> Result<bool> {
    let sql = concat!(
        "SELECT seq, ",
        size_of_row!(""),
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

pub(super) fn put_task(conn: &Connection, task: &DurableTask) -> Result<()> {
    // The role of then is an older version's: nobody reads it.
    let sql = "INSERT INTO tasks (id, owner, token, target, state, request, streaming, llm, session, result_status,
        result_body, error, created_at, updated_at, code, role)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 'member')
        ON CONFLICT (id) DO UPDATE SET owner = ?2, token = ?3, target = ?4, state = ?5, request = ?6, streaming = ?7,
        llm = ?8, session = ?9, result_status = ?10, result_body = ?11, error = ?12, created_at = ?13,
        updated_at = ?14, code = ?15";
    let values = params![
        task.id,
        task.owner,
        task.token,
        task.target,
        task.state.as_str(),
        task.request,
        task.streaming,
        task.llm,
        task.session,
        task.result.as_ref().map(|(status, _)| status),
        task.result.as_ref().map(|(_, body)| body),
        task.error,
        task.created_at.0,
        task.updated_at.0,
        task.code,
    ];
    conn.prepare_cached(sql)?.execute(values).map(drop)
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
        state: word(row, "state", TaskState::parse)?,
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
    let sql = "SELECT seq FROM tasks WHERE id = ?1 AND result_status IS NOT NULL";
    let seq = conn.prepare_cached(sql)?.query_row([id], |row| row.get::<_, i64>(0)).optional()?;
    let Some(seq) = seq else { return Ok(None) };
    let blob = conn.blob_open("main", "tasks", "result_body", seq, true)?;
    let at = usize::try_from(at).unwrap_or(usize::MAX).min(blob.len());
    let mut part = vec![0; most.min(blob.len() - at)];
    blob.read_at_exact(&mut part, at)?;
    Ok(Some(part))
}
