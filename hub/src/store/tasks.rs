//! Durable tasks to and from table rows, and the deletion of ended ones.

use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use wire::row::Timestamp;

use super::columns::{StoredRow, Value, all};
use super::parts;
use super::schema::{size_of_row, size_with_parts};
use crate::model::{DurableTask, TaskStatus};

/// Bytes that a task counts for besides its texts: its row and index entries.
const ROW: u64 = 512;
/// Maximum number of tasks deleted in one step; writes wait meanwhile.
const STEP: i64 = 256;
/// Maximum bytes of tasks (but at least one task) or parts deleted in one step: each page is overwritten.
pub(super) const STEP_BYTES: u64 = 8 << 20;

macro_rules! ended {
    ($of:literal) => {
        concat!(
            "SELECT seq, id, owner, token, target, target_owner, state, NULL AS request, streaming, llm, session,
            result_status, NULL AS result_body, error, code, input_tokens, cached_tokens, output_tokens, counted, created_at, updated_at FROM tasks
            WHERE state IN ('completed', 'error', 'cancelled') AND (created_at, id) < (?1, ?2) ",
            $of,
            " ORDER BY created_at DESC, id DESC LIMIT ?3"
        )
    };
}
/// A page of ended tasks. A separate statement from [`ENDED_OF`], because `?4 IS NULL OR …` would use no index.
pub(super) const ENDED: &str = ended!("");
/// A page of ended tasks of owner `?4`.
pub(super) const ENDED_OF: &str = ended!("AND owner = ?4");

/// All open tasks, without their requests, which can be large.
pub(super) const OPEN: &str = "SELECT seq, id, owner, token, target, target_owner,
    iif(claims.task IS NULL, state, 'claimed') AS state, NULL AS request, streaming,
    coalesce(claims.llm, tasks.llm) AS llm, coalesce(claims.session, tasks.session) AS session,
    NULL AS result_status, NULL AS result_body, error, code, input_tokens, cached_tokens, output_tokens, counted, created_at, updated_at
    FROM tasks LEFT JOIN claims ON claims.task = tasks.id
    WHERE state NOT IN ('completed', 'error', 'cancelled') ORDER BY seq";
/// One task without its request and result, and the size of its result. `octet_length` does not read the value.
pub(super) const HEAD: &str = "SELECT seq, id, owner, token, target, target_owner, state, NULL AS request, streaming,
    llm, session, result_status, iif(ifnull(octet_length(result_body), result_size) IS NULL, NULL, '') AS result_body,
    error, code, input_tokens, cached_tokens, output_tokens, counted, created_at, updated_at, ifnull(octet_length(result_body), result_size) AS result_size FROM tasks WHERE id = ?1";

/// Bytes of an owner's tasks, as counted by the triggers of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) all: u64,
    pub(super) ended: u64,
}

pub(super) fn stored(conn: &Connection, owner: &str) -> Result<Stored> {
    let sql = "SELECT ifnull(sum(bytes), 0), ifnull(sum(ended), 0) FROM stored WHERE owner = ?1";
    conn.prepare_cached(sql)?
        .query_row([owner], |row| Ok(Stored { all: count(row, 0)?, ended: count(row, 1)? }))
}

fn count(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
}

/// Bytes of a task, as the triggers count them.
pub(super) fn size(task: &DurableTask) -> u64 {
    let texts = [task.request.as_ref(), task.result.as_ref().map(|(_, body)| body), task.error.as_ref()];
    let bytes: usize = texts.into_iter().flatten().map(String::len).sum();
    ROW.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Deletes some ended tasks of `owner`, oldest ending first, if all its tasks take more than `max_bytes`. The task that ended
/// last is kept, and so are open ones. `true` if there may be more.
pub(super) fn enforce_quota(conn: &Connection, owner: &str, max_bytes: u64) -> Result<bool> {
    let excess = stored(conn, owner)?.all.saturating_sub(max_bytes);
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

/// Deletes some of the tasks that ended before `before`. `true` if there may be more.
pub(super) fn expire(conn: &Connection, before: Timestamp) -> Result<bool> {
    let sql = concat!(
        "SELECT seq, ",
        size_with_parts!(""),
        " FROM tasks WHERE state IN ('completed', 'error', 'cancelled') AND updated_at < ?1
        ORDER BY updated_at LIMIT ?2"
    );
    delete_some(conn, sql, params![before.0, STEP], u64::MAX)
}

/// Deletes the first tasks that `sql` selects, until they had `enough` or [`STEP_BYTES`] bytes.
fn delete_some(conn: &Connection, sql: &str, params: impl rusqlite::Params, enough: u64) -> Result<bool> {
    let found: Vec<(i64, u64)> = all(conn, sql, params, |row| Ok((row.get(0)?, count(row, 1)?)))?;
    let max = enough.min(STEP_BYTES);
    let mut freed = 0;
    let some = found.into_iter().take_while(|(_, size)| {
        let goes = freed < max;
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

/// Inserts or replaces a task. A task that has ended is not changed.
pub(super) fn put_task(conn: &Connection, task: &DurableTask) -> Result<()> {
    // `role` is a column of an older version, and is not read.
    let sql = "INSERT INTO tasks (id, owner, token, target, state, request, streaming, llm, session, result_status,
        result_body, error, created_at, updated_at, code, request_size, result_size, target_owner,
        input_tokens, cached_tokens, output_tokens, counted, role)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, 'member')
        ON CONFLICT (id) DO UPDATE SET owner = ?2, token = ?3, target = ?4, state = ?5, request = ?6, streaming = ?7,
        llm = ?8, session = ?9, result_status = ?10, result_body = ?11, error = ?12, created_at = ?13,
        updated_at = ?14, code = ?15, request_size = ?16, result_size = ?17, target_owner = ?18,
        input_tokens = ?19, cached_tokens = ?20, output_tokens = ?21, counted = ?22
        WHERE state NOT IN ('completed', 'error', 'cancelled')";
    let (request, large_request) = parts::split(task.request.as_deref());
    let (result, large_result) = parts::split(task.result.as_ref().map(|(_, body)| body.as_str()));
    let tokens = task.tokens;
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
        parts::size_of(large_request),
        parts::size_of(large_result),
        task.target_owner,
        Value::from(tokens.and_then(|tokens| tokens.input)),
        Value::from(tokens.and_then(|tokens| tokens.cached)),
        Value::from(tokens.and_then(|tokens| tokens.output)),
        tokens.map(|tokens| tokens.is_counted),
    ];
    if conn.prepare_cached(sql)?.execute(values)? == 0 {
        return Ok(());
    }
    parts::put(conn, &task.id, parts::REQUEST, large_request)?;
    parts::put(conn, &task.id, parts::RESULT, large_result)
}

/// Bytes of texts in the row of a task, which are overwritten when the row is deleted.
pub(super) fn text_bytes_in_row(conn: &Connection, id: &str) -> Result<u64> {
    let sql = "SELECT ifnull(octet_length(request), 0) + ifnull(octet_length(result_body), 0) FROM tasks WHERE id = ?1";
    Ok(conn.prepare_cached(sql)?.query_row([id], |row| count(row, 0)).optional()?.unwrap_or(0))
}

/// Reads a task with all its texts.
pub(super) fn whole(conn: &Connection, id: &str) -> Result<Option<DurableTask>> {
    let read = |row: &Row<'_>| {
        let status: Option<u16> = row.field("result_status")?;
        Ok((task(row)?, status, row.field("request_size")?, row.field("result_size")?))
    };
    let found = conn.prepare_cached("SELECT * FROM tasks WHERE id = ?1")?.query_row([id], read).optional()?;
    let Some((mut task, status, request, result)) = found else { return Ok(None) };
    if let Some(size) = request {
        task.request = parts::read(conn, id, parts::REQUEST, size)?;
    }
    if let Some(size) = result {
        task.result = status.zip(parts::read(conn, id, parts::RESULT, size)?);
    }
    Ok(Some(task))
}

pub(super) fn claim(conn: &Connection, id: &str, llm: Option<&str>, session: Option<&str>) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO claims (task, llm, session)
        SELECT id, ?2, ?3 FROM tasks WHERE id = ?1 AND state NOT IN ('completed', 'error', 'cancelled')";
    conn.prepare_cached(sql)?.execute(params![id, llm, session]).map(drop)
}

pub(super) fn task<R: StoredRow>(row: &R) -> Result<DurableTask, R::Error> {
    let status: Option<u16> = row.field("result_status")?;
    let body: Option<String> = row.field("result_body")?;
    Ok(DurableTask {
        id: row.field("id")?,
        owner: row.field("owner")?,
        token: row.field("token")?,
        target: row.field("target")?,
        target_owner: row.field("target_owner")?,
        state: row.parsed("state", TaskStatus::parse)?,
        request: row.field("request")?,
        streaming: row.field("streaming")?,
        llm: row.field("llm")?,
        session: row.field("session")?,
        result: status.zip(body),
        error: row.field("error")?,
        code: row.field("code")?,
        tokens: row.tokens()?,
        created_at: row.field("created_at")?,
        updated_at: row.field("updated_at")?,
    })
}

pub(super) fn head<R: StoredRow>(row: &R) -> Result<(DurableTask, Option<u64>), R::Error> {
    Ok((task(row)?, row.field("result_size")?))
}
