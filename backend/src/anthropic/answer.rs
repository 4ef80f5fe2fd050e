//! Translates a message to a chat completion.

use std::fmt::Write;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::json::{Object, each_element, quote};
use wire::openai::{MAX_TOKENS, error_body, error_message, token_count};

use crate::translate::MAX_PARTS;

/// A message, whole or at the start of a stream.
///
/// Members can be null or absent, because servers that imitate Anthropic's API omit some.
#[derive(Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    stop_reason: Option<String>,
    pub(super) usage: Option<Usage>,
}

/// A content block. Chat completions has no equivalent of other kinds, such as search results.
#[derive(Deserialize)]
pub(super) struct ContentBlock<'a> {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) text: Option<String>,
    pub(super) thinking: Option<String>,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Usage {
    #[serde(default, deserialize_with = "count", rename = "input_tokens")]
    input: Option<u64>,
    #[serde(default, deserialize_with = "count", rename = "output_tokens")]
    output: Option<u64>,
    #[serde(default, deserialize_with = "count", rename = "cache_creation_input_tokens")]
    cache_written: Option<u64>,
    #[serde(default, deserialize_with = "count", rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
}

/// Parses a number of tokens: 12, 12.0 or "12". Other values are `None`.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?.get();
    Ok(token_count(value.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value)))
}

impl Usage {
    /// Replaces the counts that `later` has.
    pub(super) fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cache_written = later.cache_written.or(self.cache_written);
        self.cache_read = later.cache_read.or(self.cache_read);
    }

    /// Returns the counts as OpenAI's `usage`, whose prompt tokens include cached ones.
    pub(super) fn to_json(self) -> Value {
        let cached = self.cache_read.unwrap_or(0);
        // Each count is at most 2^40, so no sum overflows. The hub records no count above `MAX_TOKENS`.
        let prompt = (self.input.unwrap_or(0) + self.cache_written.unwrap_or(0) + cached).min(MAX_TOKENS);
        let completion = self.output.unwrap_or(0);
        let mut usage = json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": (prompt + completion).min(MAX_TOKENS),
        });
        if cached > 0 {
            usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
        }
        usage
    }
}

/// Translates a message; `None` if it is none, or if it has more than [`MAX_PARTS`] calls.
pub(super) fn completion(message: &str, created: i64) -> Option<String> {
    let message: Message<'_> = serde_json::from_str(message).ok()?;
    if message.content.is_none() && message.kind.as_deref() != Some("message") {
        return None;
    }
    let mut parts = MessageParts::default();
    if let Some(content) = message.content.map(RawValue::get) {
        let mut is_valid = content.starts_with('[');
        each_element(content, |block| is_valid = is_valid && parts.add(block).is_some()).ok()?;
        is_valid.then_some(())?;
    }
    let MessageParts { text, reasoning, calls, .. } = parts;
    let content = if text.is_empty() && !calls.is_empty() { "null".to_owned() } else { quote(&text) };
    let mut answer = format!(r#"{{"role":"assistant","content":{content}"#);
    if !calls.is_empty() {
        let _ = write!(answer, r#","tool_calls":[{calls}]"#);
    }
    if !reasoning.is_empty() {
        let _ = write!(answer, r#","reasoning_content":{}"#, quote(&reasoning));
    }
    answer.push('}');
    let finish = finish_reason(message.stop_reason.as_deref().unwrap_or_default());
    let choice =
        format!(r#"{{"index":0,"message":{answer},"logprobs":null,"finish_reason":{}}}"#, quote(finish));
    let [id, model] = [message.id, message.model].map(|text| quote(&text.unwrap_or_default()));
    let usage = message.usage.unwrap_or_default().to_json();
    Some(format!(
        r#"{{"id":{id},"object":"chat.completion","created":{created},"model":{model},"choices":[{choice}],"usage":{usage}}}"#
    ))
}

/// Collects the text of content blocks.
#[derive(Default)]
struct MessageParts {
    text: String,
    reasoning: String,
    /// Tool calls as JSON, separated by commas.
    calls: String,
    call_count: usize,
}

impl MessageParts {
    /// Adds a block; `None` if it is invalid, or one call too many.
    fn add(&mut self, block: &str) -> Option<()> {
        // `serde` would accept an array as an object.
        let block = Some(block).filter(|block| block.starts_with('{'))?;
        let block: ContentBlock<'_> = serde_json::from_str(block).ok()?;
        match block.kind.as_deref().unwrap_or_default() {
            "text" => self.text.push_str(&block.text.unwrap_or_default()),
            "thinking" => self.reasoning.push_str(&block.thinking.unwrap_or_default()),
            "tool_use" => {
                self.call_count += 1;
                if self.call_count > MAX_PARTS {
                    return None;
                }
                let [id, name] =
                    [block.id, block.name].map(|text| text.map_or("null".to_owned(), |text| quote(&text)));
                let arguments = quote(block.input.map_or("{}", RawValue::get));
                let comma = if self.calls.is_empty() { "" } else { "," };
                let _ = write!(
                    self.calls,
                    r#"{comma}{{"id":{id},"type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
                );
            }
            _ => (),
        }
        Some(())
    }
}

/// Translates a `stop_reason`.
pub(super) fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // `end_turn`, `stop_sequence`, `pause_turn` and future ones.
        _ => "stop",
    }
}

/// Translates the body of an error to OpenAI's format.
pub(super) fn error(_status: u16, body: &str) -> String {
    let kind =
        Object::parse(body).ok().and_then(|body| Object::parse(body.get("error")?).ok()?.get_string("type"));
    let message = error_message(body).unwrap_or_else(|| "the backend gave no reason".to_owned());
    error_body(&message, kind.as_deref().unwrap_or("api_error"), None)
}
