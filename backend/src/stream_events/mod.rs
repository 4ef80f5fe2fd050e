//! Converts a whole answer to the events of a stream, for a caller that requested a stream.
//!
//! The events repeat much of the answer, which can be large. They are built from slices of its text, without a tree, and their total
//! size is limited.

mod messages;
mod responses;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use wire::json::{JsonError, compact, each_element, each_member, quote, unquote};
use wire::openai::completion_as_chunk;
use wire::task::Endpoint;

use crate::BackendError;
use crate::offload::offload;

/// Maximum size of an opening object in bytes; a response repeats its instructions and tools there. Larger members are only in the
/// final event.
const MAX_OPENING: usize = 256 << 10;

/// Maximum size of all events, as a multiple of the answer: a text is repeated five times (delta, done, part, item, response), and
/// escapes can double it.
const MAX_GROWTH: usize = 8;

/// Additional bytes for the frames of some thousand items.
const MAX_FRAMES: usize = 4 << 20;

/// Returns the events that are equivalent to `body`, without the end mark.
pub fn stream_events(endpoint: Endpoint, body: &str) -> Result<Vec<String>, JsonError> {
    let body = compact(body)?;
    if !body.starts_with('{') {
        return Err(JsonError::NotAnObject);
    }
    Ok(match endpoint {
        Endpoint::ChatCompletions => vec![completion_as_chunk(&body)?],
        Endpoint::Responses => responses::response_events(&body)?,
        Endpoint::Messages => messages::message_events(&body)?,
        // A chunk of a text completion has the shape of the whole; the others have no stream.
        Endpoint::Completions
        | Endpoint::Embeddings
        | Endpoint::Rerank
        | Endpoint::CountTokens
        | Endpoint::InputTokens => vec![body],
    })
}

/// Like [`stream_events`], but on another thread if `body` is large. `user` identifies the user that work is shared out to.
pub async fn offload_stream_events(
    user: &str,
    endpoint: Endpoint,
    body: String,
) -> Result<Result<Vec<String>, JsonError>, BackendError> {
    offload(user, body.len(), move || stream_events(endpoint, &body)).await
}

/// Builds the events of one answer, within a size limit.
struct EventWriter {
    events: Vec<String>,
    /// Bytes that further events may take.
    remaining: usize,
    /// Whether each event has a `sequence_number`.
    is_numbered: bool,
}

impl EventWriter {
    fn new(body: &str, is_numbered: bool) -> Self {
        Self { events: Vec::new(), remaining: MAX_GROWTH * body.len() + MAX_FRAMES, is_numbered }
    }

    /// Appends an event of type `kind` with these members, whose values are JSON.
    fn write(&mut self, kind: &str, members: &[(&str, &str)]) -> Result<(), JsonError> {
        /// Overhead of an event in bytes.
        const FRAME: usize = 128;

        let size = members.iter().fold(FRAME, |size, (key, value)| size + key.len() + value.len() + 4);
        self.remaining = self.remaining.checked_sub(size).ok_or(JsonError::TooManyParts)?;
        let mut event = String::with_capacity(size);
        let _ = write!(event, r#"{{"type":"{kind}""#);
        if self.is_numbered {
            let _ = write!(event, r#","sequence_number":{}"#, self.events.len());
        }
        for (key, value) in members {
            let _ = write!(event, r#","{key}":{value}"#);
        }
        event.push('}');
        self.events.push(event);
        Ok(())
    }
}

/// Returns the JSON text of the members `keys` of `object`. A member is `None` if it is null, or if `object` is no object.
fn members<'a, const N: usize>(object: &'a str, keys: [&str; N]) -> Result<[Option<&'a str>; N], JsonError> {
    let mut found = [None; N];
    each_member(object, |key, value| {
        if let Some(index) = index_of(key, &keys) {
            found[index] = Some(value).filter(|value| *value != "null");
        }
    })?;
    Ok(found)
}

/// Returns the index of a quoted key in `keys`.
fn index_of(key: &str, keys: &[&str]) -> Option<usize> {
    let key = unquote(key)?;
    keys.iter().position(|other| *other == key)
}

/// Returns `object` with `replaced` members, and with those of its other members that fit into an opening event.
fn opening(object: &str, replaced: &[(&str, &str)]) -> Result<String, JsonError> {
    let keys: Vec<&str> = replaced.iter().map(|(key, _)| *key).collect();
    let mut out = String::from("{");
    let mut add = |key: &str, value: &str| {
        let comma = if out.len() > 1 { "," } else { "" };
        let _ = write!(out, "{comma}{key}:{value}");
    };
    let mut remaining = MAX_OPENING;
    each_member(object, |key, value| {
        let size = key.len() + value.len();
        if size <= remaining && index_of(key, &keys).is_none() {
            remaining -= size;
            add(key, value);
        }
    })?;
    for (key, value) in replaced {
        add(&quote(key), value);
    }
    out.push('}');
    Ok(out)
}

/// Calls `each` with the elements of the array `list`, until a call fails.
fn try_for_each<'a>(
    list: Option<&'a str>,
    mut each: impl FnMut(usize, &'a str) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let (mut index, mut done) = (0, Ok(()));
    each_element(list.unwrap_or("[]"), |element| {
        if done.is_ok() {
            done = each(index, element);
            index += 1;
        }
    })?;
    done
}
