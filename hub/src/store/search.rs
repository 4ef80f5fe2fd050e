//! Audit records to and from table rows, and queries for them.

use rusqlite::{Connection, Result};

use super::columns::{Column, StoredRow, StoredValue, columns, selected};
use super::{AuditQuery, limit_of};
use crate::model::AuditRecord;

/// Number of the newest records scanned for conditions without an index. Takes some 100 ms.
const MAX_SCANNED: usize = 200_000;

/// SQL that reads the newest audit records that match, with `?` for each of the values. For a query by id, inferences and
/// tasks with that id come before requests to which a caller gave it.
pub(super) fn select(query: AuditQuery) -> (String, Vec<StoredValue>) {
    // One statement for each set of conditions: `?1 IS NULL OR …` would use no index.
    let mut values = Vec::new();
    let mut indexed = Vec::new();
    let mut scanned = Vec::new();
    if let Some(user) = query.user {
        indexed.push("\"user\" = ?");
        values.push(StoredValue::Text(user));
    }
    if let Some(owner) = query.owner {
        // The conditions of the index.
        indexed.push("owner = ? AND code IS NOT NULL AND code <> 'caller_left'");
        values.push(StoredValue::Text(owner));
    }
    match query.llm {
        Some(llm) if query.as_member => {
            scanned.push("coalesce(through, llm) = ?");
            values.push(StoredValue::Text(llm));
        }
        Some(llm) => {
            indexed.push("llm = ?");
            values.push(StoredValue::Text(llm));
        }
        None => (),
    }
    let mut order = "seq DESC";
    if let Some(id) = &query.id {
        scanned.push("? IN (id, task, request_id)");
        values.push(StoredValue::Text(id.clone()));
    }
    if let Some(since) = query.since {
        let conditions = if scanned.is_empty() { &mut indexed } else { &mut scanned };
        conditions.push("created_at >= ?");
        values.push(StoredValue::Integer(since.0));
    }
    if let Some(id) = query.id {
        order = "? IN (id, task) DESC, seq DESC";
        values.push(StoredValue::Text(id));
    }
    values.push(StoredValue::Integer(limit_of(query.limit)));
    let filter = |conditions: &[&str]| match conditions {
        [] => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let select = format!("SELECT * FROM audit {} ORDER BY seq DESC LIMIT", filter(&indexed));
    let sql = if scanned.is_empty() {
        format!("{select} ?")
    } else {
        let newest = format!("{select} {MAX_SCANNED}");
        format!("SELECT * FROM ({newest}) AS newest {} ORDER BY {order} LIMIT ?", filter(&scanned))
    };
    (sql, values)
}

/// Reads the records of `query` from `SQLite`.
pub(super) fn audit(conn: &Connection, query: AuditQuery) -> Result<Vec<AuditRecord>> {
    selected(conn, select(query), |row| record(row))
}

pub(super) fn audit_columns(record: &AuditRecord) -> Vec<Column<'_>> {
    columns![
        "task" => &record.task,
        "user" => &record.user,
        "llm" => &record.llm,
        "model" => &record.model,
        "publisher" => &record.publisher,
        "streaming" => record.streaming,
        "status" => record.status,
        "created_at" => record.created_at,
        "first_byte_ms" => record.first_byte_ms,
        "total_ms" => record.total_ms,
        "input_tokens" => record.tokens.input,
        "cached_tokens" => record.tokens.cached,
        "output_tokens" => record.tokens.output,
        "counted" => record.tokens.is_counted,
        "through" => &record.through,
        "id" => &record.id,
        "request_id" => &record.request_id,
        "code" => &record.code,
        "address" => record.address.map(|address| address.to_string()),
        "owner" => &record.owner,
    ]
}

pub(super) fn record<R: StoredRow>(row: &R) -> Result<AuditRecord, R::Error> {
    let address: Option<String> = row.field("address")?;
    Ok(AuditRecord {
        id: row.field("id")?,
        address: address.and_then(|address| address.parse().ok()),
        request_id: row.field("request_id")?,
        code: row.field("code")?,
        task: row.field("task")?,
        user: row.field("user")?,
        llm: row.field("llm")?,
        owner: row.field("owner")?,
        through: row.field("through")?,
        model: row.field("model")?,
        publisher: row.field("publisher")?,
        streaming: row.field("streaming")?,
        status: row.field("status")?,
        created_at: row.field("created_at")?,
        first_byte_ms: row.field("first_byte_ms")?,
        total_ms: row.field::<Option<u64>>("total_ms")?.unwrap_or(0),
        tokens: row.tokens()?.unwrap_or_default(),
    })
}
