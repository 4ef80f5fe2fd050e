//! The events of a caller's stream. A publisher's bytes are parsed as JSON, never copied unchecked.

use std::borrow::Cow;

use serde::Deserialize;
use wire::json::{JsonError, compact_into, member};
use wire::openai::{Usage, usage};
use wire::sse::write_data;
use wire::task::Endpoint;

use crate::error::{ApiError, Dialect};
use crate::offload::{INLINE_BYTES, offload};

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

/// Appends one event like [`write_chunk`], on another thread if `data` is large, and returns the usage in it.
pub(super) async fn write_chunk_for(
    user: &str,
    endpoint: Endpoint,
    data: Cow<'_, str>,
    out: &mut Vec<u8>,
) -> Result<Option<Usage>, Malformed> {
    if data.len() <= INLINE_BYTES {
        write_chunk(endpoint, &data, out).map_err(|_| Malformed)?;
        return Ok(chunk_usage(endpoint, &data));
    }
    let data = data.into_owned();
    let work = move || {
        let mut out = Vec::with_capacity(data.len() + 16);
        write_chunk(endpoint, &data, &mut out).map_err(|error| ApiError::bad_gateway(error.to_string()))?;
        Ok((out, chunk_usage(endpoint, &data)))
    };
    let (written, usage) = offload(user, usize::MAX, work).await.map_err(|_| Malformed)?;
    if out.is_empty() {
        *out = written;
    } else {
        out.extend_from_slice(&written);
    }
    Ok(usage)
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

/// The usage in an event. The responses API has it in `response`, the messages API first in `message`.
fn chunk_usage(endpoint: Endpoint, data: &str) -> Option<Usage> {
    let found = usage(data);
    if found.is_some() || !is_named(endpoint) {
        return found;
    }
    memchr::memmem::find(data.as_bytes(), b"\"usage\"")?;
    usage(member(data, "response").or_else(|| member(data, "message"))?)
}

/// The mark that ends a complete stream; empty for endpoints that end with an event of their own.
pub(super) fn end_mark(endpoint: Endpoint) -> &'static [u8] {
    if is_named(endpoint) { b"" } else { b"data: [DONE]\n\n" }
}

/// A keep-alive: an event for Anthropic's clients, a comment for all others.
pub(super) fn keepalive(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Dialect::Api | Dialect::OpenAi => b": keepalive\n\n",
    }
}

/// The event that ends an incomplete stream. For the responses API see [`super::responses_api`].
pub(super) fn failure(dialect: Dialect, error: &ApiError) -> Vec<u8> {
    let mut out = Vec::new();
    if matches!(dialect, Dialect::Anthropic) {
        out.extend_from_slice(b"event: error\n");
    }
    write_data(&mut out, &error.body(dialect));
    out
}
