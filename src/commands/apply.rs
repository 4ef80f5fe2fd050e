//! `apply -f`: makes the hub agree with a file. What `get -o yaml` prints is taken back without a difference.

use std::{
    fs, io::Read as _, os::unix::fs::FileTypeExt as _, path::Path, sync::mpsc, thread, time::Duration,
};

use actix_web::http::{Method, StatusCode};
use own_files::OwnFile;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::get::{collection, singular};
use crate::{
    cli::{ApplyArgs, GetKind, Global},
    client::{HubClient, encoded},
    config,
    exit::{Failure, Outcome},
    output,
};

/// Far more rows than a hub has.
const LONGEST_FILE: u64 = 16 << 20;
/// How long a file is read: deep ones take a time that grows with the square of their size, and nobody means them.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a person decides of an LLM. The rest of a row is the hub's.
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
];
/// What a person decides of an agent.
const AGENT_KEYS: &[&str] =
    &["name", "llmName", "description", "systemPrompt", "project", "defaultParams", "extras", "visibility"];

/// Runs it.
pub(crate) async fn run(global: &Global, args: &ApplyArgs) -> Outcome {
    let shown =
        if args.file == Path::new("-") { "standard input".into() } else { args.file.to_string_lossy() };
    let objects = parsed(read(&args.file, &shown)?, PATIENCE)
        .map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
    // All of it is read before anything is changed.
    let objects: Vec<_> = objects
        .into_iter()
        .enumerate()
        .map(|(i, object)| kind(&object).map(|kind| (kind, object)).map_err(|why| (i, why)))
        .collect::<Result<_, _>>()
        .map_err(|(i, why)| Failure::usage(format!("{shown}: object {}: {why}", i + 1)))?;
    let hub = super::hub_client(global)?;
    for (kind, object) in &objects {
        apply(&hub, *kind, object).await?;
    }
    Ok(())
}

fn read(path: &Path, shown: &str) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().lock().take(LONGEST_FILE).read_to_string(&mut text).map(|_| text)
    } else {
        // Whoever makes a pipe knows that it is waited for; who was sent one does not.
        if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            output::note(format!("waiting for what somebody writes into the pipe {shown}"));
        }
        OwnFile::open_given(path).and_then(|file| {
            // It is named for this one call, and may be somebody's who sent it.
            if let Some(doubt) = file.doubt() {
                output::note(format!("warning: {doubt}"));
            }
            file.read_text(LONGEST_FILE)
        })
    };
    read.map_err(|error| Failure::usage(format!("cannot read {shown}: {}", config::plain(&error))))
}

/// As `parse`, where that is done in time.
fn parsed(text: String, patience: Duration) -> Result<Vec<Map<String, Value>>, String> {
    let (sender, parsed) = mpsc::channel();
    // One that takes too long ends with the program.
    thread::spawn(move || sender.send(parse(&text)));
    parsed
        .recv_timeout(patience)
        .map_err(|_| "it takes too long to read: is it nested that deeply?".to_owned())?
}

/// The objects of all documents: each is one, or a list of them.
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

/// What an object is, by the keys that only its kind has.
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
    } else if has("llmName") {
        GetKind::Agent
    } else if has("model") || has("type") {
        GetKind::Llm
    } else {
        return Err("neither an LLM (name, type, model, url) nor an agent (name, llmName)".to_owned());
    };
    let needs: &[&str] = match kind {
        GetKind::Llm => &["name", "type", "model"],
        GetKind::Agent => &["name", "llmName"],
        GetKind::Session | GetKind::Task => &["id"],
        GetKind::Pool | GetKind::Name => &["name"],
    };
    match needs.iter().find(|key| !object.get(**key).is_some_and(Value::is_string)) {
        Some(key) => Err(format!("{key}: expected a text")),
        None => Ok(kind),
    }
}

async fn apply(hub: &HubClient, kind: GetKind, object: &Map<String, Value>) -> Outcome {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let keys = match kind {
        GetKind::Llm => LLM_KEYS,
        GetKind::Agent => AGENT_KEYS,
        // Nobody makes these by hand: they are as they are.
        GetKind::Session | GetKind::Task | GetKind::Pool | GetKind::Name => {
            let id = if object.contains_key("id") { text("id") } else { text("name") };
            return output::line(format!("{}/{} unchanged", singular(kind), output::printable(id)));
        }
    };
    let name = text("name");
    let told = |done: &str| output::line(format!("{}/{} {done}", singular(kind), output::printable(name)));
    let mut wanted: Map<String, Value> = object
        .iter()
        .filter(|(key, _)| keys.contains(&key.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if let Some(variable) = object.get("apiKeyEnv").and_then(Value::as_str) {
        wanted.insert("apiKey".to_owned(), Value::String(super::create::key_from(variable)?));
    }
    let path = format!("{}/{}", collection(kind), encoded(name));
    let current = match hub.get(&path).await {
        Ok(current) => current,
        Err(error) if error.is(StatusCode::NOT_FOUND) => {
            wanted.retain(|_, value| !value.is_null());
            hub.call(Method::POST, collection(kind), Some(&Value::Object(wanted))).await?;
            return told("created");
        }
        Err(error) => return Err(error.into()),
    };
    // A row says nothing of what it does not allow.
    let is =
        |key: &String, value: &Value| current[key] == *value || current[key].is_null() && *value == false;
    if wanted.iter().all(|(key, value)| is(key, value)) {
        return told("unchanged");
    }
    if current["kind"] == "virtual" {
        return Err(Failure::failed(format!(
            "the {} '{name}' is published from a workstation: it is changed in the configuration there",
            singular(kind)
        )));
    }
    // What the file does not name stays as it is.
    for key in keys {
        if let (false, Some(value)) = (wanted.contains_key(*key), current.get(*key)) {
            wanted.insert((*key).to_owned(), value.clone());
        }
    }
    wanted.retain(|_, value| !value.is_null());
    let answer = hub.call(Method::PUT, &path, Some(&Value::Object(wanted))).await?;
    told("configured")?;
    for warning in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::note(format!("warning: {}", output::printable(warning)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_give_their_objects() {
        let text = "- name: a\n  type: openai\n  model: m\n---\nname: b\nllmName: a\n---\n";
        let objects = parse(text).unwrap();
        let kinds: Vec<_> = objects.iter().map(|object| kind(object).unwrap()).collect();
        assert_eq!(kinds, [GetKind::Llm, GetKind::Agent]);
        assert_eq!(parse(r#"{"name":"a"}"#).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_nested_deeply_is_given_up() {
        let patience = Duration::from_millis(200);
        let deep = "{a: ".repeat(100_000);
        assert!(parsed(deep, patience).unwrap_err().contains("takes too long"));
        assert!(parsed("{a: ".repeat(200), PATIENCE).unwrap_err().contains("not valid YAML"));
        assert_eq!(parsed("name: a".to_owned(), PATIENCE).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_object_of_ours_is_refused_with_a_reason() {
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
