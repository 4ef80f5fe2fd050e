//! The parts of a request that the mock uses.

use jiff::Timestamp;
use serde_json::Value;
use wire::task::Endpoint;

use crate::BackendRequest;

/// The content of the mock's answer, independent of the API.
pub(super) struct EchoRequest {
    /// Number of the request, from 1.
    pub(super) number: u64,
    /// The request's `model`, which the answer repeats.
    pub(super) model: String,
    /// Time of the answer, in seconds since the Unix epoch.
    pub(super) created: i64,
    /// The words of the answer.
    pub(super) words: Vec<String>,
    /// Whether the caller's token limit cut the answer.
    pub(super) cut: bool,
    /// Number of words in the whole request.
    pub(super) prompt_tokens: usize,
    /// Whether a stream ends with its token usage.
    pub(super) include_usage: bool,
    /// The texts of an embeddings or rerank request.
    pub(super) texts: Vec<String>,
    /// Whether embeddings are in base64, as OpenAI's SDKs request them.
    pub(super) in_base64: bool,
    /// The query of a rerank request.
    pub(super) query: String,
}

impl EchoRequest {
    pub(super) fn read(request: &BackendRequest, number: u64, tokens: Option<usize>) -> Option<Self> {
        let body: Value = serde_json::from_slice(&request.body).ok()?;
        let texts = match request.endpoint {
            Endpoint::ChatCompletions | Endpoint::Messages | Endpoint::CountTokens => {
                messages(&body["messages"])
            }
            Endpoint::Completions => texts(&body["prompt"]),
            Endpoint::Responses | Endpoint::InputTokens if body["input"].is_array() => {
                messages(&body["input"])
            }
            Endpoint::Responses | Endpoint::InputTokens | Endpoint::Embeddings => texts(&body["input"]),
            Endpoint::Rerank => texts(&body["documents"]),
        };
        let said: Vec<&str> = texts.last().map_or_else(Vec::new, |text| text.split_whitespace().collect());
        // An empty answer would look like a fault.
        let said = if said.is_empty() { vec!["hello"] } else { said };
        let wanted = tokens.unwrap_or(said.len());
        let limit = ["max_tokens", "max_completion_tokens", "max_output_tokens"]
            .iter()
            .find_map(|key| body[*key].as_u64())
            .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Some(Self {
            number,
            model: body["model"].as_str().unwrap_or_default().to_owned(),
            created: Timestamp::now().as_second(),
            words: said.iter().cycle().take(wanted.min(limit)).map(|word| (*word).to_owned()).collect(),
            cut: wanted > limit,
            prompt_tokens: texts.iter().map(|text| text.split_whitespace().count()).sum(),
            include_usage: body["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            in_base64: body["encoding_format"] == "base64",
            query: body["query"].as_str().unwrap_or_default().to_owned(),
            texts,
        })
    }

    /// The text of the whole answer.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }

    /// The words of a streamed answer; joined, they are [`text`](Self::text).
    pub(super) fn chunks(&self) -> impl Iterator<Item = String> {
        self.words
            .iter()
            .enumerate()
            .map(|(index, word)| if index == 0 { word.clone() } else { format!(" {word}") })
    }
}

/// The texts of all messages; the text of the last user message comes last.
fn messages(messages: &Value) -> Vec<String> {
    let messages = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_user = |message: &&Value| message["role"].as_str().is_none_or(|role| role == "user");
    let last = messages.iter().rev().find(is_user);
    let others = messages.iter().filter(|message| last.is_none_or(|last| !std::ptr::eq(*message, last)));
    others.chain(last).map(|message| content(&message["content"])).collect()
}

/// Text of a message's content: a string, or the text parts of a list.
fn content(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The texts in a string or a list of strings.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) if items.iter().all(Value::is_number) => vec![value.to_string()],
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| content(&item["text"]), str::to_owned))
            .collect(),
        other => vec![content(other)],
    }
}
