//! `apply -f`: creates and changes the objects of a file at the hub. The output of `get -o yaml` changes nothing.

mod file;

use std::path::Path;

use actix_web::http::Method;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use wire::ids::encode_uri_component;

use file::{PARSE_TIMEOUT, kind, parsed, read};

use super::get::{collection, singular};
use crate::{
    cli::{ApplyArgs, GetKind, Global},
    client::HubClient,
    exit::{Failure, Outcome},
    output,
};

/// Keys of an LLM that the user sets. The hub sets the others.
const LLM_KEYS: &[&str] = &[
    "name",
    "type",
    "model",
    "url",
    "apiKey",
    "tier",
    "description",
    "poolName",
    "visibility",
    "allowRemoteUrls",
    "contextLength",
    "maxOutputTokens",
    "capabilities",
];
/// Keys of an agent that the user sets.
const AGENT_KEYS: &[&str] =
    &["name", "llmName", "description", "systemPrompt", "project", "defaultParams", "extras", "visibility"];

/// Why an agent without `llmName` is skipped.
const HIDDEN: &str = "its llmName is hidden from the user who read it";

pub(crate) async fn run(global: &Global, args: &ApplyArgs) -> Outcome {
    let shown =
        if args.file == Path::new("-") { "standard input".into() } else { args.file.to_string_lossy() };
    let objects = parsed(read(&args.file, &shown)?, PARSE_TIMEOUT)
        .map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
    // Checks the whole file before the first change.
    let objects: Vec<_> = objects
        .into_iter()
        .enumerate()
        .map(|(i, object)| kind(&object).map(|kind| (kind, object)).map_err(|why| (i, why)))
        .collect::<Result<_, _>>()
        .map_err(|(i, why)| Failure::usage(format!("{shown}: object {}: {why}", i + 1)))?;
    let hub = super::hub_client(global)?;
    let caller = OnceCell::new();
    for (kind, object) in &objects {
        apply(&hub, *kind, object, &caller).await?;
    }
    Ok(())
}

/// The user of the token; `None` at a classic hub, which does not tell.
async fn user(hub: &HubClient) -> Result<Option<String>, Failure> {
    let caller = hub.find("/api/v1/whoami").await?;
    Ok(caller.and_then(|caller| caller["user"].as_str().map(str::to_owned)))
}

async fn apply(
    hub: &HubClient,
    kind: GetKind,
    object: &Map<String, Value>,
    caller: &OnceCell<Option<String>>,
) -> Outcome {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let keys = match kind {
        GetKind::Llm => LLM_KEYS,
        GetKind::Agent => AGENT_KEYS,
        GetKind::Alias => return apply_alias(hub, object).await,
        // The hub manages these.
        GetKind::Session
        | GetKind::Task
        | GetKind::Pool
        | GetKind::Name
        | GetKind::User
        | GetKind::Token
        | GetKind::Hub => {
            let id = if object.contains_key("id") { text("id") } else { text("name") };
            return output::line(format!("{}/{} unchanged", singular(kind), output::printable(id)));
        }
    };
    let name = text("name");
    let report = |done: &str| output::line(format!("{}/{} {done}", singular(kind), output::printable(name)));
    let skipped = |why: &str| {
        output::note(format!("warning: {}/{} skipped: {why}", singular(kind), output::printable(name)));
    };
    let mut wanted: Map<String, Value> = object
        .iter()
        .filter(|(key, _)| keys.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if wanted.get("llmName").is_some_and(Value::is_null) {
        wanted.remove("llmName");
    }
    if let Some(variable) = object.get("apiKeyEnv").and_then(Value::as_str) {
        wanted.insert("apiKey".to_owned(), Value::String(super::manage::key_from(variable)?));
    }
    let path = format!("{}/{}", collection(kind), encode_uri_component(name));
    let Some(current) = hub.find(&path).await? else {
        wanted.retain(|_, value| !value.is_null());
        if object.get("kind").is_some_and(|kind| kind == "virtual") {
            skipped("it is published from a workstation, which brings it back");
            return Ok(());
        }
        if kind == GetKind::Agent && !wanted.contains_key("llmName") {
            skipped(HIDDEN);
            return Ok(());
        }
        if let Some(owner) = object.get("ownerId").and_then(Value::as_str)
            && caller.get_or_try_init(|| user(hub)).await?.as_ref().is_some_and(|user| user != owner)
        {
            let owner = output::printable(owner);
            skipped(&format!("it was {owner}'s and would become yours; without its ownerId it is created"));
            return Ok(());
        }
        hub.call(Method::POST, collection(kind), Some(&Value::Object(wanted))).await?;
        return report("created");
    };
    // The hub omits flags that are false.
    let is_equal =
        |key: &String, value: &Value| current[key] == *value || current[key].is_null() && *value == false;
    if wanted.iter().all(|(key, value)| is_equal(key, value)) {
        return report("unchanged");
    }
    if current["kind"] == "virtual" {
        return Err(Failure::failed(format!(
            "the {} '{name}' is published from a workstation: it is changed in the configuration there",
            singular(kind)
        )));
    }
    // Keys that the file does not have keep their values.
    for key in keys {
        if let (false, Some(value)) = (wanted.contains_key(*key), current.get(*key)) {
            wanted.insert((*key).to_owned(), value.clone());
        }
    }
    wanted.retain(|_, value| !value.is_null());
    if kind == GetKind::Agent && !wanted.contains_key("llmName") {
        skipped(HIDDEN);
        return Ok(());
    }
    let answer = hub.call(Method::PUT, &path, Some(&Value::Object(wanted))).await?;
    report("configured")?;
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::note(format!("warning: {}", output::printable(warning)));
    }
    Ok(())
}

/// Sets an alias for its `user`; without one for the caller, or as an admin for all users.
async fn apply_alias(hub: &HubClient, object: &Map<String, Value>) -> Outcome {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let (name, target) = (text("name").unwrap_or_default(), text("target").unwrap_or_default());
    let of_user = text("user").map_or(String::new(), |user| format!("?user={}", encode_uri_component(user)));
    let path = format!("{}/{}{of_user}", collection(GetKind::Alias), encode_uri_component(name));
    let current = hub.find(&path).await?.filter(|current| current["user"].as_str() == text("user"));
    let done = match current {
        Some(current) if current["target"] == *target => "unchanged",
        current => {
            hub.call(Method::PUT, &path, Some(&json!({ "target": target }))).await?;
            if current.is_some() { "configured" } else { "created" }
        }
    };
    output::line(format!("{}/{} {done}", singular(GetKind::Alias), output::printable(name)))
}
