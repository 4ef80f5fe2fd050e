//! `get`: lists of what the hub holds.

use std::{collections::HashMap, time::Duration};

use actix_web::http::StatusCode;
use serde_json::Value;

use super::{columns::columns, rows::text, table::Table, whole::Whole};
use crate::{
    cli::{GetArgs, GetKind, Global, OutputFormat},
    client::{HubClient, encoded},
    exit::{Failure, Outcome},
    output,
};

/// Between two looks of `--watch`: soon enough for a person, light enough for a hub with many of them.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Tasks in a page of the hub's.
const PAGE: usize = 200;

/// Runs it.
pub(crate) async fn run(global: &Global, args: &GetArgs) -> Outcome {
    let hub = super::hub_client(global)?;
    let mut table = match args.output {
        // Who asks for more columns wants to see them.
        Some(OutputFormat::Wide) => Table::whole(columns(args.kind, true)),
        _ => Table::new(columns(args.kind, false)),
    };
    let mut whole = Whole::default();
    let answer = look(&hub, args, &mut whole).await?;
    if !args.watch {
        return print(args, &mut table, &answer);
    }
    let mut seen = HashMap::new();
    let mut answer: Result<Value, Failure> = Ok(answer);
    loop {
        match answer {
            Ok(answer) => {
                let changed = changed(&mut seen, answer);
                if !changed.is_empty() {
                    print(args, &mut table, &Value::Array(changed))?;
                }
            }
            // Whoever watches wants to see the hub come back.
            Err(failure) => output::note(format!("warning: {}", failure.text().unwrap_or_default())),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
        answer = look(&hub, args, &mut whole).await;
    }
}

/// Where the hub keeps them.
pub(crate) const fn collection(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "/api/v1/llms",
        GetKind::Agent => "/api/v1/agents",
        GetKind::Session => "/api/v1/sessions",
        GetKind::Task => "/api/v1/inference-tasks",
        GetKind::Pool => "/api/v1/pools",
        GetKind::Name => "/api/v1/names",
    }
}

/// The kind in the singular.
pub(crate) const fn singular(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "llm",
        GetKind::Agent => "agent",
        GetKind::Session => "session",
        GetKind::Task => "task",
        GetKind::Pool => "pool",
        GetKind::Name => "name",
    }
}

/// Several of them, for a sentence.
const fn plural(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "LLMs",
        GetKind::Agent => "agents",
        GetKind::Session => "sessions",
        GetKind::Task => "tasks",
        GetKind::Pool => "pools",
        GetKind::Name => "names",
    }
}

/// What is asked for, and as a document with all that is known of it: `apply` takes that back.
async fn look(hub: &HubClient, args: &GetArgs, whole: &mut Whole) -> Result<Value, Failure> {
    let answer = fetch(hub, args).await?;
    match (args.kind, args.output) {
        (GetKind::Agent, Some(OutputFormat::Json | OutputFormat::Yaml)) => whole.fill(hub, answer).await,
        _ => Ok(answer),
    }
}

async fn fetch(hub: &HubClient, args: &GetArgs) -> Result<Value, Failure> {
    let path = collection(args.kind);
    let Some(name) = &args.name else {
        return Ok(match args.kind {
            GetKind::Llm => hub.llms().await?,
            // Who watches wants what comes; whatever is older than a page has mostly ended.
            GetKind::Task => tasks(hub, if args.watch { 1 } else { usize::MAX }).await?,
            GetKind::Agent | GetKind::Session | GetKind::Pool | GetKind::Name => hub.get(path).await?,
        });
    };
    if args.kind == GetKind::Session {
        // A hub has no address for one session: it is found in the list.
        let all = hub.get(path).await?;
        let found = all.as_array().into_iter().flatten().find(|row| text(row, id_key(row)) == *name);
        return found.cloned().ok_or_else(|| missing(args.kind, name));
    }
    match hub.get(&format!("{path}/{}", encoded(name))).await {
        Ok(row) => Ok(row),
        Err(error) if error.is(StatusCode::NOT_FOUND) => Err(missing(args.kind, name)),
        Err(error) => Err(error.into()),
    }
}

/// The tasks of the newest `pages` pages. A hub that knows no pages gives all of them at once.
async fn tasks(hub: &HubClient, pages: usize) -> Result<Value, Failure> {
    let first = format!("{}?limit={PAGE}", collection(GetKind::Task));
    let mut path = first.clone();
    let mut all: Vec<Value> = Vec::new();
    for _ in 0..pages {
        let page = match hub.get(&path).await? {
            Value::Array(page) => page,
            other => return Ok(other),
        };
        let is_known = |task: &Value| all.iter().any(|known| known["id"] == task["id"]);
        if page.first().is_some_and(is_known) {
            break;
        }
        let is_last = page.len() != PAGE;
        all.extend(page);
        let Some(last) = all.last().filter(|_| !is_last) else { break };
        path = format!("{first}&before={},{}", encoded(&text(last, "createdAt")), encoded(&text(last, "id")));
    }
    Ok(Value::Array(all))
}

/// There is none of this name.
pub(super) fn missing(kind: GetKind, name: &str) -> Failure {
    let kind = singular(kind);
    Failure::failed(format!("there is no {kind} '{name}'; `virtual-llm get {kind}` lists them"))
}

fn print(args: &GetArgs, table: &mut Table, answer: &Value) -> Outcome {
    match args.output {
        None | Some(OutputFormat::Wide) => {
            let rows = rows_of(answer);
            if rows.is_empty() {
                output::note(format!("There are no {}.", plural(args.kind)));
                return Ok(());
            }
            for line in table.lines(rows) {
                output::line(line)?;
            }
            Ok(())
        }
        Some(OutputFormat::Json | OutputFormat::Yaml) => document(answer, args.output),
        Some(OutputFormat::Name) => {
            for row in rows_of(answer) {
                let name = if row["name"].is_string() { text(row, "name") } else { text(row, id_key(row)) };
                output::line(format!("{}/{name}", singular(args.kind)))?;
            }
            Ok(())
        }
    }
}

/// The hub's answer as it is: YAML if that is wanted, else JSON.
pub(super) fn document(answer: &Value, format: Option<OutputFormat>) -> Outcome {
    if format == Some(OutputFormat::Yaml) {
        return output::piece(output::yaml(answer).map_err(anyhow::Error::from)?);
    }
    let text = serde_json::to_string_pretty(answer).map_err(anyhow::Error::from)?;
    output::line(output::printable_json(&text))
}

/// One row, or the rows of a list.
fn rows_of(answer: &Value) -> &[Value] {
    match answer {
        Value::Array(rows) => rows,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    }
}

/// The rows that are new or differ from the last look.
fn changed(seen: &mut HashMap<String, Value>, answer: Value) -> Vec<Value> {
    let rows = match answer {
        Value::Array(rows) => rows,
        Value::Null => Vec::new(),
        one => vec![one],
    };
    rows.into_iter()
        .filter(|row| seen.insert(text(row, id_key(row)), shown(row)).as_ref() != Some(&shown(row)))
        .collect()
}

/// A row without what changes all the time: a heartbeat is no news.
fn shown(row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(map) = &mut row {
        map.remove("lastHeartbeatAt");
        map.remove("updatedAt");
    }
    row
}

/// The key of a row's id.
pub(super) fn id_key(row: &Value) -> &'static str {
    ["id", "providerSessionId"].into_iter().find(|key| row[*key].is_string()).unwrap_or("name")
}
