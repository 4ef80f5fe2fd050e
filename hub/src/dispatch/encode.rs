//! Events of a caller's stream, written by us: a publisher's bytes are checked as JSON and never copied raw.

use std::borrow::Cow;

use serde::Deserialize;
use wire::json::{JsonError, compact_into, member};
use wire::openai::{Usage, usage};
use wire::sse::write_data;
use wire::task::Endpoint;

use crate::error::{ApiError, Dialect};
use crate::heavy::{LIGHT, heavy};

/// Whether the endpoint's streams name their events and end without `[DONE]`.
pub(super) fn is_named(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::Responses | Endpoint::Messages)
}

/// Appends one event with the JSON object `data`, checked and made compact on the way. After an error `out` is as it
/// was.
pub(super) fn chunk(endpoint: Endpoint, data: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
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

/// As [`chunk`], on another thread where the text is large, when it is `user`'s turn; what it says that the answer cost.
pub(super) async fn event(
    user: &str,
    endpoint: Endpoint,
    data: Cow<'_, str>,
    out: &mut Vec<u8>,
) -> Result<Option<Usage>, Malformed> {
    if data.len() <= LIGHT {
        chunk(endpoint, &data, out).map_err(|_| Malformed)?;
        return Ok(chunk_usage(endpoint, &data));
    }
    let data = data.into_owned();
    let work = move || {
        let mut out = Vec::with_capacity(data.len() + 16);
        chunk(endpoint, &data, &mut out).map_err(|error| ApiError::bad_gateway(error.to_string()))?;
        Ok((out, chunk_usage(endpoint, &data)))
    };
    let (written, usage) = heavy(user, usize::MAX, work).await.map_err(|_| Malformed)?;
    out.extend_from_slice(&written);
    Ok(usage)
}

/// An event that cannot be passed on.
#[derive(Debug)]
pub(super) struct Malformed;

/// The `type` in an event of the responses and messages APIs, where it is a name: nothing that could end a line.
fn event_name(data: &str) -> Option<Cow<'_, str>> {
    /// Longest name: the longest of OpenAI's have about 50 characters.
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

/// What an event says that the answer cost. The responses API has it within `response`, the messages API within
/// `message` at first.
pub(super) fn chunk_usage(endpoint: Endpoint, data: &str) -> Option<Usage> {
    let found = usage(data);
    if found.is_some() || !is_named(endpoint) {
        return found;
    }
    memchr::memmem::find(data.as_bytes(), b"\"usage\"")?;
    usage(member(data, "response").or_else(|| member(data, "message"))?)
}

/// The mark that ends a whole answer; nothing for endpoints that end with an event of their own.
pub(super) fn done(endpoint: Endpoint) -> &'static [u8] {
    if is_named(endpoint) { b"" } else { b"data: [DONE]\n\n" }
}

/// What a stream says when there is nothing to say: Anthropic's clients know an event for it, all others skip comments.
pub(super) fn keepalive(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Anthropic => b"event: ping\ndata: {\"type\": \"ping\"}\n\n",
        Dialect::Api | Dialect::OpenAi => b": keepalive\n\n",
    }
}

/// The event that ends a stream whose answer is not whole; the responses API has [another](super::responses).
pub(super) fn failure(dialect: Dialect, error: &ApiError) -> Vec<u8> {
    let mut out = Vec::new();
    match dialect {
        Dialect::Anthropic => out.extend_from_slice(b"event: error\n"),
        Dialect::Api | Dialect::OpenAi => (),
    }
    write_data(&mut out, &error.body(dialect));
    out
}
