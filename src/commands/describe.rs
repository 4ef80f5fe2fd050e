//! `describe`: all data of an LLM, an agent, a pool or a task.

use serde_json::{Value, json};
use wire::ids::encode_uri_component;

use super::{
    cells::{age, capabilities, output_tokens, text},
    get::{collection, find, missing},
    hub_findings::waiting_text,
    limits,
    table::{Column, Table, column},
};
use crate::{
    cli::{DescribeArgs, DescribeKind, GetKind, Global},
    client::HubClient,
    exit::{Failure, Outcome},
    output,
};

pub(crate) async fn run(global: &Global, args: &DescribeArgs) -> Outcome {
    let hub = super::hub_client(global)?;
    let kind = match args.kind {
        DescribeKind::Llm => GetKind::Llm,
        DescribeKind::Agent => GetKind::Agent,
        DescribeKind::User => GetKind::User,
        DescribeKind::Token => GetKind::Token,
        DescribeKind::Pool => return pool(&hub, &args.name).await,
        DescribeKind::Task => return task(&hub, &args.name).await,
    };
    let Some(row) = find(&hub, kind, &args.name).await? else {
        // Callers name pools as they name LLMs.
        let is_pool = kind == GetKind::Llm && find_pool(&hub, &args.name).await?.is_some();
        return if is_pool { pool(&hub, &args.name).await } else { Err(missing(kind, &args.name)) };
    };
    fields(&row)?;
    if kind == GetKind::Llm {
        if let Some(text) = waiting_text(&row) {
            output::line(format!("\n{}", output::printable(&text)))?;
        }
        if let Some(pool) = row["poolName"].as_str() {
            members(&hub, pool, &row["name"]).await?;
        }
        tasks(&hub, &args.name).await?;
    }
    Ok(())
}

/// Most calls that are shown for one request id, which callers may repeat.
const MAX_CALLS: usize = 20;

/// Prints a task from the list of tasks and from the audit log. The list has the task until it is deleted; the audit log also
/// finds it by the id of its dispatch or of its request.
async fn task(hub: &HubClient, id: &str) -> Outcome {
    let listed = hub.find(&format!("{}/{}", collection(GetKind::Task), encode_uri_component(id))).await?;
    // A classic hub has no audit log.
    let audited =
        match hub.get(&format!("/api/v1/audit?limit={MAX_CALLS}&id={}", encode_uri_component(id))).await {
            Ok(Value::Array(rows)) => rows,
            Ok(_) => Vec::new(),
            Err(error) if error.status.is_some() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
    let mut rows = combined(id, listed, audited);
    if rows.is_empty() {
        return Err(missing(GetKind::Task, id));
    }
    for (i, row) in rows.iter_mut().enumerate() {
        if let Some(result) = row.as_object_mut().and_then(|row| row.remove("result")) {
            // The answer may be long; `get task ID -o json` prints it.
            row["resultStatus"] = result["status"].clone();
        }
        if i > 0 {
            output::line("")?;
        }
        fields(row)?;
    }
    Ok(())
}

/// Rows about `id`: the listed task with its rows of the audit log, else the calls with that id. Calls with `id` as their
/// request id are used only if there are no other rows, because callers choose their request ids.
fn combined(id: &str, listed: Option<Value>, audited: Vec<Value>) -> Vec<Value> {
    let (own, named): (Vec<_>, Vec<_>) =
        audited.into_iter().partition(|row| row["id"] == id || row["task"] == id);
    match listed {
        Some(listed) if own.is_empty() => vec![listed],
        Some(listed) => own.into_iter().map(|row| merged(&listed, renamed(row))).collect(),
        None if own.is_empty() => named.into_iter().map(renamed).collect(),
        None => own.into_iter().map(renamed).collect(),
    }
}

/// Renames the keys of a row of the audit log to those of a task.
fn renamed(mut row: Value) -> Value {
    if let Some(row) = row.as_object_mut() {
        for (from, to) in
            [("status", "httpStatus"), ("llm", "llmName"), ("publisher", "worker"), ("user", "ownerId")]
        {
            if let Some(value) = row.remove(from) {
                row.insert(to.to_owned(), value);
            }
        }
    }
    row
}

/// The listed row, and the keys that only the audit log has.
fn merged(listed: &Value, audited: Value) -> Value {
    let mut both = listed.clone();
    if let (Some(both), Value::Object(audited)) = (both.as_object_mut(), audited) {
        for (key, value) in audited {
            if both.get(&key).is_none_or(Value::is_null) {
                both.insert(key, value);
            }
        }
    }
    both
}

/// Prints every key of the row.
fn fields(row: &Value) -> Outcome {
    for (key, value) in row.as_object().into_iter().flatten() {
        let shown = match value {
            Value::String(moment) if key.ends_with("At") || key == "inactiveSince" => {
                format!("{} ({} ago)", output::printable(moment), age(row, key))
            }
            Value::Object(_) if key == "capabilities" => capabilities(row),
            Value::Array(_) if key == "models" => limits::models(row),
            _ => text(row, key),
        };
        output::line(format!("{:<22}{shown}", format!("{}:", title(key))))?;
    }
    Ok(())
}

/// A key as a title: `Provider Session Id` for `providerSessionId`.
fn title(key: &str) -> String {
    let mut title = String::with_capacity(key.len() + 4);
    for (i, c) in output::printable(key).chars().enumerate() {
        if c.is_ascii_uppercase() {
            title.push(' ');
        }
        title.push(if i == 0 { c.to_ascii_uppercase() } else { c });
    }
    title
}

/// The pool `name`; `None` also at a classic hub, which does not list pools.
async fn find_pool(hub: &HubClient, name: &str) -> Result<Option<Value>, Failure> {
    Ok(hub.find(&format!("{}/{}", collection(GetKind::Pool), encode_uri_component(name))).await?)
}

/// Prints a pool, its members, and the rows that wait to be admitted.
async fn pool(hub: &HubClient, name: &str) -> Outcome {
    let pool = find_pool(hub, name).await?.ok_or_else(|| missing(GetKind::Pool, name))?;
    fields(&json!({ "name": pool["name"], "ownerId": pool["ownerId"] }))?;
    members(hub, name, &Value::Null).await?;
    let waiting = pool["waiting"].as_array().map(Vec::as_slice).unwrap_or_default();
    if waiting.is_empty() {
        return Ok(());
    }
    output::line("\nWaiting to be admitted (`virtual-llm pool admit`):")?;
    let columns = vec![column("NAME", |row| text(row, "name")), column("OWNER", |row| text(row, "ownerId"))];
    output::lines(Table::new(columns).lines(waiting).into_iter().map(|line| format!("  {line}")))
}

/// Prints the members of the pool `name`, with a mark at the row named `described`.
async fn members(hub: &HubClient, name: &str, described: &Value) -> Outcome {
    let Some(pool) = hub.find(&format!("/api/v1/llms/{}/members", encode_uri_component(name))).await? else {
        return Ok(());
    };
    output::line(format!(
        "\nPool {} ({} of {} active):",
        output::printable(name),
        text(&pool, "activeCount"),
        text(&pool, "size")
    ))?;
    let mut columns = vec![
        column("NAME", |row| text(row, "name")),
        column("KIND", |row| text(row, "kind")),
        column("STATUS", |row| text(row, "status")),
    ];
    if pool["cacheHitPercent"].is_u64() {
        output::line(format!("  {} of 100 prompt tokens cached", text(&pool, "cacheHitPercent")))?;
        columns.push(column("CACHED-%", |row| text(row, "cacheHitPercent")));
    }
    let mut table = Table::new(columns);
    let members = pool["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = table.lines(members).into_iter();
    if let Some(heads) = lines.next() {
        output::line(format!("  {heads}"))?;
    }
    for (line, member) in lines.zip(members) {
        let mark = if member["name"] == *described { "   ← this row" } else { "" };
        output::line(format!("  {line}{mark}"))?;
    }
    Ok(())
}

/// Prints the newest tasks. A classic hub does not list them.
async fn tasks(hub: &HubClient, name: &str) -> Outcome {
    let answer = match hub.get(&format!("/api/v1/llms/{}/tasks?limit=10", encode_uri_component(name))).await {
        Ok(answer) => answer,
        Err(error) if error.status.is_some() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let rows =
        answer["tasks"].as_array().or_else(|| answer.as_array()).map(Vec::as_slice).unwrap_or_default();
    if rows.is_empty() {
        return output::line("\nRecent tasks: none");
    }
    output::line("\nRecent tasks:")?;
    let mut table = Table::new(columns());
    output::lines(table.lines(rows).into_iter().map(|line| format!("  {line}")))
}

fn columns() -> Vec<Column> {
    vec![
        column("ID", |row| text(row, "id")),
        column("STATUS", |row| text(row, "status")),
        column("CODE", |row| text(row, "code")),
        column("FIRST-MS", |row| text(row, "firstByteMs")),
        column("MS", |row| text(row, "totalMs")),
        column("TOKENS", output_tokens),
        column("AGE", |row| age(row, "createdAt")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_task_has_the_listed_values_and_others_from_the_audit_log() {
        let listed = json!({ "id": "inf-1", "status": "error", "llm": "pool", "llmName": null });
        let audited =
            json!({ "id": "inf-1", "status": 502, "llm": "row", "code": "interrupted", "publisher": null });
        assert_eq!(
            super::merged(&listed, super::renamed(audited)),
            json!({ "id": "inf-1", "status": "error", "llm": "pool", "llmName": "row", "code": "interrupted",
                "httpStatus": 502, "worker": null })
        );
    }

    #[test]
    fn calls_with_a_request_id_of_a_task_are_not_shown_as_the_task() {
        let named = json!({ "id": "inf-2", "task": "task-2", "requestId": "task-1", "user": "mallory" });
        let own = json!({ "id": "inf-1", "task": "task-1", "requestId": "r", "user": "bob" });
        let both = vec![named.clone(), own.clone(), named.clone()];
        let users = |id: &str, listed: Option<serde_json::Value>, rows: &[serde_json::Value]| -> Vec<_> {
            super::combined(id, listed, rows.to_vec()).iter().map(|row| row["ownerId"].clone()).collect()
        };
        assert_eq!(users("task-1", None, &both), ["bob"]);
        let listed = json!({ "id": "task-1", "ownerId": "bob" });
        assert_eq!(users("task-1", Some(listed.clone()), &both), ["bob"]);
        assert_eq!(
            super::combined("task-1", Some(listed.clone()), vec![named.clone()]),
            [listed],
            "as it is listed"
        );
        let calls = [named.clone(), named];
        assert_eq!(users("task-1", None, &calls), ["mallory", "mallory"], "a request id of two calls");
        assert!(users("r", None, &[]).is_empty());
    }

    #[test]
    fn a_key_is_shown_as_a_title() {
        assert_eq!(super::title("providerSessionId"), "Provider Session Id");
        assert_eq!(super::title("name"), "Name");
    }
}
