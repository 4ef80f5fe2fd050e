//! `user`, and the limits of users and tokens.

use actix_web::http::Method;
use serde_json::{Map, Value, json};
use wire::ids::encode_uri_component;

use super::{
    cells::text,
    get::{collection, missing},
    table::{Column, column},
};
use crate::{
    cli::{GetKind, Global, LimitArgs, UserCommand},
    client::HubClient,
    exit::{Failure, Outcome},
    output,
};

pub(crate) async fn run(global: &Global, command: &UserCommand) -> Outcome {
    let UserCommand::Set { name, limits } = command;
    set(&super::hub_client(global)?, GetKind::User, name, limits).await
}

/// Changes the limits of a user or a token, and prints them.
pub(super) async fn set(hub: &HubClient, kind: GetKind, name: &str, limits: &LimitArgs) -> Outcome {
    let wanted = members(limits);
    if wanted.is_empty() {
        return Err(Failure::usage(
            "name a limit to set: --models, --tokens-per-day, --requests-per-minute or --max-concurrent",
        ));
    }
    let path = format!("{}/{}/limits", collection(kind), encode_uri_component(name));
    match hub.call(Method::PATCH, &path, Some(&Value::Object(wanted))).await {
        Err(error) if error.is(actix_web::http::StatusCode::NOT_FOUND) => Err(missing(kind, name)),
        Err(error) => Err(error.into()),
        Ok(row) => output::line(format!("{}/{name}: {}", super::get::singular(kind), summary(&row))),
    }
}

/// The given limits as members of a request.
pub(super) fn members(limits: &LimitArgs) -> Map<String, Value> {
    let LimitArgs { models, tokens_per_day, requests_per_minute, max_concurrent } = limits;
    let mut members = Map::new();
    if let Some(models) = models {
        members.insert("models".to_owned(), json!(models));
    }
    for (name, limit) in [
        ("tokensPerDay", tokens_per_day),
        ("requestsPerMinute", requests_per_minute),
        ("maxConcurrent", max_concurrent),
    ] {
        if let Some(limit) = limit {
            members.insert(name.to_owned(), json!(limit.0));
        }
    }
    members
}

/// The limits of a row in words.
pub(super) fn summary(row: &Value) -> String {
    let mut words = Vec::new();
    if row["models"].is_array() {
        words.push(format!("models {}", models(row)));
    }
    for (name, unit) in [
        ("tokensPerDay", "tokens a day"),
        ("requestsPerMinute", "requests a minute"),
        ("maxConcurrent", "calls at a time"),
    ] {
        if let Some(limit) = row[name].as_u64() {
            let unit = if limit == 1 { unit.replacen("s ", " ", 1) } else { unit.to_owned() };
            words.push(format!("{limit} {unit}"));
        }
    }
    if words.is_empty() { "no limits".to_owned() } else { words.join(", ") }
}

/// The patterns of models, separated by commas; `-` for all.
pub(super) fn models(row: &Value) -> String {
    let patterns = row["models"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let patterns: Vec<_> = patterns.map(output::printable).collect();
    if patterns.is_empty() { "-".to_owned() } else { patterns.join(",") }
}

/// Columns of limits, and of the tokens used today.
pub(super) fn columns() -> Vec<Column> {
    vec![
        column("MODELS", models).cut().droppable(7),
        column("TOKENS/DAY", |row| text(row, "tokensPerDay")).droppable(6),
        column("TODAY", |row| text(row, "tokensToday")).droppable(4),
        column("REQUESTS/MIN", |row| text(row, "requestsPerMinute")).droppable(6),
        column("CONCURRENT", |row| text(row, "maxConcurrent")).droppable(6),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_told_in_words() {
        let row = json!({ "models": ["a", "b*"], "tokensPerDay": 5, "requestsPerMinute": null, "maxConcurrent": 1 });
        assert_eq!(summary(&row), "models a,b*, 5 tokens a day, 1 call at a time");
        assert_eq!(summary(&json!({})), "no limits");
    }
}
