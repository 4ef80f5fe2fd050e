//! The Messages and Responses APIs on a backend that knows chat completions alone. Pure: no I/O, no clock; ids and time
//! are passed in.
//!
//! A request becomes a chat completions request ([`messages::to_chat`], [`responses::to_chat`]); its answer, whole or as
//! the chunks of a stream, becomes the answer that the caller's API promises. What cannot be said in chat completions is
//! refused in words. Whole answers and streams go through the same blocks, so both say the same.

mod blocks;
mod chunk;
mod conversation;
mod json;
pub mod messages;
pub mod responses;
#[cfg(test)]
mod tests;
mod tools;

use json::Json;
use wire::json::{JsonError, MAX_VALUES, is_small_tree};

/// Why a request cannot be put to chat completions: one sentence for the caller, answered as 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRequest(pub String);

/// A request for chat completions, and what its answer needs of the caller's request.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The JSON that is sent.
    pub body: String,
    /// Whether the caller wants a stream.
    pub streaming: bool,
    asked: CallerRequest,
}

/// Most text of one answer that is translated, in bytes of JSON: some millions of tokens. It is kept until the answer ends,
/// and at its end it is told again, whole and more than once.
pub const MAX_TEXT: usize = 16 << 20;
/// Most parts of one answer: reasoning, text, calls, one after the other.
pub const MAX_PARTS: usize = 4096;

/// Why an answer cannot be translated. The text goes to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No chat completion, and no chunk of one.
    #[error("backend's answer is not a chat completion")]
    NotChat,
    /// More than [`MAX_VALUES`].
    #[error("backend's answer has more than {MAX_VALUES} values")]
    TooManyValues,
    /// More than [`MAX_TEXT`].
    #[error("backend's answer is larger than {} MiB", MAX_TEXT >> 20)]
    TooLarge,
    /// More than [`MAX_PARTS`].
    #[error("backend's answer has more than {MAX_PARTS} parts")]
    TooManyParts,
}

impl ChatRequest {
    /// Whether something of the answer may be stored.
    pub(crate) fn is_stored(&self) -> bool {
        !self.asked.is_not_stored
    }

    /// The context of the answer: `id` is a random suffix for the ids in it, `created` the time in seconds.
    pub fn context(&self, id: impl Into<String>, created: i64) -> Context {
        Context { id: id.into(), created, asked: self.asked.clone() }
    }
}

/// What an answer needs besides the backend's: see [`ChatRequest::context`].
#[derive(Debug, Clone)]
pub struct Context {
    id: String,
    created: i64,
    asked: CallerRequest,
}

/// What the caller's request said and its answer repeats.
#[derive(Debug, Clone, Default)]
struct CallerRequest {
    /// The model as the request names it, as a JSON string.
    model: String,
    /// Members of the request that a response repeats, as JSON texts.
    echo: Vec<(&'static str, String)>,
    /// Stop sequences, escaped: a backend that names the one it met is believed if it is one of these.
    stops: Vec<String>,
    /// Tools that the caller knows by another name or kind than the backend.
    tools: tools::ToolNames,
    /// Whether the caller sends reasoning back with its next request.
    keeps_reasoning: bool,
    /// Whether the caller said that nothing of the answer is to be stored.
    is_not_stored: bool,
}

/// The body as checked compact text; JSON of 128 levels and 100,000 values at most.
fn checked(body: &[u8]) -> Result<String, InvalidRequest> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("the request is not UTF-8"))?;
    let text = is_small_tree(text).and_then(|()| wire::json::compact(text));
    let text = text.map_err(|error| invalid(format!("the request is {error}")))?;
    if text.starts_with('{') { Ok(text) } else { Err(invalid("the request is not a JSON object")) }
}

/// Whether the JSON in an answer, or in a part of it, may become a tree.
pub(crate) fn is_small(text: &str) -> Result<(), AnswerError> {
    // So short that it cannot have as many; nearly all are.
    if text.len() <= MAX_VALUES {
        return Ok(());
    }
    is_small_tree(text).map_err(|error| match error {
        JsonError::TooManyValues => AnswerError::TooManyValues,
        _ => AnswerError::NotChat,
    })
}

/// An answer, or a part of it, as checked compact text that may become a tree.
fn checked_answer(text: &str) -> Result<String, AnswerError> {
    is_small(text)?;
    wire::json::compact(text).map_err(|_| AnswerError::NotChat)
}

fn invalid(text: impl Into<String>) -> InvalidRequest {
    InvalidRequest(text.into())
}

/// A caller's own word in an error: short, one line.
fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Members of chat completions that the other APIs do not have and that change what a model says: a caller who sends
/// them means them.
const CHAT_ONLY: [&str; 17] = [
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "logit_bias",
    "min_p",
    "typical_p",
    "mirostat",
    "grammar",
    "guided_json",
    "structured_outputs",
    "response_format",
    "reasoning_effort",
    "chat_template_kwargs",
    "cache_prompt",
    "verbosity",
];

/// The request for chat completions: `model`, the members that both APIs have, `stream`.
fn chat_body<'a>(asked: &Json<'a>, same: &[&'static str], messages: Vec<Json<'a>>) -> (Json<'a>, bool) {
    let mut out = Json::object([]);
    if let Some(model) = asked.get("model") {
        out.put("model", model.clone());
    }
    out.put("messages", Json::Array(messages));
    for key in same.iter().chain(&CHAT_ONLY) {
        if let Some(value) = asked.get(key) {
            out.put(key, value.clone());
        }
    }
    let streaming = asked.get("stream").and_then(Json::as_bool) == Some(true);
    out.put("stream", streaming);
    if streaming {
        out.put("stream_options", Json::object([("include_usage", true.into())]));
    }
    (out, streaming)
}
