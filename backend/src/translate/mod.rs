//! Translates requests of the Messages and Responses APIs and of Ollama's to chat completions, and the answers back. No I/O and no clock.
//!
//! [`messages::to_chat`] and [`responses::to_chat`] translate a request; one that chat completions cannot express is refused.
//! `from_chat` and [`StreamTranslator`] translate the answer. Both use the same blocks, so a stream and a whole answer are equal.

mod arguments_check;
mod blocks;
mod chunk;
mod conversation;
mod json;
pub mod messages;
pub mod ollama;
pub mod responses;
mod stream;
#[cfg(test)]
mod tests;
mod tools;

use std::sync::Arc;

use json::Json;
pub use stream::StreamTranslator;
use wire::json::{JsonError, MAX_VALUES, TreeBudget, is_small_tree};

/// Why a request cannot be translated: one sentence for the caller, sent with status 400.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidRequest(pub String);

/// A translated request.
#[derive(Debug, Clone)]
pub struct ChatRequest {
    /// The JSON body for chat completions.
    pub body: String,
    /// Whether the caller requested a stream.
    pub streaming: bool,
    request: Arc<CallerRequest>,
}

/// Maximum text of one translated answer in bytes of JSON: some million tokens. The text is kept until the answer ends, and the final
/// events repeat it.
pub const MAX_TEXT: usize = 16 << 20;
/// Size, in bytes, from which a streamed answer counts as a large body, because its final events repeat it: some 250,000 tokens.
pub const LONG_ANSWER: usize = 1 << 20;
/// Maximum number of blocks in one translated answer.
pub const MAX_PARTS: usize = 4096;

/// Why an answer cannot be translated. The text is sent to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The answer is neither a chat completion nor a chunk of one.
    #[error("backend's answer is not a chat completion")]
    NotChat,
    /// The answer is not a list of embeddings.
    #[error("backend's answer is not a list of embeddings")]
    NotEmbeddings,
    /// The answer exceeds [`MAX_VALUES`].
    #[error("backend's answer has more than {MAX_VALUES} values")]
    TooManyValues,
    /// The answer exceeds [`MAX_TEXT`].
    #[error("backend's answer is larger than {} MiB", MAX_TEXT >> 20)]
    TooLarge,
    /// The answer exceeds [`MAX_PARTS`].
    #[error("backend's answer has more than {MAX_PARTS} parts")]
    TooManyParts,
}

impl ChatRequest {
    /// Whether the items of the answer are stored for later requests.
    pub(crate) fn is_stored(&self) -> bool {
        self.request.is_stored
    }

    /// Creates the context of the answer. `id` is a random suffix for its ids, `created` the time in seconds.
    pub fn context(&self, id: impl Into<String>, created: i64) -> Context {
        Context { id: id.into(), created, request: Arc::clone(&self.request) }
    }
}

/// What a translated answer contains besides the backend's answer.
#[derive(Debug, Clone)]
pub struct Context {
    id: String,
    created: i64,
    request: Arc<CallerRequest>,
}

impl Context {
    /// Returns the size in bytes of what is kept of the request.
    pub(crate) fn size(&self) -> usize {
        self.request.size()
    }
}

/// The parts of the caller's request that the answer depends on.
#[derive(Debug, Clone, Default)]
struct CallerRequest {
    /// The requested model as JSON.
    model: String,
    /// Members that a response repeats, as JSON.
    echo: Vec<(&'static str, String)>,
    /// Stop sequences, escaped. The answer names one only if the backend did.
    stop_sequences: Vec<String>,
    tools: tools::ToolNames,
    /// Whether the caller sends reasoning back in its next request.
    keeps_reasoning: bool,
    is_stored: bool,
}

impl CallerRequest {
    /// Returns the size of all texts in bytes.
    fn size(&self) -> usize {
        let echo: usize = self.echo.iter().map(|(_, text)| text.len()).sum();
        let stops: usize = self.stop_sequences.iter().map(String::len).sum();
        self.model.len() + echo + stops + tools::size(&self.tools)
    }
}

/// Returns the request as compact JSON of at most 128 levels and [`MAX_VALUES`] values.
fn checked(body: &[u8]) -> Result<String, InvalidRequest> {
    checked_by(body, &mut TreeBudget::default())
}

/// Like [`checked`]; `budget` counts the values.
fn checked_by(body: &[u8], budget: &mut TreeBudget) -> Result<String, InvalidRequest> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("the request is not UTF-8"))?;
    let text = budget.take(text).and_then(|()| wire::json::compact(text));
    let text = text.map_err(|error| invalid(format!("the request is {error}")))?;
    if text.starts_with('{') { Ok(text) } else { Err(invalid("the request is not a JSON object")) }
}

/// Checks that an answer, or a part of one, has at most [`MAX_VALUES`] values.
pub(crate) fn check_values(text: &str) -> Result<(), AnswerError> {
    // Fast path: a value takes at least one byte.
    if text.len() <= MAX_VALUES {
        return Ok(());
    }
    is_small_tree(text).map_err(|error| match error {
        JsonError::TooManyValues => AnswerError::TooManyValues,
        _ => AnswerError::NotChat,
    })
}

/// Returns an answer, or a part of one, as compact JSON of at most [`MAX_VALUES`] values.
fn checked_answer(text: &str) -> Result<String, AnswerError> {
    check_values(text)?;
    wire::json::compact(text).map_err(|_| AnswerError::NotChat)
}

pub(crate) fn invalid(text: impl Into<String>) -> InvalidRequest {
    InvalidRequest(text.into())
}

/// Returns at most 60 characters of a caller's word, without control characters, for an error text.
pub(crate) fn shown(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(60).collect()
}

/// Members of chat completions that the other APIs do not have. They are passed on, because they change the answer.
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

/// Builds a request for chat completions with `model`, the members `same` of `request`, and `stream`, which is also returned.
fn chat_body<'a>(request: &Json<'a>, same: &[&'static str], messages: Vec<Json<'a>>) -> (Json<'a>, bool) {
    let mut out = Json::object([]);
    out.put_some("model", request.get("model").cloned());
    out.put("messages", Json::Array(messages));
    for key in same.iter().chain(&CHAT_ONLY) {
        out.put_some(key, request.get(key).cloned());
    }
    let streaming = request.get_bool("stream");
    out.put("stream", streaming);
    if streaming {
        out.put("stream_options", Json::object([("include_usage", true.into())]));
    }
    (out, streaming)
}
