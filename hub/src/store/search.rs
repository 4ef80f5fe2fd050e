//! Searches of the audit: they read up to 200,000 rows.

use rusqlite::{Connection, ToSql, params_from_iter};

use super::sqlite::limit_of;
use super::{AuditQuery, rows};
use crate::model::AuditRecord;

/// So many of the newest rows are searched for what has no index: some 100 ms.
const SEARCHED: usize = 200_000;

/// The newest audit records that fit; of those with an id, calls and tasks of that id before what callers named so.
pub(super) fn audit(conn: &Connection, wanted: AuditQuery) -> rows::Result<Vec<AuditRecord>> {
    // Only what is asked for stands in the statement: with `?1 IS NULL OR …` no index would be used.
    let mut values: Vec<Box<dyn ToSql>> = Vec::new();
    // What an index finds.
    let mut found = Vec::new();
    // What is looked for in the newest of those.
    let mut looked_for = Vec::new();
    if let Some(user) = wanted.user {
        found.push("user = ?");
        values.push(Box::new(user));
    }
    match wanted.llm {
        Some(llm) if wanted.as_member => {
            looked_for.push("coalesce(through, llm) = ?");
            values.push(Box::new(llm));
        }
        Some(llm) => {
            found.push("llm = ?");
            values.push(Box::new(llm));
        }
        None => (),
    }
    let mut order = "seq DESC";
    if let Some(id) = &wanted.id {
        looked_for.push("? IN (id, task, request_id)");
        values.push(Box::new(id.clone()));
    }
    if let Some(since) = wanted.since {
        let conditions = if looked_for.is_empty() { &mut found } else { &mut looked_for };
        conditions.push("created_at >= ?");
        values.push(Box::new(since.0));
    }
    if let Some(id) = wanted.id {
        order = "? IN (id, task) DESC, seq DESC";
        values.push(Box::new(id));
    }
    values.push(Box::new(limit_of(wanted.limit)));
    let filter = |conditions: &[&str]| match conditions {
        [] => String::new(),
        some => format!("WHERE {}", some.join(" AND ")),
    };
    let found = format!("SELECT * FROM audit {} ORDER BY seq DESC LIMIT", filter(&found));
    let sql = if looked_for.is_empty() {
        format!("{found} ?")
    } else {
        let newest = format!("{found} {SEARCHED}");
        format!("SELECT * FROM ({newest}) {} ORDER BY {order} LIMIT ?", filter(&looked_for))
    };
    rows::all(conn, &sql, params_from_iter(values), rows::audit)
}
