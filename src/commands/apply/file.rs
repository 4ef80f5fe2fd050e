//! The file of `apply`: its objects and their kinds.

use std::{
    fs, io::Read as _, os::unix::fs::FileTypeExt as _, path::Path, sync::mpsc, thread, time::Duration,
};

use own_files::OwnFile;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::{cli::GetKind, config, exit::Failure, output};

/// Largest file, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Time-out of the parser: its time for nested values grows with the square of their depth.
pub(super) const PARSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn read(path: &Path, shown: &str) -> Result<String, Failure> {
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
pub(super) fn parsed(text: String, limit: Duration) -> Result<Vec<Map<String, Value>>, String> {
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
pub(super) fn kind(object: &Map<String, Value>) -> Result<GetKind, String> {
    let has = |key: &str| object.contains_key(key);
    let kind = if has("leaseUntil") {
        GetKind::Hub
    } else if has("streaming") && has("status") {
        GetKind::Task
    } else if has("llms") && has("features") {
        GetKind::Session
    } else if has("members") && has("waiting") {
        GetKind::Pool
    } else if has("usedBy") {
        GetKind::Name
    } else if has("revokedAt") {
        GetKind::Token
    } else if has("tokens") && has("role") {
        GetKind::User
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
        GetKind::Hub => &["state"],
        GetKind::Alias => &["name", "target"],
        GetKind::Pool | GetKind::Name | GetKind::User => &["name"],
        GetKind::Token => &["id", "user"],
    };
    // The hub hides the LLM of an agent from readers who may not know of it.
    let is_hidden = |key: &str| key == "llmName" && object.get(key).is_some_and(Value::is_null);
    match needs.iter().find(|key| !object.get(**key).is_some_and(Value::is_string) && !is_hidden(key)) {
        Some(key) => Err(format!("{key}: expected a text")),
        None => Ok(kind),
    }
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
