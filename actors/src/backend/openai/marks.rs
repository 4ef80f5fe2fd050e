//! Where a streamed answer ends, and what in it is an error. Pure.
//!
//! The end of the connection proves nothing (awc hides a truncated body), so only these marks do: `[DONE]`, a
//! `finish_reason` in every choice, `response.completed` and its kin, `message_stop`.

use std::borrow::Cow;

use memchr::memmem;
use wire::json::Object;
use wire::model_path::cut_model_paths;
use wire::openai::error_message;
use wire::result::DONE;
use wire::task::Endpoint;

use crate::backend::BackendRequest;

/// The marks of one stream.
#[derive(Debug)]
pub(super) struct Marks {
    endpoint: Endpoint,
    /// How many choices have to finish.
    choices: u64,
    finished: u64,
}

/// What an event is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A piece of the answer.
    Piece(String),
    /// The last piece.
    Last(String),
    /// The end mark.
    End,
    /// The backend says that it failed; with its own words, if any.
    Error(Option<String>),
    /// Not JSON.
    Garbage,
}

impl Marks {
    pub(super) fn new(request: &BackendRequest) -> Self {
        // `n` is rare, and a request may be large: a search before the parse.
        let n = memmem::find(&request.body, b"\"n\"")
            .and_then(|_| std::str::from_utf8(&request.body).ok())
            .and_then(|body| Object::parse(body).ok()?.get("n")?.parse().ok());
        Self { endpoint: request.endpoint, choices: n.unwrap_or(1), finished: 0 }
    }

    /// Looks at one event.
    pub(super) fn see(&mut self, event: Option<&str>, data: Cow<'_, str>) -> Seen {
        if data.trim() == DONE {
            return Seen::End;
        }
        if !data.trim_start().starts_with('{') {
            return Seen::Garbage;
        }
        if event == Some("error") || is_error(&data) {
            return Seen::Error(error_message(&data));
        }
        let last = match self.endpoint {
            Endpoint::Responses => {
                is_type(&data, &["response.completed", "response.incomplete", "response.failed"])
            }
            Endpoint::Messages => is_type(&data, &["message_stop"]),
            _ => {
                self.finished += u64::from(has_finish_reason(&data));
                false
            }
        };
        let data = match cut_model_paths(&data) {
            Cow::Owned(cut) => cut,
            Cow::Borrowed(_) => data.into_owned(),
        };
        if last { Seen::Last(data) } else { Seen::Piece(data) }
    }

    /// Whether the answer is whole although no end mark came: every choice said why it finished.
    pub(super) fn complete(&self) -> bool {
        self.finished >= self.choices
    }
}

/// `{"error": …}`, `{"object":"error", …}`, `{"type":"error", …}`. In valid JSON the bytes `"error"` are a whole string
/// or the end of one, so most chunks are done after one search.
pub(super) fn is_error(data: &str) -> bool {
    if memmem::find(data.as_bytes(), b"\"error\"").is_none() {
        return false;
    }
    let Ok(object) = Object::parse(data) else { return false };
    object.get("error").is_some_and(|error| error != "null")
        || object.get("object") == Some("\"error\"")
        || object.get("type") == Some("\"error\"")
}

fn is_type(data: &str, types: &[&str]) -> bool {
    // The type stands in the first bytes with every known server, and deltas are most of a stream.
    types.iter().any(|name| memmem::find(data.as_bytes(), name.as_bytes()).is_some())
        && Object::parse(data)
            .ok()
            .and_then(|object| object.get_string("type"))
            .is_some_and(|kind| types.contains(&kind.as_str()))
}

/// Whether `"finish_reason"` is there with a string.
fn has_finish_reason(data: &str) -> bool {
    const KEY: &str = "\"finish_reason\"";
    let Some(at) = memmem::find(data.as_bytes(), KEY.as_bytes()) else { return false };
    let rest = data[at + KEY.len()..].trim_start();
    rest.strip_prefix(':').is_some_and(|value| value.trim_start().starts_with('"'))
}
