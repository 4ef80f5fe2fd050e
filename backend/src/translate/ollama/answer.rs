//! Writes answers: chats and generated texts, whole or as a line of a stream, and embeddings.

use std::time::Duration;

use wire::task::Endpoint;

use super::super::blocks::{AnswerBlock, AnswerBuilder};
use super::super::chunk::{BlockKind, Chunk, Usage};
use super::super::json::Json;
use super::super::{AnswerError, messages};
use super::{Durations, OllamaApi, OllamaStream, embeddings};

/// Writes the answer of one request. `created_at` is RFC 3339.
#[derive(Debug, Clone)]
pub struct OllamaAnswer {
    pub(super) api: OllamaApi,
    /// Where the call was sent.
    pub(super) endpoint: Endpoint,
    /// The requested model as JSON, which each answer repeats.
    pub(super) model: String,
    /// Whether the request asks for log probabilities.
    pub(super) has_logprobs: bool,
    /// Whether the request asks to unload the model.
    pub(super) unloads: bool,
}

/// What a line of a stream, or a whole answer, tells. Texts are escaped.
#[derive(Default)]
pub(super) struct Told {
    pub(super) thinking: String,
    pub(super) text: String,
    pub(super) calls: Vec<Json<'static>>,
    pub(super) logprobs: Vec<String>,
}

/// How an answer ended.
pub(super) struct End<'a> {
    pub(super) reason: &'a str,
    /// Absent if nothing was generated.
    pub(super) numbers: Option<(Option<Usage>, Durations)>,
}

impl OllamaAnswer {
    /// Answers a request without input.
    pub fn without_input(&self, created_at: &str) -> String {
        match self.api {
            OllamaApi::Embed => format!(r#"{{"model":{},"embeddings":[]}}"#, self.model),
            OllamaApi::Embeddings => r#"{"embedding":[]}"#.to_owned(),
            OllamaApi::Chat | OllamaApi::Generate => {
                let reason = if self.unloads { "unload" } else { "load" };
                self.object(Told::default(), created_at, Some(&End { reason, numbers: None }))
            }
        }
    }

    /// Translates the whole answer `body`.
    pub fn whole(&self, body: &str, created_at: &str, durations: Durations) -> Result<String, AnswerError> {
        if self.endpoint == Endpoint::Embeddings {
            return self.embeddings(body, durations);
        }
        let mut chunk = match self.endpoint {
            Endpoint::Completions => Chunk::of_text(body)?,
            _ => Chunk::of_completion(body)?,
        };
        let logprobs = std::mem::take(&mut chunk.logprobs);
        let mut answer = AnswerBuilder::default();
        answer.push(chunk)?;
        let mut told = Told { logprobs, ..Told::default() };
        for block in &answer.blocks {
            match &block.kind {
                BlockKind::Reasoning(_) => told.thinking.push_str(&block.text),
                BlockKind::Text | BlockKind::Refusal => told.text.push_str(&block.text),
                BlockKind::Call { .. } => told.calls.push(call(block, told.calls.len())),
            }
        }
        let end = End { reason: reason(&answer), numbers: Some((answer.usage, durations)) };
        Ok(self.object(told, created_at, Some(&end)))
    }

    /// Begins a streamed answer.
    pub fn stream(self) -> OllamaStream {
        OllamaStream::new(self)
    }

    fn embeddings(&self, body: &str, durations: Durations) -> Result<String, AnswerError> {
        let found = embeddings::read(body)?;
        if self.api == OllamaApi::Embeddings {
            return Ok(format!(r#"{{"embedding":{}}}"#, found.vectors[0]));
        }
        let tokens = found.prompt_tokens.map(|count| format!(r#","prompt_eval_count":{count}"#));
        Ok(format!(
            r#"{{"model":{},"embeddings":[{}],"total_duration":{},"load_duration":0{}}}"#,
            self.model,
            found.vectors.join(","),
            nanos(durations.total),
            tokens.unwrap_or_default(),
        ))
    }

    /// Builds one object of an answer, in one line.
    pub(super) fn object(&self, told: Told, created_at: &str, end: Option<&End<'_>>) -> String {
        let mut out =
            Json::object([("model", Json::raw(self.model.clone())), ("created_at", created_at.into())]);
        let Told { thinking, text, calls, logprobs } = told;
        let text = Json::from_fragment(&text);
        let thinking = (!thinking.is_empty()).then(|| Json::from_fragment(&thinking));
        if self.api == OllamaApi::Chat {
            let mut message = Json::object([("role", "assistant".into()), ("content", text)]);
            message.put_some("thinking", thinking);
            if !calls.is_empty() {
                message.put("tool_calls", Json::Array(calls));
            }
            out.put("message", message);
        } else {
            out.put("response", text);
            out.put_some("thinking", thinking);
        }
        out.put("done", end.is_some());
        if let Some(End { reason, numbers }) = end {
            out.put("done_reason", *reason);
            if let Some((usage, durations)) = numbers {
                put_numbers(&mut out, *usage, *durations);
            }
        }
        if self.has_logprobs && !logprobs.is_empty() {
            out.put("logprobs", Json::Array(logprobs.into_iter().map(Json::raw).collect()));
        }
        one_line(out.to_string())
    }
}

/// Appends counts and durations. Nothing is known about the loading of a model.
fn put_numbers(out: &mut Json<'_>, usage: Option<Usage>, durations: Durations) {
    out.put("total_duration", nanos(durations.total));
    out.put("load_duration", 0);
    out.put_some("prompt_eval_count", usage.map(|usage| usage.input.into()));
    out.put("prompt_eval_duration", nanos(durations.prompt));
    out.put_some("eval_count", usage.map(|usage| usage.output.into()));
    out.put("eval_duration", nanos(durations.eval));
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Builds the tool call of `block`. Ollama has arguments as an object.
pub(super) fn call(block: &AnswerBlock, index: usize) -> Json<'static> {
    let BlockKind::Call { id, name, .. } = &block.kind else { return Json::NULL };
    let function = Json::object([
        ("index", (index as u64).into()),
        ("name", Json::from_fragment(name)),
        ("arguments", messages::input(&block.text)),
    ]);
    let mut call = Json::object([]);
    call.put_some("id", (!id.is_empty()).then(|| Json::from_fragment(id)));
    call.put("function", function);
    call
}

/// Returns the `done_reason`; Ollama knows two for an answer.
pub(super) fn reason(answer: &AnswerBuilder) -> &'static str {
    match answer.finish_reason.as_deref() {
        Some("length" | "max_tokens") => "length",
        _ => "stop",
    }
}

/// Escapes the characters that some clients take for the end of a line (Python's `splitlines`). JSON has them in strings only.
fn one_line(line: String) -> String {
    if !line.contains(['\u{85}', '\u{2028}', '\u{2029}']) {
        return line;
    }
    line.replace('\u{85}', "\\u0085").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
