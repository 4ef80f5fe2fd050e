//! `describe`: everything that is known of one LLM or agent.

use actix_web::http::StatusCode;
use serde_json::Value;

use super::{
    get::{collection, missing},
    rows::{age, text},
    table::{Column, Table, column},
};
use crate::{
    cli::{DescribeArgs, DescribeKind, GetKind, Global},
    client::{HubClient, encoded},
    exit::Outcome,
    output,
};

/// Runs it.
pub(crate) async fn run(global: &Global, args: &DescribeArgs) -> Outcome {
    let hub = super::hub_client(global)?;
    let kind = match args.kind {
        DescribeKind::Llm => GetKind::Llm,
        DescribeKind::Agent => GetKind::Agent,
    };
    let row = match hub.get(&format!("{}/{}", collection(kind), encoded(&args.name))).await {
        Ok(row) => row,
        Err(error) if error.is(StatusCode::NOT_FOUND) => return Err(missing(kind, &args.name)),
        Err(error) => return Err(error.into()),
    };
    fields(&row)?;
    if kind == GetKind::Llm {
        pool(&hub, &row).await?;
        tasks(&hub, &args.name).await?;
    }
    Ok(())
}

/// Every key of the row, the names in one column.
fn fields(row: &Value) -> Outcome {
    for (key, value) in row.as_object().into_iter().flatten() {
        let shown = match value {
            Value::String(moment) if key.ends_with("At") || key == "inactiveSince" => {
                format!("{} ({} ago)", output::printable(moment), age(row, key))
            }
            _ => text(row, key),
        };
        output::line(format!("{:<22}{shown}", format!("{}:", title(key))))?;
    }
    Ok(())
}

/// `providerSessionId` as a person reads it: `Provider Session Id`.
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

/// The pool with each member, if the row has joined one.
async fn pool(hub: &HubClient, row: &Value) -> Outcome {
    let Some(name) = row["poolName"].as_str() else { return Ok(()) };
    let pool = match hub.get(&format!("/api/v1/llms/{}/members", encoded(name))).await {
        Ok(pool) => pool,
        // It went while we looked.
        Err(error) if error.is(StatusCode::NOT_FOUND) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    output::line(format!(
        "\nPool {} ({} of {} active):",
        output::printable(name),
        text(&pool, "activeCount"),
        text(&pool, "size")
    ))?;
    let mut table = Table::new(vec![
        column("NAME", |row| text(row, "name")),
        column("KIND", |row| text(row, "kind")),
        column("STATUS", |row| text(row, "status")),
    ]);
    let members = pool["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = table.lines(members).into_iter();
    if let Some(heads) = lines.next() {
        output::line(format!("  {heads}"))?;
    }
    for (line, member) in lines.zip(members) {
        let mark = if member["name"] == row["name"] { "   ← this row" } else { "" };
        output::line(format!("  {line}{mark}"))?;
    }
    Ok(())
}

/// The newest tasks; a classic hub does not tell them.
async fn tasks(hub: &HubClient, name: &str) -> Outcome {
    let answer = match hub.get(&format!("/api/v1/llms/{}/tasks?limit=10", encoded(name))).await {
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
    table.lines(rows).into_iter().try_for_each(|line| output::line(format!("  {line}")))
}

fn columns() -> Vec<Column> {
    vec![
        column("ID", |row| text(row, "id")),
        column("STATUS", |row| text(row, "status")),
        column("FIRST-MS", |row| text(row, "firstByteMs")),
        column("MS", |row| text(row, "totalMs")),
        column("TOKENS", |row| text(row, "outputTokens")),
        column("AGE", |row| age(row, "createdAt")),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_key_reads_as_words() {
        assert_eq!(super::title("providerSessionId"), "Provider Session Id");
        assert_eq!(super::title("name"), "Name");
    }
}
