//! Queries for audit records.

use rusqlite::{Connection, ToSql, params_from_iter};

use super::{AuditQuery, limit_of, rows};
use crate::model::AuditRecord;

/// Number of the newest records scanned for conditions without an index. Takes some 100 ms.
const MAX_SCANNED: usize = 200_000;

/// The newest audit records that match. For a query by id, inferences and tasks with that id come before requests to which a
/// caller gave it.
pub(super) fn audit(conn: &Connection, query: AuditQuery) -> rows::Result<Vec<AuditRecord>> {
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
    rows::all(conn, &sql, params_from_iter(values), rows::audit)
}
