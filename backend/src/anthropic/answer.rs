//! A message as a chat completion.

use std::borrow::Cow;
use std::fmt::Write;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use wire::json::{Object, each_element, quote};
use wire::openai::{MAX_TOKENS, error_body, error_message, token_count};

use crate::translate::MAX_PARTS;

/// A message, whole or at the start of a stream.
///
/// Members may be null or absent: servers that only resemble Anthropic's leave out what they do not have.
#[derive(Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    stop_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
}

/// A content block. Kinds that chat completions has not (search results and the like) are left out.
#[derive(Deserialize)]
pub(super) struct ContentBlock<'a> {
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) input: Option<&'a RawValue>,
}

/// What it cost. The last count of a stream rules.
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

/// A number of tokens, written as any number: 12, 12.0, "12". Anything else is none, also a number of any size.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?.get();
    Ok(token_count(value.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(value)))
}

impl Usage {
    /// What `later` says replaces what was said before.
    pub(super) fn update(&mut self, later: Self) {
        self.input = later.input.or(self.input);
        self.output = later.output.or(self.output);
        self.cache_written = later.cache_written.or(self.cache_written);
        self.cache_read = later.cache_read.or(self.cache_read);
    }

    /// In OpenAI's words, where what came from a cache counts as read.
    pub(super) fn to_json(self) -> Value {
        let cached = self.cache_read.unwrap_or(0);
        // Four counts: their sum fits. One above the limit would be none for the hub.
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

/// The completion that says what `message` says; `None` if it is none, or has more calls than are translated of any answer.
pub(super) fn completion(message: &str, created: i64) -> Option<String> {
    let message: Message<'_> = serde_json::from_str(message).ok()?;
    if message.content.is_none() && message.kind.as_deref() != Some("message") {
        return None;
    }
    let mut said = MessageParts::default();
    if let Some(content) = message.content.map(RawValue::get) {
        let mut done = Some(content).filter(|content| content.starts_with('[')).map(|_| ());
        each_element(content, |block| done = done.and_then(|()| said.add(block))).ok()?;
        done?;
    }
    let MessageParts { text, thoughts, calls, .. } = said;
    let content = if text.is_empty() && !calls.is_empty() { "null".to_owned() } else { quote(&text) };
    let mut answer = format!(r#"{{"role":"assistant","content":{content}"#);
    if !calls.is_empty() {
        let _ = write!(answer, r#","tool_calls":[{calls}]"#);
    }
    if !thoughts.is_empty() {
        let _ = write!(answer, r#","reasoning_content":{}"#, quote(&thoughts));
    }
    answer.push('}');
    let finish = finish_reason(message.stop_reason.as_deref().unwrap_or_default());
    let choice =
        format!(r#"{{"index":0,"message":{answer},"logprobs":null,"finish_reason":{}}}"#, quote(finish));
    let text = |text: &Option<Cow<'_, str>>| quote(text.as_deref().unwrap_or_default());
    let (id, model) = (text(&message.id), text(&message.model));
    let usage = message.usage.unwrap_or_default().to_json();
    Some(format!(
        r#"{{"id":{id},"object":"chat.completion","created":{created},"model":{model},"choices":[{choice}],"usage":{usage}}}"#
    ))
}

/// What the blocks of a message say, one after the other: none of them is kept.
#[derive(Default)]
struct MessageParts {
    text: String,
    thoughts: String,
    /// As JSON, with commas between them.
    calls: String,
    count: usize,
}

impl MessageParts {
    /// Adds a block; `None` for what is none, and for a call too many.
    fn add(&mut self, block: &str) -> Option<()> {
        // An array would pass for an object without members.
        let block = Some(block).filter(|block| block.starts_with('{'))?;
        let block: ContentBlock<'_> = serde_json::from_str(block).ok()?;
        match block.kind.as_deref().unwrap_or_default() {
            "text" => self.text.push_str(block.text.as_deref().unwrap_or_default()),
            "thinking" => self.thoughts.push_str(block.thinking.as_deref().unwrap_or_default()),
            "tool_use" => {
                self.count += 1;
                if self.count > MAX_PARTS {
                    return None;
                }
                let or_null = |text: &Option<Cow<'_, str>>| text.as_deref().map_or("null".to_owned(), quote);
                let (id, name) = (or_null(&block.id), or_null(&block.name));
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

/// Why it ended, in OpenAI's words.
pub(super) fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        // `end_turn`, `stop_sequence`, `pause_turn`, and what is not known yet.
        _ => "stop",
    }
}

/// `{"type":"error","error":{"type","message"}}` in OpenAI's shape.
pub(super) fn error(body: &str) -> String {
    let kind =
        Object::parse(body).ok().and_then(|body| Object::parse(body.get("error")?).ok()?.get_string("type"));
    let message = error_message(body).unwrap_or_else(|| "the backend gave no reason".to_owned());
    error_body(&message, kind.as_deref().unwrap_or("api_error"), None)
}
