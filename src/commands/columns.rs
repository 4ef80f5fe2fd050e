//! Columns of `get`.

use serde_json::Value;

use super::{
    cells::{age, capabilities, output_tokens, text},
    get::id_key,
    limits,
    table::{Column, column},
};
use crate::{cli::GetKind, output};

pub(super) fn columns(kind: GetKind, is_wide: bool) -> Vec<Column> {
    let mut columns = match kind {
        GetKind::Llm => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("POOL", pool).cut().droppable(6),
            column("KIND", |row| text(row, "kind")).droppable(5),
            column("STATUS", |row| text(row, "status")),
            column("TYPE", |row| text(row, "type")).droppable(3),
            column("MODEL", |row| text(row, "model")).cut(),
            column("TIER", |row| text(row, "tier")).droppable(2),
            column("VISIBILITY", |row| text(row, "visibility")).droppable(7),
            column("AGE", |row| age(row, "createdAt")).droppable(4),
            column("ID", |row| text(row, "id")).droppable(1),
        ],
        GetKind::Agent => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("LLM", |row| text(row, "llmName")).cut(),
            column("KIND", |row| text(row, "kind")).droppable(3),
            column("STATUS", |row| text(row, "status")),
            column("PROJECT", |row| text(row, "project")).cut().droppable(4),
            column("VISIBILITY", |row| text(row, "visibility")).droppable(5),
            column("AGE", |row| age(row, "createdAt")).droppable(2),
            column("ID", |row| text(row, "id")).droppable(1),
        ],
        GetKind::Session => vec![
            column("ID", |row| text(row, id_key(row))).cut(),
            column("OWNER", |row| text(row, "ownerId")).cut(),
            column("STATUS", |row| text(row, "status")),
            column("LLMS", |row| names(&row["llms"])).cut(),
            column("HEARTBEAT", |row| age(row, "lastHeartbeatAt")).droppable(1),
            column("AGE", |row| age(row, "createdAt")).droppable(2),
        ],
        GetKind::Task => vec![
            // Never cut: `get task ID` needs it.
            column("ID", |row| text(row, "id")),
            column("STATUS", |row| text(row, "status")),
            column("POOL", |row| text(row, "poolName")).cut().droppable(4),
            column("LLM", |row| text(row, "llmName")).cut(),
            column("MODEL", |row| text(row, "model")).cut().droppable(3),
            column("STREAM", |row| text(row, "streaming")).droppable(1),
            column("AGE", |row| age(row, "createdAt")),
            column("WORKER", |row| text(row, "worker")).cut().droppable(2),
        ],
        GetKind::Pool => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("OWNER", |row| text(row, "ownerId")).cut(),
            column("LLMS", |row| names(&row["members"])).cut(),
            column("WAITING", |row| names(&row["waiting"])).cut(),
        ],
        GetKind::Name => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("OWNER", |row| text(row, "ownerId")).cut(),
            column("USED-BY", |row| names(&row["usedBy"])),
            column("LEFT", |row| age(row, "leftAt")),
            column("FREE-AT", |row| text(row, "freeAt")).droppable(1),
        ],
        GetKind::Alias => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("TARGET", |row| text(row, "target")).cut(),
            column("STATUS", |row| text(row, "status")),
            column("USER", alias_user),
            column("AGE", |row| age(row, "createdAt")).droppable(1),
        ],
        GetKind::User => vec![
            column("NAME", |row| text(row, "name")).cut(),
            column("ROLE", |row| text(row, "role")).droppable(3),
            column("TOKENS", |row| text(row, "tokens")).droppable(1),
        ],
        // Never cut: `token set ID` needs it.
        GetKind::Token => vec![
            column("ID", |row| text(row, "id")),
            column("USER", |row| text(row, "user")).cut(),
            column("ROLE", |row| text(row, "role")).droppable(3),
            column("EXPIRES", |row| text(row, "expiresAt")).droppable(2),
            column("REVOKED", |row| text(row, "revokedAt")).droppable(5),
        ],
        GetKind::Hub => vec![
            column("ID", |row| text(row, "id")),
            column("BOOT", |row| text(row, "boot")).droppable(2),
            column("STATE", |row| text(row, "state")),
            column("NATS", |row| text(row, "nats")),
            column("STORE", |row| text(row, "store")),
            column("CHANNELS", |row| text(row, "channels")),
            column("CALLS", |row| text(row, "calls")),
            column("TABLE", |row| text(row, "table")).droppable(3),
            column("VERSION", |row| text(row, "version")).droppable(4),
            column("AGE", |row| age(row, "startedAt")),
            column("RENEWED", |row| age(row, "renewedAt")).droppable(1),
        ],
    };
    if matches!(kind, GetKind::User | GetKind::Token) {
        columns.extend(limits::columns());
        columns.push(column("AGE", |row| age(row, "createdAt")).droppable(2));
    }
    if is_wide {
        columns.extend(match kind {
            GetKind::Llm => vec![
                column("CONTEXT", |row| text(row, "contextLength")),
                column("CAN", capabilities),
                column("OWNER", |row| text(row, "ownerId")),
                column("SESSION", |row| text(row, "providerSessionId")),
                column("HEARTBEAT", |row| age(row, "lastHeartbeatAt")),
                column("DESCRIPTION", |row| text(row, "description")),
            ],
            GetKind::Agent => vec![
                column("OWNER", |row| text(row, "ownerId")),
                column("SESSION", |row| text(row, "providerSessionId")),
                column("DESCRIPTION", |row| text(row, "description")),
            ],
            GetKind::Session => vec![column("FEATURES", |row| names(&row["features"]))],
            GetKind::Hub => vec![
                column("TERM", |row| text(row, "term")),
                column("LEASE-UNTIL", |row| text(row, "leaseUntil")),
                column("HERE", |row| text(row, "here")),
            ],
            GetKind::Pool | GetKind::Name | GetKind::Alias | GetKind::User | GetKind::Token => Vec::new(),
            GetKind::Task => vec![
                column("IN", |row| text(row, "inputTokens")),
                column("CACHED", |row| text(row, "cachedTokens")),
                column("OUT", output_tokens),
                column("OWNER", |row| text(row, "ownerId")),
                column("CODE", |row| text(row, "code")),
                column("ERROR", |row| text(row, "error")),
            ],
        });
    }
    columns
}

/// Columns of calls that failed at LLMs of the caller.
pub(super) fn owned_tasks(is_wide: bool) -> Vec<Column> {
    let mut columns = vec![
        // Never cut: `describe task ID` needs it.
        column("ID", |row| text(row, "id")),
        column("USER", |row| text(row, "ownerId")).cut(),
        column("LLM", |row| text(row, "llmName")).cut(),
        column("CODE", |row| text(row, "code")),
        column("AGE", |row| age(row, "createdAt")),
    ];
    if is_wide {
        columns.extend([
            column("MODEL", |row| text(row, "model")),
            column("STREAM", |row| text(row, "streaming")),
            column("IN", |row| text(row, "inputTokens")),
            column("CACHED", |row| text(row, "cachedTokens")),
            column("OUT", output_tokens),
            column("WORKER", |row| text(row, "worker")),
        ]);
    }
    columns.push(column("ERROR", |row| text(row, "error")).cut().droppable(1));
    columns
}

/// The user whose calls an alias serves.
fn alias_user(row: &Value) -> String {
    if row["user"].is_null() { "(all)".to_owned() } else { text(row, "user") }
}

/// The row's pool, marked if the row waits for admission.
fn pool(row: &Value) -> String {
    let pool = text(row, "poolName");
    if row["waitsFor"].is_string() { format!("{pool} (waits)") } else { pool }
}

/// A list of names, or of rows with names.
fn names(list: &Value) -> String {
    let names: Vec<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item.as_str().or_else(|| item["name"].as_str()))
        .map(output::printable)
        .collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}
