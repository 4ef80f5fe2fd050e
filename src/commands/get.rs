//! `get`: lists objects of the hub.

use std::{collections::HashMap, time::Duration};

use serde_json::Value;
use wire::ids::encode_uri_component;

use super::{
    account,
    agent_details::AgentDetails,
    cells::{rows, text},
    columns::{columns, owned_tasks},
    llm_state,
    table::Table,
    wait,
};
use crate::{
    cli::{GetArgs, GetKind, Global, OutputFormat},
    client::HubClient,
    exit::{Failure, Outcome},
    output,
};

/// Interval of the requests of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Number of tasks in a page of the hub's list.
const PAGE: usize = 200;

pub(crate) async fn run(global: &Global, args: &GetArgs) -> Outcome {
    check(args)?;
    let hub = super::hub_client(global)?;
    if let Some(id) = args.name.as_deref().filter(|_| args.wait) {
        return wait::run(&hub, id, args.output).await;
    }
    let mut table = match args.output {
        Some(OutputFormat::Wide) if args.owned => Table::unlimited(owned_tasks(true)),
        _ if args.owned => Table::new(owned_tasks(false)),
        Some(OutputFormat::Wide) => Table::unlimited(columns(args.kind, true)),
        _ => Table::new(columns(args.kind, false)),
    };
    let mut details = AgentDetails::default();
    let answer = fetch(&hub, args, &mut details).await?;
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
            // The hub may become reachable again.
            Err(failure) => output::note(format!("warning: {}", failure.text().unwrap_or_default())),
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
        answer = fetch(&hub, args, &mut details).await;
    }
}

/// Refuses options that the kind has not.
fn check(args: &GetArgs) -> Outcome {
    let wrong = |option: &str, of: &str| Err(Failure::usage(format!("{option} is for {of}")));
    match args.kind {
        GetKind::Hub | GetKind::User if args.mine => wrong("--mine", "what users own"),
        kind if args.status.is_some() && kind != GetKind::Llm => wrong("--status", "`get llm`"),
        kind if args.owned && kind != GetKind::Task => wrong("--owned", "`get task`"),
        kind if args.wait && kind != GetKind::Task => wrong("--wait", "`get task ID`"),
        _ => Ok(()),
    }
}

/// Path of the list.
pub(crate) const fn collection(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "/api/v1/llms",
        GetKind::Agent => "/api/v1/agents",
        GetKind::Session => "/api/v1/sessions",
        GetKind::Task => "/api/v1/inference-tasks",
        GetKind::Pool => "/api/v1/pools",
        GetKind::Name => "/api/v1/names",
        GetKind::Alias => "/api/v1/aliases",
        GetKind::User => "/api/v1/users",
        GetKind::Token => "/api/v1/tokens",
        GetKind::Hub => "/api/v1/cluster",
    }
}

pub(crate) const fn singular(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "llm",
        GetKind::Agent => "agent",
        GetKind::Session => "session",
        GetKind::Task => "task",
        GetKind::Pool => "pool",
        GetKind::Name => "name",
        GetKind::Alias => "alias",
        GetKind::User => "user",
        GetKind::Token => "token",
        GetKind::Hub => "hub",
    }
}

const fn plural(kind: GetKind) -> &'static str {
    match kind {
        GetKind::Llm => "LLMs",
        GetKind::Agent => "agents",
        GetKind::Session => "sessions",
        GetKind::Task => "tasks",
        GetKind::Pool => "pools",
        GetKind::Name => "names",
        GetKind::Alias => "aliases",
        GetKind::User => "users",
        GetKind::Token => "tokens",
        GetKind::Hub => "hubs",
    }
}

/// Requests the list or the named object. Documents contain all keys, so that `apply` can restore them.
async fn fetch(hub: &HubClient, args: &GetArgs, details: &mut AgentDetails) -> Result<Value, Failure> {
    let mut answer = fetch_rows(hub, args).await?;
    if args.mine {
        let user = Value::from(account::user(hub).await?);
        if let Some(rows) = answer.as_array_mut() {
            // An alias has a user.
            rows.retain(|row| row["ownerId"] == user || row["user"] == user);
        }
    }
    if let Some(state) = args.status {
        answer = llm_state::only(hub, state, answer).await?;
    }
    match (args.kind, args.output) {
        (GetKind::Agent, Some(OutputFormat::Json | OutputFormat::Yaml)) => details.add(hub, answer).await,
        _ => Ok(answer),
    }
}

async fn fetch_rows(hub: &HubClient, args: &GetArgs) -> Result<Value, Failure> {
    let path = collection(args.kind);
    let Some(name) = &args.name else {
        return Ok(match args.kind {
            GetKind::Llm => hub.llms().await?,
            GetKind::Task if args.owned => hub.get(&format!("{path}?limit={PAGE}&scope=owned")).await?,
            // `--watch` shows new tasks: those of older pages have mostly ended.
            GetKind::Task => tasks(hub, if args.watch { 1 } else { usize::MAX }).await?,
            GetKind::Hub => hubs(hub, None).await?,
            GetKind::Agent
            | GetKind::Session
            | GetKind::Pool
            | GetKind::Name
            | GetKind::Alias
            | GetKind::User
            | GetKind::Token => hub.get(path).await?,
        });
    };
    if args.kind == GetKind::Hub {
        return hubs(hub, Some(name)).await;
    }
    find(hub, args.kind, name).await?.ok_or_else(|| missing(args.kind, name))
}

/// The object of this name or id.
pub(super) async fn find(hub: &HubClient, kind: GetKind, name: &str) -> Result<Option<Value>, Failure> {
    let path = collection(kind);
    if matches!(kind, GetKind::Session | GetKind::Token) {
        // There is no request for one of these.
        let all = hub.get(path).await?;
        return Ok(rows(&all).iter().find(|row| text(row, id_key(row)) == name).cloned());
    }
    Ok(hub.find(&format!("{path}/{}", encode_uri_component(name))).await?)
}

/// The processes of the hub's cluster, those of the hub `id` if one is given.
async fn hubs(hub: &HubClient, id: Option<&str>) -> Result<Value, Failure> {
    let Value::Array(mut all) = hub.get(collection(GetKind::Hub)).await?["hubs"].take() else {
        return Ok(Value::Null);
    };
    if let Some(id) = id {
        all.retain(|process| process["id"] == id);
        if all.is_empty() {
            return Err(missing(GetKind::Hub, id));
        }
    }
    Ok(Value::Array(all))
}

/// The tasks of the newest `pages` pages. A hub without pages lists all tasks in each answer.
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
        path = format!(
            "{first}&before={},{}",
            encode_uri_component(&text(last, "createdAt")),
            encode_uri_component(&text(last, "id"))
        );
    }
    Ok(Value::Array(all))
}

/// Error for an object that does not exist.
pub(super) fn missing(kind: GetKind, name: &str) -> Failure {
    let kind = singular(kind);
    Failure::failed(format!("there is no {kind} '{name}'; `virtual-llm get {kind}` lists them"))
}

fn print(args: &GetArgs, table: &mut Table, answer: &Value) -> Outcome {
    match args.output {
        None | Some(OutputFormat::Wide) => {
            let rows = rows(answer);
            if rows.is_empty() {
                let such = if args.mine || args.owned || args.status.is_some() { "such " } else { "" };
                output::note(format!("There are no {such}{}.", plural(args.kind)));
                return Ok(());
            }
            table.print(rows)
        }
        Some(OutputFormat::Json) => output::document(answer, false),
        Some(OutputFormat::Yaml) => output::document(answer, true),
        Some(OutputFormat::Name) => output::lines(rows(answer).iter().map(|row| {
            let key = if row["name"].is_string() { "name" } else { id_key(row) };
            format!("{}/{}", singular(args.kind), text(row, key))
        })),
    }
}

/// The rows that are new or differ from the last answer.
fn changed(seen: &mut HashMap<String, Value>, answer: Value) -> Vec<Value> {
    let rows = match answer {
        Value::Array(rows) => rows,
        Value::Null => Vec::new(),
        one => vec![one],
    };
    rows.into_iter()
        .filter(|row| {
            seen.insert(text(row, id_key(row)), without_times(row)).as_ref() != Some(&without_times(row))
        })
        .collect()
}

/// A row without its times, which change at each heartbeat.
fn without_times(row: &Value) -> Value {
    let mut row = row.clone();
    if let Value::Object(map) = &mut row {
        for time in ["lastHeartbeatAt", "updatedAt", "renewedAt", "leaseUntil", "saidAt"] {
            map.remove(time);
        }
    }
    row
}

/// Key of the id in a row.
pub(super) fn id_key(row: &Value) -> &'static str {
    ["id", "providerSessionId"].into_iter().find(|key| row[*key].is_string()).unwrap_or("name")
}
