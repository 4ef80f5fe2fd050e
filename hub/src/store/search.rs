//! Audit records to and from table rows, and queries for them.

use rusqlite::{Connection, Result, Row, ToSql, params_from_iter};

use super::columns::{Column, all, insert, maybe_count, maybe_tokens, time, to_i64};
use super::{AuditQuery, limit_of};
use crate::model::AuditRecord;

/// Number of the newest records scanned for conditions without an index. Takes some 100 ms.
const MAX_SCANNED: usize = 200_000;

/// The newest audit records that match. For a query by id, inferences and tasks with that id come before requests to which a
/// caller gave it.
pub(super) fn audit(conn: &Connection, query: AuditQuery) -> Result<Vec<AuditRecord>> {
    // One statement for each set of conditions: `?1 IS NULL OR …` would use no index.
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    let mut indexed = Vec::new();
    let mut scanned = Vec::new();
    if let Some(user) = query.user {
        indexed.push("user = ?");
        values.push(Box::new(user));
    }
    match query.llm {
        Some(llm) if query.as_member => {
            scanned.push("coalesce(through, llm) = ?");
            values.push(Box::new(llm));
        }
        Some(llm) => {
            indexed.push("llm = ?");
            values.push(Box::new(llm));
        }
        None => (),
    }
    let mut order = "seq DESC";
    if let Some(id) = &query.id {
        scanned.push("? IN (id, task, request_id)");
        values.push(Box::new(id.clone()));
    }
    if let Some(since) = query.since {
        let conditions = if scanned.is_empty() { &mut indexed } else { &mut scanned };
        conditions.push("created_at >= ?");
        values.push(Box::new(since.0));
    }
    if let Some(id) = query.id {
        order = "? IN (id, task) DESC, seq DESC";
        values.push(Box::new(id));
    }
    values.push(Box::new(limit_of(query.limit)));
    let filter = |conditions: &[&str]| match conditions {
        [] => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let select = format!("SELECT * FROM audit {} ORDER BY seq DESC LIMIT", filter(&indexed));
    let sql = if scanned.is_empty() {
        format!("{select} ?")
    } else {
        let newest = format!("{select} {MAX_SCANNED}");
        format!("SELECT * FROM ({newest}) {} ORDER BY {order} LIMIT ?", filter(&scanned))
    };
    all(conn, &sql, params_from_iter(values), record)
}

pub(super) fn put_audit(conn: &Connection, record: &AuditRecord) -> Result<()> {
    let columns: &[Column<'_>] = &[
        ("task", &record.task),
        ("user", &record.user),
        ("llm", &record.llm),
        ("model", &record.model),
        ("publisher", &record.publisher),
        ("streaming", &record.streaming),
        ("status", &record.status),
        ("created_at", &record.created_at.0),
        ("first_byte_ms", &record.first_byte_ms.map(to_i64)),
        ("total_ms", &to_i64(record.total_ms)),
        ("input_tokens", &record.tokens.input.map(to_i64)),
        ("cached_tokens", &record.tokens.cached.map(to_i64)),
        ("output_tokens", &record.tokens.output.map(to_i64)),
        ("counted", &record.tokens.is_counted),
        ("through", &record.through),
        ("id", &record.id),
        ("request_id", &record.request_id),
        ("code", &record.code),
        ("address", &record.address.map(|address| address.to_string())),
    ];
    insert(conn, "audit", columns, "")
}

pub(super) fn record(row: &Row<'_>) -> Result<AuditRecord> {
    let address: Option<String> = row.get("address")?;
    Ok(AuditRecord {
        id: row.get("id")?,
        address: address.and_then(|address| address.parse().ok()),
        request_id: row.get("request_id")?,
        code: row.get("code")?,
        task: row.get("task")?,
        user: row.get("user")?,
        llm: row.get("llm")?,
        through: row.get("through")?,
        model: row.get("model")?,
        publisher: row.get("publisher")?,
        streaming: row.get("streaming")?,
        status: row.get("status")?,
        created_at: time(row, "created_at")?,
        first_byte_ms: maybe_count(row, "first_byte_ms")?,
        total_ms: maybe_count(row, "total_ms")?.unwrap_or(0),
        tokens: maybe_tokens(row)?.unwrap_or_default(),
    })
}
