//! The events of a caller's stream. A publisher's bytes are parsed as JSON, never copied unchecked.

use std::borrow::Cow;

use serde::Deserialize;
use wire::json::{JsonError, compact_into, member};
use wire::openai::{Usage, has_content, is_usage_chunk, usage};
use wire::sse::write_data;
use wire::task::Endpoint;

use super::tally::Tally;
use crate::error::{ApiError, Dialect};
use crate::offload::{INLINE_BYTES, offload};

/// How the events of a stream are written for its caller.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventFormat {
    pub(super) endpoint: Endpoint,
    /// Whether chunks with nothing but the usage are left out: the hub asked for them, and the caller did not.
    pub(super) drops_usage: bool,
}

/// Whether the endpoint's streams name their events, and end without `[DONE]`.
pub(super) fn is_named(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Responses | Endpoint::Messages)
}

/// Appends one event with the JSON object `data` in compact form. On an error, `out` is unchanged.
pub(super) fn write_chunk(endpoint: Endpoint, data: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let start = out.len();
    if is_named(endpoint)
        && let Some(name) = event_name(data)
    {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    let value = out.len();
    let written = compact_into(data, out);
    let is_object = out.get(value) == Some(&b'{');
    if let Err(error) = written.and(if is_object { Ok(()) } else { Err(JsonError::NotAnObject) }) {
        out.truncate(start);
        return Err(error);
    }
    out.extend_from_slice(b"\n\n");
    Ok(())
}

/// Appends one event like [`write_chunk`] unless `format` leaves it out, on another thread if `data` is large, and returns
/// what it counts for.
pub(super) async fn write_chunk_for(
    user: &str,
    format: EventFormat,
    data: Cow<'_, str>,
    out: &mut Vec<u8>,
) -> Result<Tally, Malformed> {
    if data.len() <= INLINE_BYTES {
        return write_counted(format, &data, out).map_err(|_| Malformed);
    }
    let data = data.into_owned();
    let work = move || {
        let mut out = Vec::with_capacity(data.len() + 16);
        let tally = write_counted(format, &data, &mut out);
        Ok((out, tally.map_err(|error| ApiError::bad_gateway(error.to_string()))?))
    };
    let (written, tally) = offload(user, usize::MAX, work).await.map_err(|_| Malformed)?;
    if out.is_empty() {
        *out = written;
    } else {
        out.extend_from_slice(&written);
    }
    Ok(tally)
}

/// Appends one event like [`write_chunk`] unless `format` leaves it out, and returns what it counts for.
pub(super) fn write_counted(format: EventFormat, data: &str, out: &mut Vec<u8>) -> Result<Tally, JsonError> {
    let EventFormat { endpoint, drops_usage } = format;
    let start = out.len();
    write_chunk(endpoint, data, out)?;
    let usage = chunk_usage(endpoint, data);
    // What was written is compact, which these searches need. It begins with `data: `, and ends with two line ends.
    let written = &out[start..];
    let content = u64::from(has_content(endpoint, written));
    if drops_usage && usage.is_some() && std::str::from_utf8(event_data(written)).is_ok_and(is_usage_chunk) {
        out.truncate(start);
    }
    Ok(Tally { usage, content })
}

/// An event that is not a JSON object.
#[derive(Debug)]
pub(super) struct Malformed;

/// The `type` of an event of the responses and messages APIs, if it is a plain name without line breaks.
fn event_name(data: &str) -> Option<Cow<'_, str>> {
    /// Longest name in bytes. OpenAI's have up to about 50.
    const MAX: usize = 100;

    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    let name = serde_json::from_str::<Head<'_>>(data).ok()?.kind;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=MAX).contains(&name.len()) && name.bytes().all(plain)).then_some(name)
}

/// The data of an unnamed event.
fn event_data(event: &[u8]) -> &[u8] {
    event.strip_prefix(b"data: ").unwrap_or(event).trim_ascii_end()
}

/// The usage in an event. The responses API has it in `response`, the messages API first in `message`, whose output tokens
/// are those up to then.
fn chunk_usage(endpoint: Endpoint, data: &str) -> Option<Usage> {
    let found = usage(data);
    if found.is_some() || !is_named(endpoint) {
        return found;
    }
    memchr::memmem::find(data.as_bytes(), b"\"usage\"")?;
    match member(data, "response") {
        Some(response) => usage(response),
        None => usage(member(data, "message")?).map(Usage::without_output),
    }
}

/// The mark that ends a complete stream; empty for endpoints that end with an event of their own.
pub(super) fn end_mark(endpoint: Endpoint) -> &'static [u8] {
    if is_named(endpoint) { b"" } else { b"data: [DONE]\n\n" }
}

/// A keep-alive: an event for Anthropic's clients, a comment for all others. For Ollama's clients it is translated.
pub(super) fn keepalive(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Dialect::Api | Dialect::OpenAi | Dialect::Ollama => KEEPALIVE,
    }
}

/// The comment that keeps a connection open.
pub(crate) const KEEPALIVE: &[u8] = b": keepalive\n\n";

/// The event that ends an incomplete stream, for Ollama's clients the line. For the responses API see [`super::responses_api`].
pub(super) fn failure(dialect: Dialect, error: &ApiError) -> Vec<u8> {
    let mut out = Vec::new();
    match dialect {
        Dialect::Anthropic => out.extend_from_slice(b"event: error\n"),
        Dialect::Ollama => return format!("{}\n", error.body(dialect)).into(),
        Dialect::Api | Dialect::OpenAi => (),
    }
    write_data(&mut out, &error.body(dialect));
    out
}
