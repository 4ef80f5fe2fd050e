//! What stands in a chunk or a completion.

use serde_json::Value;
use wire::openai::MAX_TOKENS;

use crate::{client, exit::Failure};

/// The part of a chunk or a completion that a person reads.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// The answer's text.
    pub(super) text: Option<String>,
    /// What the model thinks first. Servers have several keys for it.
    pub(super) thought: Option<String>,
    /// Why the model does not answer.
    pub(super) refusal: Option<String>,
    /// Pieces of tool calls.
    pub(super) calls: Vec<CallPiece>,
    /// Why the answer ended.
    pub(super) finish: Option<String>,
    /// The tokens of the whole answer, once the backend has counted them.
    pub(super) counted: Option<u64>,
}

/// A piece of a tool call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CallPiece {
    index: Option<u64>,
    id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
}

/// A tool call: the function's name and its arguments, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToolCall {
    index: Option<u64>,
    id: Option<String>,
    /// The function.
    pub(crate) name: String,
    /// JSON, as far as it came.
    pub(crate) arguments: String,
}

impl Piece {
    /// From the data of one event.
    pub(super) fn of_chunk(data: &str) -> Result<Self, Failure> {
        let Ok(value) = serde_json::from_str::<Value>(data) else {
            return Err(Failure::failed("the answer broke off: a part of it is not JSON"));
        };
        // A backend that streams nothing sends one whole message.
        let part = if value["choices"][0]["delta"].is_object() { "delta" } else { "message" };
        Self::read(&value, part, data.as_bytes())
    }

    /// From a whole `chat.completion`.
    pub(super) fn of_completion(bytes: &[u8]) -> Result<Self, Failure> {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return Err(Failure::failed("the answer is not JSON, or broke off"));
        };
        Self::read(&value, "message", bytes)
    }

    /// Whether the model said or thought something in it.
    pub(super) fn is_content(&self) -> bool {
        self.text.is_some() || self.thought.is_some() || self.refusal.is_some() || !self.calls.is_empty()
    }

    fn read(value: &Value, part: &str, raw: &[u8]) -> Result<Self, Failure> {
        if value.get("error").is_some_and(is_error) {
            let reason = client::reason(raw).unwrap_or_default();
            return Err(Failure::failed(format!("the answer broke off: {reason}")));
        }
        let choice = &value["choices"][0];
        let message = &choice[part];
        let some = |text: String| (!text.is_empty()).then_some(text);
        let content = &message["content"];
        let parts = if content.is_array() { content } else { &Value::Null };
        let thought = ["reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"]
            .into_iter()
            .find_map(|key| some(text_of(&message[key], &["text", "thinking", "reasoning"])))
            .or_else(|| some(text_of(parts, &["thinking", "reasoning"])));
        let calls = match message["tool_calls"].as_array() {
            Some(calls) => calls.iter().map(CallPiece::read).collect(),
            None if message["function_call"].is_object() => {
                vec![CallPiece::function(&message["function_call"])]
            }
            None => Vec::new(),
        };
        Ok(Self {
            text: some(text_of(content, &["text", "output_text"])),
            thought,
            refusal: message["refusal"]
                .as_str()
                .and_then(|text| some(text.to_owned()))
                .or_else(|| some(text_of(parts, &["refusal"]))),
            calls,
            finish: choice["finish_reason"].as_str().and_then(|reason| some(reason.to_owned())),
            counted: value["usage"]["completion_tokens"].as_u64().filter(|count| *count <= MAX_TOKENS),
        })
    }
}

/// Whether the value of `error` says anything: some servers send it, empty, beside content.
fn is_error(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => fields.values().any(is_error),
        _ => true,
    }
}

/// The text of a string, or of the parts of a list that are of one of these types. A part without a type is text.
fn text_of(value: &Value, kinds: &[&str]) -> String {
    let of_part = |part: &Value| {
        let kind = part["type"].as_str().unwrap_or("text");
        let wanted = kinds.iter().any(|wanted| {
            kind.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !wanted {
            return String::new();
        }
        let inner: Vec<_> = kinds.iter().copied().chain(["text"]).collect();
        ["text", "thinking", "reasoning", "summary", "refusal"]
            .into_iter()
            .find(|key| !part[*key].is_null())
            .map_or_else(String::new, |key| text_of(&part[key], &inner))
    };
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| match part {
                Value::String(text) if kinds.contains(&"text") => text.clone(),
                part => of_part(part),
            })
            .collect(),
        _ => String::new(),
    }
}

impl CallPiece {
    fn read(call: &Value) -> Self {
        Self {
            index: call["index"].as_u64(),
            id: call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            ..Self::function(&call["function"])
        }
    }

    fn function(function: &Value) -> Self {
        let arguments = match &function["arguments"] {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            // Ollama gives an object.
            other => Some(other.to_string()),
        };
        let name = function["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        Self { name, arguments, ..Self::default() }
    }
}

/// Puts a piece of a call to the one that it continues: of its index, else of its id, else the last.
pub(super) fn collect(calls: &mut Vec<ToolCall>, piece: CallPiece) {
    let known = match (piece.index, &piece.id, &piece.name) {
        (Some(index), ..) => calls.iter().position(|call| call.index == Some(index)),
        (None, Some(id), _) => calls.iter().position(|call| call.id.as_ref() == Some(id)),
        (None, None, None) => calls.len().checked_sub(1),
        (None, None, Some(_)) => None,
    };
    let at = known.unwrap_or_else(|| {
        calls.push(ToolCall { index: piece.index, id: piece.id, ..ToolCall::default() });
        calls.len() - 1
    });
    if let Some(call) = calls.get_mut(at) {
        if let Some(name) = piece.name {
            call.name = name;
        }
        call.arguments.push_str(piece.arguments.as_deref().unwrap_or_default());
    }
}
