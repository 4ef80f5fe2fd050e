//! Parses chat completions and the chunks of streamed ones.
//!
//! Strings stay escaped, because a surrogate pair can be split over two chunks.

use wire::openai::MAX_TOKENS;

use super::json::{Json, unescape};
use super::{AnswerError, checked_answer};
use wire::json::compact;

/// Members in which servers send reasoning. The first that is present is read, because some servers send both.
pub(super) const REASONING_MEMBERS: [&str; 2] = ["reasoning_content", "reasoning"];

/// The kind of a block, and of a delta.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// Reasoning, and the member in which the backend sends it.
    Reasoning(&'static str),
    Text,
    Refusal,
    /// A tool call; `id` and `name` are escaped.
    Call {
        index: Option<u64>,
        id: String,
        name: String,
    },
}

/// A part of an answer.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) kind: BlockKind,
    /// The text, escaped. For a tool call these are the arguments.
    pub(super) text: String,
}

impl Delta {
    /// Returns the size of all strings in bytes.
    pub(super) fn size(&self) -> usize {
        let of_call = match &self.kind {
            BlockKind::Call { id, name, .. } => id.len() + name.len(),
            _ => 0,
        };
        of_call + self.text.len()
    }
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u64,
    pub(super) output: u64,
    pub(super) total: u64,
    pub(super) cached: u64,
    pub(super) reasoning: u64,
}

/// The first choice of a chunk, or of a whole completion.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) deltas: Vec<Delta>,
    pub(super) finish_reason: Option<String>,
    /// The stop sequence that ended the answer, escaped. vLLM sends it.
    pub(super) stop_sequence: Option<String>,
    pub(super) usage: Option<Usage>,
    /// Log probabilities of tokens, each as JSON.
    pub(super) logprobs: Vec<String>,
}

impl Chunk {
    /// Parses one chunk of a stream.
    pub(super) fn of_stream(text: &str) -> Result<Self, AnswerError> {
        let text = checked_answer(text)?;
        let chunk = Some(Json::of_compact(&text)).filter(Json::is_object).ok_or(AnswerError::NotChat)?;
        let choice = first_choice(&chunk);
        // Some servers send whole messages in a stream.
        let delta = choice.and_then(|choice| choice.get("delta").or_else(|| choice.get("message")));
        Ok(Self::read(&chunk, choice, delta))
    }

    /// Parses a whole completion.
    pub(super) fn of_completion(text: &str) -> Result<Self, AnswerError> {
        let text = checked_answer(text)?;
        let completion = Json::of_compact(&text);
        let choice = first_choice(&completion).ok_or(AnswerError::NotChat)?;
        let message = choice.get("message").filter(|message| message.is_object());
        let message = message.ok_or(AnswerError::NotChat)?;
        Ok(Self::read(&completion, Some(choice), Some(message)))
    }

    /// Parses a chunk of a text completion, or a whole one, which has the same shape.
    pub(super) fn of_text(text: &str) -> Result<Self, AnswerError> {
        let text = checked_answer(text)?;
        let chunk = Some(Json::of_compact(&text)).filter(Json::is_object).ok_or(AnswerError::NotChat)?;
        let choice = first_choice(&chunk);
        let mut read = Self::read(&chunk, choice, None);
        if let Some(choice) = choice {
            push(&mut read.deltas, BlockKind::Text, choice.get_fragment("text"));
        }
        Ok(read)
    }

    fn read(completion: &Json<'_>, choice: Option<&Json<'_>>, message: Option<&Json<'_>>) -> Self {
        let finish_reason = choice.and_then(|choice| choice.get_str("finish_reason"));
        let stop_sequence = choice.and_then(|choice| choice.get("stop_reason")).and_then(Json::fragment);
        let logprobs = choice.and_then(|choice| choice.get("logprobs"));
        let logprobs = logprobs.map(|logprobs| logprobs.get_items("content")).unwrap_or_default();
        Self {
            deltas: message.map(deltas).unwrap_or_default(),
            finish_reason: finish_reason.filter(|reason| !reason.is_empty()).map(Into::into),
            stop_sequence: stop_sequence.map(Into::into),
            usage: completion.get("usage").and_then(usage),
            logprobs: logprobs.iter().map(Json::to_string).collect(),
        }
    }
}

fn first_choice<'j, 'a>(chunk: &'j Json<'a>) -> Option<&'j Json<'a>> {
    let is_first = |choice: &&Json<'_>| choice.get("index").and_then(Json::as_count).unwrap_or(0) == 0;
    chunk.get_items("choices").iter().find(is_first)
}

fn deltas(message: &Json<'_>) -> Vec<Delta> {
    let mut out = Vec::new();
    let mut reasoning = REASONING_MEMBERS.iter().map(|key| (*key, message.get_fragment(key)));
    if let Some((key, text)) = reasoning.find(|(_, text)| !text.is_empty()) {
        push(&mut out, BlockKind::Reasoning(key), text);
    }
    match message.get("content") {
        Some(Json::Array(parts)) => parts.iter().for_each(|part| push_part(&mut out, part)),
        _ => push(&mut out, BlockKind::Text, message.get_fragment("content")),
    }
    push(&mut out, BlockKind::Refusal, message.get_fragment("refusal"));
    let calls = message.get_items("tool_calls");
    // The calls of a whole message have no index.
    let is_counted = calls.len() > 1 && calls.iter().all(|call| call.get("index").is_none());
    for (number, call) in calls.iter().enumerate() {
        let index = if is_counted { Some(number as u64) } else { call.get("index").and_then(Json::as_count) };
        out.push(call_delta(index, call.get_fragment("id"), call.get("function").unwrap_or(call)));
    }
    out.extend(message.get("function_call").map(|function| call_delta(Some(0), "", function)));
    out
}

fn push(out: &mut Vec<Delta>, kind: BlockKind, text: &str) {
    if !text.is_empty() {
        out.push(Delta { kind, text: text.to_owned() });
    }
}

/// Appends a content part in the format of Mistral's servers.
fn push_part(out: &mut Vec<Delta>, part: &Json<'_>) {
    const REASONING: BlockKind = BlockKind::Reasoning(REASONING_MEMBERS[0]);

    match (part.get_str("type").as_deref(), part.get("thinking")) {
        (Some("thinking"), Some(Json::Array(parts))) => {
            for part in parts {
                push(out, REASONING, part.get_fragment("text"));
            }
        }
        (Some("thinking"), _) => push(out, REASONING, part.get_fragment("thinking")),
        (Some("refusal"), _) => push(out, BlockKind::Refusal, part.get_fragment("refusal")),
        _ => push(out, BlockKind::Text, part.get_fragment("text")),
    }
}

fn call_delta(index: Option<u64>, id: &str, function: &Json<'_>) -> Delta {
    let kind = BlockKind::Call { index, id: id.to_owned(), name: function.get_fragment("name").to_owned() };
    // Arguments are a JSON text in a string. Some servers send the JSON itself.
    let text = function.get("arguments").map(Json::to_fragment).unwrap_or_default();
    Delta { kind, text }
}

fn usage(usage: &Json<'_>) -> Option<Usage> {
    let count = |key: &str| usage.get(key).and_then(Json::as_count);
    let detail = |key: &str, detail: &str| usage.get(key)?.get(detail)?.as_count();
    let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
    if input.is_none() && output.is_none() {
        return None;
    }
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    let cached = detail("prompt_tokens_details", "cached_tokens")
        // DeepSeek's name.
        .or_else(|| count("prompt_cache_hit_tokens"));
    Some(Usage {
        input,
        output,
        total: count("total_tokens").unwrap_or((input + output).min(MAX_TOKENS)),
        cached: cached.unwrap_or(0),
        reasoning: detail("completion_tokens_details", "reasoning_tokens").unwrap_or(0),
    })
}

/// Parses the escaped arguments of a call, as [`arguments_text`]; `None` also if they have too many values for a tree.
pub(super) fn arguments(fragment: &str) -> Option<Json<'static>> {
    Json::parse(&arguments_text(fragment)?).ok()
}

/// Returns the escaped arguments of a call as compact JSON, without a tree: `{}` if there are none, `None` if they are no object.
pub(super) fn arguments_text(fragment: &str) -> Option<String> {
    let text = unescape(fragment);
    if text.trim().is_empty() {
        return Some("{}".to_owned());
    }
    let text = compact(&text).ok()?;
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        // Some models write arguments as a string in the string.
        Some(quoted) => compact(&unescape(quoted)).ok().filter(|text| text.starts_with('{')),
        None if text == "null" => Some("{}".to_owned()),
        None => Some(text).filter(|text| text.starts_with('{')),
    }
}
