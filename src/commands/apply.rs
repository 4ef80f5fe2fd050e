//! `apply -f`: creates and changes the objects of a file at the hub. The output of `get -o yaml` changes nothing.

use std::{
    fs, io::Read as _, os::unix::fs::FileTypeExt as _, path::Path, sync::mpsc, thread, time::Duration,
};

use actix_web::http::Method;
use own_files::OwnFile;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;
use wire::ids::encode_uri_component;

use super::get::{collection, singular};
use crate::{
    cli::{ApplyArgs, GetKind, Global},
    client::HubClient,
    config,
    exit::{Failure, Outcome},
    output,
};

/// Largest file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Time-out of the parser: its time for nested values grows with the square of their depth.
const PARSE_TIMEOUT: Duration = Duration::from_secs(10);
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

fn read(path: &Path, shown: &str) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().take(MAX_FILE).read_to_string(&mut text).map(|_| text)
    } else {
        // Reading a pipe blocks until a process writes to it, so a note is printed.
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            output::note(format!("waiting for what somebody writes into the pipe {shown}"));
        }
        OwnFile::open_given(path).and_then(|file| {
            // The file is given explicitly and may be another user's: this is only a warning.
            if let Some(doubt) = file.doubt() {
                output::note(format!("warning: {doubt}"));
            }
            file.read_text(MAX_FILE)
        })
    };
    read.map_err(|error| Failure::usage(format!("cannot read {shown}: {}", config::plain(&error))))
}

/// As [`parse`], with a time-out.
fn parsed(text: String, limit: Duration) -> Result<Vec<Map<String, Value>>, String> {
    let (sender, parsed) = mpsc::channel();
    // After the time-out the thread runs until the program ends.
    thread::spawn(move || sender.send(parse(&text)));
    parsed
        .recv_timeout(limit)
        .map_err(|_| "it takes too long to read: is it nested that deeply?".to_owned())?
}

/// The objects of all documents: each document is an object or a list of objects.
fn parse(text: &str) -> Result<Vec<Map<String, Value>>, String> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        match Value::deserialize(document).map_err(|error| format!("not valid YAML: {error}"))? {
            Value::Null => {}
            Value::Object(object) => objects.push(object),
            Value::Array(list) => {
                for item in list {
                    let Value::Object(object) = item else {
                        return Err("expected objects in the list".to_owned());
                    };
                    objects.push(object);
                }
            }
            _ => {
                return Err(
                    "expected an LLM or an agent, as `virtual-llm get llm -o yaml` prints it".to_owned()
                );
            }
        }
    }
    Ok(objects)
}

/// The kind of an object, by its keys; the first match counts.
fn kind(object: &Map<String, Value>) -> Result<GetKind, String> {
    let has = |key: &str| object.contains_key(key);
    let kind = if has("streaming") && has("status") {
        GetKind::Task
    } else if has("llms") && has("features") {
        GetKind::Session
    } else if has("members") && has("waiting") {
        GetKind::Pool
    } else if has("usedBy") {
        GetKind::Name
    } else if has("target") {
        GetKind::Alias
    } else if has("llmName") {
        GetKind::Agent
    } else if has("model") || has("type") {
        GetKind::Llm
    } else {
        return Err(
            "neither an LLM (name, type, model, url), an agent (name, llmName) nor an alias (name, target)"
                .to_owned(),
        );
    };
    let needs: &[&str] = match kind {
        GetKind::Llm => &["name", "type", "model"],
        GetKind::Agent => &["name", "llmName"],
        GetKind::Session | GetKind::Task => &["id"],
        GetKind::Alias => &["name", "target"],
        GetKind::Pool | GetKind::Name => &["name"],
    };
    // The hub hides the LLM of an agent from readers who may not know of it.
    let is_hidden = |key: &str| key == "llmName" && object.get(key).is_some_and(Value::is_null);
    match needs.iter().find(|key| !object.get(**key).is_some_and(Value::is_string) && !is_hidden(key)) {
        Some(key) => Err(format!("{key}: expected a text")),
        None => Ok(kind),
    }
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
        GetKind::Session | GetKind::Task | GetKind::Pool | GetKind::Name => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_read_from_documents_and_lists() {
        let text = "- name: a\n  type: openai\n  model: m\n---\nname: b\nllmName: a\n---\n";
        let objects = parse(text).unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| kind(object).unwrap()).collect();
        assert_eq!(kinds, [GetKind::Llm, GetKind::Agent]);
        assert_eq!(parse(r#"{"name":"a"}"#).unwrap().len(), 1);
    }

    #[test]
    fn a_deeply_nested_file_is_given_up() {
        let limit = Duration::from_millis(200);
        let deep = "{a: ".repeat(100_000);
        assert!(parsed(deep, limit).unwrap_err().contains("takes too long"));
        assert!(parsed("{a: ".repeat(200), PARSE_TIMEOUT).unwrap_err().contains("not valid YAML"));
        assert_eq!(parsed("name: a".to_owned(), PARSE_TIMEOUT).unwrap().len(), 1);
    }

    #[test]
    fn other_documents_are_refused_with_a_reason() {
        for (text, reason) in
            [("just text", "expected an LLM"), ("- 1", "expected objects"), ("a: [", "not valid YAML")]
        {
            assert!(parse(text).unwrap_err().contains(reason), "{text}");
        }
        let objects = parse("- {name: a}\n- {name: 5, type: openai, model: m}").unwrap();
        assert!(kind(&objects[0]).unwrap_err().contains("neither an LLM"));
        assert_eq!(kind(&objects[1]).unwrap_err(), "name: expected a text");
    }
}
