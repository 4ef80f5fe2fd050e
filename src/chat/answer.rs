//! Reads the chunks of a stream and whole completions.

use serde_json::Value;
use wire::json::tree;
use wire::openai::MAX_TOKENS;

use crate::{client, exit::Failure};

/// The content of one chunk, or of a whole completion.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) text: Option<String>,
    /// Text of the reasoning, which servers send under several keys.
    pub(super) reasoning: Option<String>,
    pub(super) refusal: Option<String>,
    /// Pieces of tool calls.
    pub(super) calls: Vec<ToolCall>,
    /// `finish_reason`.
    pub(super) finish: Option<String>,
    /// Tokens of the whole answer, as counted by the backend.
    pub(super) tokens: Option<u64>,
}

/// A tool call or a piece of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToolCall {
    index: Option<u64>,
    id: Option<String>,
    /// Name of the function; empty in most pieces.
    pub(crate) name: String,
    /// Arguments as JSON text, incomplete in a piece.
    pub(crate) arguments: String,
}

impl Chunk {
    /// Reads the data of an SSE event.
    pub(super) fn of_event(data: &str) -> Result<Self, Failure> {
        let Some(value) = tree(data.as_bytes(), client::MAX_VALUES) else {
            return Err(Failure::failed("the answer broke off: a part of it is not JSON"));
        };
        // A backend that does not stream sends one whole message.
        let key = if value["choices"][0]["delta"].is_object() { "delta" } else { "message" };
        Self::read(&value, key, data.as_bytes())
    }

    /// Reads a whole `chat.completion`.
    pub(super) fn of_completion(bytes: &[u8]) -> Result<Self, Failure> {
        let Some(value) = tree(bytes, client::MAX_VALUES) else {
            return Err(Failure::failed("the answer is not JSON, or broke off"));
        };
        Self::read(&value, "message", bytes)
    }

    pub(super) fn has_content(&self) -> bool {
        self.text.is_some() || self.reasoning.is_some() || self.refusal.is_some() || !self.calls.is_empty()
    }

    fn read(value: &Value, key: &str, raw: &[u8]) -> Result<Self, Failure> {
        if value.get("error").is_some_and(is_error) {
            let reason = client::reason(raw).unwrap_or_default();
            return Err(Failure::failed(format!("the answer broke off: {reason}")));
        }
        let choice = &value["choices"][0];
        let message = &choice[key];
        let some = |text: String| (!text.is_empty()).then_some(text);
        let content = &message["content"];
        let parts = if content.is_array() { content } else { &Value::Null };
        let reasoning =
            ["reasoning_content", "reasoning", "thinking", "reasoning_details", "thinking_blocks"]
                .into_iter()
                .find_map(|key| some(text_of(&message[key], &["text", "thinking", "reasoning"])));
        let calls = match message["tool_calls"].as_array() {
            Some(calls) => calls.iter().map(|call| ToolCall::read(call, &call["function"])).collect(),
            None if message["function_call"].is_object() => {
                vec![ToolCall::read(&Value::Null, &message["function_call"])]
            }
            None => Vec::new(),
        };
        Ok(Self {
            text: some(text_of(content, &["text", "output_text"])),
            reasoning: reasoning.or_else(|| some(text_of(parts, &["thinking", "reasoning"]))),
            refusal: some(text(&message["refusal"])).or_else(|| some(text_of(parts, &["refusal"]))),
            calls,
            finish: some(text(&choice["finish_reason"])),
            tokens: value["usage"]["completion_tokens"].as_u64().filter(|count| *count <= MAX_TOKENS),
        })
    }
}

/// Whether the value of `error` is an error: some servers send an empty one beside content.
fn is_error(error: &Value) -> bool {
    match error {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => fields.values().any(is_error),
        _ => true,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Text of a string, or of the parts of a list whose type is one of `types`. A part without a type is `text`.
fn text_of(value: &Value, types: &[&str]) -> String {
    let of_part = |part: &Value| {
        let part_type = part["type"].as_str().unwrap_or("text");
        let is_wanted = types.iter().any(|wanted| {
            part_type.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !is_wanted {
            return String::new();
        }
        let inner: Vec<_> = types.iter().copied().chain(["text"]).collect();
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
                Value::String(text) if types.contains(&"text") => text.clone(),
                part => of_part(part),
            })
            .collect(),
        _ => String::new(),
    }
}

impl ToolCall {
    fn read(call: &Value, function: &Value) -> Self {
        let arguments = match &function["arguments"] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            // Ollama sends an object.
            other => other.to_string(),
        };
        Self {
            index: call["index"].as_u64(),
            id: call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned),
            name: text(&function["name"]),
            arguments,
        }
    }
}

/// Appends a piece to the call of the same index, else of the same id, else to the last call if it has no name.
pub(super) fn add_call(calls: &mut Vec<ToolCall>, piece: ToolCall) {
    let known = match (piece.index, &piece.id) {
        (Some(index), _) => calls.iter_mut().find(|call| call.index == Some(index)),
        (None, Some(id)) => calls.iter_mut().find(|call| call.id.as_ref() == Some(id)),
        (None, None) if piece.name.is_empty() => calls.last_mut(),
        (None, None) => None,
    };
    let Some(call) = known else { return calls.push(piece) };
    if !piece.name.is_empty() {
        call.name = piece.name;
    }
    call.arguments.push_str(&piece.arguments);
}
