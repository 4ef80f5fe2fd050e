//! What must hold for any bytes. Each is a fuzz target of its name; `cargo test` runs them over `fuzz/corpus`.

#[path = "link.rs"]
mod link;

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;
use serde_json::value::RawValue;
use tempfile::NamedTempFile;
use wire::features::Hello;
use wire::json::{JsonError, Object, compact, spans};
use wire::result::TaskResult;
use wire::sse::{Decoder, write_comment, write_data, write_event};
use wire::task::Task;
use wire::{SessionId, TaskId, WireName, openai};

pub use link::link;

/// Panics where the bytes show that something does not hold.
pub type Property = fn(&[u8]);

/// All properties, each with the name of its fuzz target.
pub const ALL: [(&str, Property); 9] = [
    ("config", config),
    ("decoder", decoder),
    ("encoder", encoder),
    ("frames", frames),
    ("json", json),
    ("link", link),
    ("names", names),
    ("results", results),
    ("session", session),
];

/// However a stream is cut into pieces, the decoder gives the same events, and never more memory than its limit.
/// The first byte says where to cut.
pub fn decoder(bytes: &[u8]) {
    const LIMIT: usize = 1024;

    let events = |pieces: &[&[u8]]| {
        let mut decoder = Decoder::with_limit(LIMIT);
        let mut events = Vec::new();
        for piece in pieces {
            decoder.feed(piece);
            while let Some(event) = decoder.next_event() {
                // What is not UTF-8 becomes U+FFFD, three bytes for one.
                assert!(event.data.len() <= 3 * LIMIT);
                events.push((event.event, event.data, event.id));
            }
        }
        (events, decoder.retry_ms(), decoder.discarded())
    };
    let Some((cut, stream)) = bytes.split_first() else { return };
    let (left, right) = stream.split_at(usize::from(*cut) * stream.len() / 256);
    let whole = events(&[stream]);
    assert_eq!(whole, events(&[left, right]));
    assert_eq!(whole, events(&stream.chunks(1).collect::<Vec<_>>()));
}

/// Whatever a publisher says, n writes are exactly n events with exactly its words. 0xFF, no part of any text, parts
/// event, id and data.
pub fn encoder(bytes: &[u8]) {
    let texts: Vec<_> = bytes.split(|byte| *byte == 0xFF).map(String::from_utf8_lossy).collect();
    let mut out = Vec::new();
    let mut written = Vec::new();
    for triple in texts.chunks(3) {
        let data = triple.last().map_or("", |text| text);
        let field = |at: usize| triple.get(at).filter(|_| triple.len() > at + 1).map(AsRef::as_ref);
        let before = out.len();
        match write_event(&mut out, field(0), field(1), data) {
            Ok(()) => written.push(data),
            Err(_) => assert_eq!(out.len(), before),
        }
        write_comment(&mut out, data);
        write_data(&mut out, data);
        written.push(data);
    }
    let mut decoder = Decoder::new();
    decoder.feed(&out);
    for data in written {
        let lines = data.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(decoder.next_event().map(|event| event.data), Some(lines));
    }
    assert!(decoder.next_event().is_none());
}

/// Task frames, hellos, and what is read in requests and answers: never a panic, and a request keeps its form.
pub fn frames(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Task::parse(text);
    let _ = Hello::parse(text).features();
    let _ = openai::usage(text);
    let _ = openai::error_message(text);
    let _ = openai::completion_as_chunk(text);
    if let Ok(request) = openai::backend_request(text, Some("m"), true)
        && let Ok(value) = serde_json::from_str::<Value>(&request)
    {
        assert_eq!(value["model"], "m");
        assert_eq!(value["stream"], true);
    }
}

/// A result that was read is written as it was.
pub fn results(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(result) = TaskResult::parse(text) {
        let written = result.to_json();
        assert_eq!(TaskResult::parse(&written).map(|again| again.to_json()).ok(), Some(written));
    }
}

/// Names and ids that are taken can stand in a header, a URL and a log.
pub fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let ids = [SessionId::parse(text).map(String::from), TaskId::parse(text).map(String::from)];
    for id in ids.into_iter().flatten() {
        assert!(!id.contains(['\r', '\n', '\0']));
    }
    if let Ok(name) = WireName::parse(text) {
        assert!(name.as_str().bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
        assert!(name.as_str() != "." && name.as_str() != "..");
    }
}

/// The one-pass checker takes exactly what `serde_json` takes, one line out, the value unchanged.
pub fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let theirs = serde_json::from_str::<&RawValue>(text);
    match compact(text) {
        Ok(line) => {
            assert!(theirs.is_ok());
            assert!(!line.contains(['\r', '\n']));
            assert_eq!(compact(&line).as_deref(), Ok(line.as_str()));
            if let (Ok(before), Ok(after)) =
                (serde_json::from_str::<Value>(text), serde_json::from_str::<Value>(&line))
            {
                assert_eq!(before, after);
            }
        }
        Err(JsonError::TooDeep) => (),
        Err(_) => assert!(theirs.is_err(), "{text:?}"),
    }
    let _ = Object::parse(text).map(|object| object.to_string());
    members(text);
}

/// The scan that finds members takes exactly the objects that the checker takes, finds what a parse finds, and changes
/// nothing but line breaks.
fn members(text: &str) {
    const KEY: &str = "model";

    let mut line = text.as_bytes().to_vec();
    let Ok([found]) = spans(&mut line, [KEY]) else {
        let is_object = text.trim_ascii_start().starts_with('{');
        return assert!(!is_object || compact(text).is_err(), "{text:?}");
    };
    let line = String::from_utf8(line).unwrap();
    assert!(!line.contains(['\r', '\n']));
    assert_eq!(compact(&line), compact(text));
    if let Ok(object) = Object::parse(&line) {
        let theirs = object.members().filter(|(key, _)| *key == KEY).map(|(_, value)| value);
        assert!(theirs.eq(found.into_iter().map(|span| &line[span])), "{text:?}");
    }
}

/// A session file gives an id that can be a header's value, or none.
pub fn session(bytes: &[u8]) {
    let file = scratch(bytes);
    if let Some(id) = actors::load_session_id(file.path()) {
        assert!(String::from(id).bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// A configuration is read or refused with a sentence; what is published has a name that can be registered.
pub fn config(bytes: &[u8]) {
    let file = scratch(bytes);
    match crate::config::load(file.path()) {
        Ok(published) => {
            for provider in published.providers {
                names(provider.wire_name.as_str().as_bytes());
            }
        }
        Err(failure) => assert!(failure.text().is_some_and(|text| !text.is_empty())),
    }
}

/// A file that holds these bytes, in memory where there is such a place: targets write thousands a second.
fn scratch(bytes: &[u8]) -> NamedTempFile {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let mut file = NamedTempFile::new_in(folder).unwrap();
    file.write_all(bytes).unwrap();
    file
}
