//! Large texts of tasks, stored in parts of 1 MiB. Each part is a statement of its own, so that no text takes the line to the
//! database for long. A task names the parts of its texts; parts that no task names are deleted.

use super::connection::{Failure, Session};
use super::lease::Lease;
use super::tasks;
use crate::model::DurableTask;
use crate::random;
use crate::store::columns::StoredRow;
use crate::store::tasks as task_rows;

/// Size of a part in bytes. A longer text is stored in parts.
pub(super) const PART: usize = 1 << 20;

/// A text in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredText {
    /// Random, so that two texts of one task have different ones.
    pub(super) id: i64,
    /// Size of the text in bytes.
    pub(super) size: u64,
}

/// The texts of a task that are in parts already. They are missing in its record.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskTexts {
    pub(super) request: Option<StoredText>,
    pub(super) result: Option<StoredText>,
}

impl TaskTexts {
    /// Size of the texts in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.all().map(|text| text.size).fold(0, u64::saturating_add)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = StoredText> {
        [self.request, self.result].into_iter().flatten()
    }
}

/// A text of which some parts are stored.
#[derive(Debug)]
pub(super) struct Upload {
    id: i64,
    next: usize,
}

impl Upload {
    pub(super) fn new() -> Self {
        Self { id: i64::from_le_bytes(random::bytes()), next: 0 }
    }

    /// Stores the next part of `text`. Returns the text once all its parts are stored.
    pub(super) async fn step(
        &mut self,
        session: &Session,
        lease: &Lease,
        text: &str,
    ) -> Result<Option<StoredText>, Failure> {
        let size = text.len() as u64;
        let Some(part) = text.as_bytes().chunks(PART).nth(self.next) else {
            return Ok(Some(StoredText { id: self.id, size }));
        };
        // The statement before may have had its effect, though its answer was lost. Without a lease the task is not written either.
        let sql = format!(
            "INSERT INTO parts (id, n, bytes) SELECT $1::bigint, $2::int, $3::bytea WHERE {}
                ON CONFLICT (id, n) DO NOTHING",
            lease.held()
        );
        session.execute(&sql, &[self.id.into(), number(self.next).into(), part.into()]).await?;
        self.next += 1;
        Ok(None)
    }

    pub(super) fn id(&self) -> i64 {
        self.id
    }
}

/// The position of a part, or of a byte.
fn number(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Deletes the parts of a text, unless the task `task` names them.
pub(super) async fn delete_unnamed(
    session: &Session,
    lease: &Lease,
    text: i64,
    task: &str,
) -> Result<(), Failure> {
    let sql = format!(
        "DELETE FROM parts WHERE {} AND id = $1
            AND NOT EXISTS (SELECT FROM tasks WHERE id = $2 AND (request_text = $1 OR result_text = $1))",
        lease.held()
    );
    session.execute(&sql, &[text.into(), task.into()]).await.map(drop)
}

/// Deletes the parts that no task names: those of processes that died. Other hubs may be storing theirs.
pub(super) async fn delete_all_unnamed(session: &Session, hub: &str) -> Result<(), Failure> {
    let sql =
        "DELETE FROM parts WHERE NOT EXISTS (SELECT FROM hubs WHERE hubs.id = parts.hub AND hubs.id <> $1)
        AND id NOT IN (
            SELECT request_text FROM tasks WHERE request_text IS NOT NULL
            UNION ALL SELECT result_text FROM tasks WHERE result_text IS NOT NULL)";
    session.execute(sql, &[hub.into()]).await.map(drop)
}

/// Reads a task with all its texts. A text whose parts have been deleted meanwhile is missing.
pub(super) async fn whole(session: &Session, id: &str) -> Result<Option<DurableTask>, Failure> {
    let rows = session.query(tasks::WHOLE, &[id.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let read = || Ok((task_rows::task(row)?, row.field::<Option<u16>>("result_status")?));
    let (mut task, status) = read().map_err(Failure::Refused)?;
    if let Some(text) = named(row, "request").map_err(Failure::Refused)? {
        task.request = read_all(session, text).await?;
    }
    if let Some(text) = named(row, "result").map_err(Failure::Refused)? {
        task.result = status.zip(read_all(session, text).await?);
    }
    Ok(Some(task))
}

/// The text in parts that a row of `tasks` names.
fn named(row: &tokio_postgres::Row, what: &str) -> Result<Option<StoredText>, crate::store::StoreError> {
    let id: Option<i64> = row.field(&format!("{what}_text"))?;
    let size: Option<u64> = row.field(&format!("{what}_size"))?;
    Ok(id.zip(size).map(|(id, size)| StoredText { id, size }))
}

async fn read_all(session: &Session, text: StoredText) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::with_capacity(usize::try_from(text.size).unwrap_or(0));
    let sql = "SELECT bytes FROM parts WHERE id = $1 AND n = $2";
    for n in 0.. {
        let rows = session.query(sql, &[text.id.into(), number(n).into()]).await?;
        let Some(row) = rows.first() else { break };
        bytes.extend_from_slice(&row.field::<Vec<u8>>("bytes").map_err(Failure::Refused)?);
        if bytes.len() as u64 >= text.size {
            break;
        }
    }
    Ok(String::from_utf8(bytes).ok().filter(|found| found.len() as u64 == text.size))
}

/// Reads at most `max` bytes of a task's result from offset `at`. `None` without such a task or result.
pub(super) async fn result_part(
    session: &Session,
    id: &str,
    at: u64,
    max: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    // The first byte of a value is 1, and lengths are 32 bits.
    let from = i64::from(i32::try_from(at.saturating_add(1)).unwrap_or(i32::MAX));
    let most = i64::from(i32::try_from(max).unwrap_or(i32::MAX)).min(i64::from(i32::MAX) - from);
    let rows = session.query(tasks::RESULT_PART, &[id.into(), from.into(), most.into()]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let Some(text) = named(row, "result").map_err(Failure::Refused)? else {
        return row.field("part").map_err(Failure::Refused);
    };
    let end = at.saturating_add(max as u64).min(text.size);
    if end <= at {
        return Ok(Some(Vec::new()));
    }
    let sql = "SELECT substring(bytes FROM (greatest($2::bigint - n::bigint * 1048576, 0) + 1)::int
            FOR (least($3::bigint - n::bigint * 1048576, 1048576)
                - greatest($2::bigint - n::bigint * 1048576, 0))::int) AS part
        FROM parts WHERE id = $1 AND n BETWEEN $2::bigint / 1048576 AND ($3::bigint - 1) / 1048576 ORDER BY n";
    let mut part = Vec::new();
    for row in session.query(sql, &[text.id.into(), at.into(), end.into()]).await? {
        part.extend_from_slice(&row.field::<Vec<u8>>("part").map_err(Failure::Refused)?);
    }
    Ok(Some(part).filter(|part| part.len() as u64 == end - at))
}
