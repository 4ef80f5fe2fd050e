//! One question to a model through a hub, and its answer as it comes.

mod answer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix_web::http::{Method, StatusCode, header::CONTENT_TYPE};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use wire::sse::Decoder;

use crate::{
    client::{CallError, HubClient, encoded},
    exit::Failure,
};
use answer::{Piece, ToolCall, collect};

/// The hub bounds the wait (`--wait-timeout`), and a person has Ctrl-C: this only keeps a timer from overflowing.
const PATIENCE: Duration = Duration::from_hours(24);
/// A hub of ours sends a comment every 15 s; a classic one is silent while the model thinks, for 10 min at most.
const LONGEST_SILENCE: Duration = Duration::from_mins(15);

/// Which of the hub's doors leads to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Door {
    path: String,
}

impl Door {
    /// An LLM's or a pool's.
    pub(crate) fn llm(name: &str) -> Self {
        Self { path: format!("/api/v1/llms/{}/infer", encoded(name)) }
    }

    fn agent(name: &str) -> Self {
        Self { path: format!("/api/v1/agents/{}/infer", encoded(name)) }
    }
}

/// How the model is to answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manner {
    /// Sampling temperature.
    pub(crate) temperature: Option<f64>,
    /// Longest answer.
    pub(crate) max_tokens: Option<u64>,
    /// Piece by piece, or whole.
    pub(crate) streaming: bool,
}

impl Manner {
    /// The OpenAI request for these messages.
    pub(crate) fn request(&self, messages: &[Value]) -> Value {
        let mut request = json!({ "messages": messages });
        if let Some(temperature) = self.temperature {
            request["temperature"] = json!(temperature);
        }
        if let Some(max_tokens) = self.max_tokens {
            request["max_tokens"] = json!(max_tokens);
        }
        if self.streaming {
            request["stream"] = json!(true);
            // Else nobody counts: the status line guesses, and the hub's records have no number.
            request["stream_options"] = json!({ "include_usage": true });
        }
        request
    }
}

/// An answer that came to its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    /// All of its text.
    pub(crate) text: String,
    /// Why the model does not answer, in its own words.
    pub(crate) refusal: String,
    /// The tools that the model calls.
    pub(crate) calls: Vec<ToolCall>,
    /// Whether the model thought aloud.
    pub(crate) thought: bool,
    /// `finish_reason`.
    pub(crate) finish: Option<String>,
    /// Its tokens: as the backend counts them, else the pieces that came.
    pub(crate) tokens: u64,
    /// From the question to the first token.
    pub(crate) to_first: Duration,
    /// From the question to the end.
    pub(crate) total: Duration,
}

impl Answer {
    /// Whether the model said something: text, a refusal, a call of a tool.
    pub(crate) fn is_something(&self) -> bool {
        !self.text.trim().is_empty() || !self.refusal.is_empty() || !self.calls.is_empty()
    }

    /// Why the answer is empty, or less than what was asked for; `None` where it is as it should be.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let said = self.is_something();
        let no_text = self.text.trim().is_empty();
        let text = match self.finish.as_deref() {
            Some("length" | "max_tokens") if said => "the answer is cut off: the limit of tokens was reached",
            Some("length" | "max_tokens") if self.thought => {
                "no answer: the limit of tokens was reached while the model was thinking (finish_reason length); \
                 a larger --max-tokens leaves room for the answer"
            }
            Some("length" | "max_tokens") => {
                "no answer: the limit of tokens was reached (finish_reason length); give a larger --max-tokens"
            }
            Some("content_filter") if said => "the answer is cut off by a content filter",
            Some("content_filter") => {
                "no answer: a content filter held it back (finish_reason content_filter)"
            }
            _ if no_text && !self.refusal.is_empty() => "the model refused",
            _ if no_text && !self.calls.is_empty() => "the model calls a tool instead of answering",
            _ if said => return None,
            Some("tool_calls" | "function_call") => {
                "no answer: the model wanted to call a tool and named none (finish_reason tool_calls)"
            }
            _ if self.thought => "no answer: the model thought, and said nothing after it",
            Some(reason) => {
                let reason = crate::output::printable(reason).into_owned();
                return Some(format!("no answer: the model said nothing (finish_reason {reason})"));
            }
            None => "no answer: the model said nothing",
        };
        Some(text.to_owned())
    }

    /// Tokens a second, once they had begun to come.
    pub(crate) fn pace(&self) -> Option<f64> {
        let seconds = self.total.saturating_sub(self.to_first).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "nobody reads the last digits of a rate")]
        (self.tokens > 1 && seconds > 0.0).then(|| (self.tokens - 1) as f64 / seconds)
    }
}

/// What arrives while a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// A piece of the answer.
    Text(&'a str),
    /// A piece of what the model thinks before it answers.
    Thought(&'a str),
    /// A piece of the words with which it refuses.
    Refusal(&'a str),
}

/// Finds the door of `name`: an LLM or a pool, else an agent. Asks nothing that costs a token.
pub(crate) async fn find(hub: &HubClient, name: &str) -> Result<Door, Failure> {
    let is_missing = |error: &CallError| error.is(StatusCode::NOT_FOUND);
    for (path, door) in [("llms", Door::llm(name)), ("agents", Door::agent(name))] {
        match hub.get(&format!("/api/v1/{path}/{}", encoded(name))).await {
            Ok(_) => return Ok(door),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A pool has no row of its own name.
    match hub.get(&format!("/api/v1/llms/{}/members", encoded(name))).await {
        Ok(_) => Ok(Door::llm(name)),
        Err(error) if is_missing(&error) => Err(Failure::failed(format!(
            "there is no LLM, pool or agent '{name}' at {}; `virtual-llm get llm` lists them",
            hub.url()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Asks, and hands each piece to `hear` as it comes.
pub(crate) async fn ask(
    hub: &HubClient,
    door: &Door,
    request: &Value,
    mut hear: impl FnMut(Heard<'_>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let asked = Instant::now();
    let mut response = hub.send(Method::POST, &door.path, Some(request), PATIENCE).await?;
    let mut answer = Answer::default();
    let mut first = None;
    let mut take = |piece: Piece, answer: &mut Answer| -> Result<(), Failure> {
        let is_content = piece.is_content();
        if is_content {
            first.get_or_insert_with(|| asked.elapsed());
        }
        if let Some(thought) = &piece.thought {
            answer.thought = true;
            hear(Heard::Thought(thought))?;
        }
        if let Some(text) = &piece.text {
            answer.text.push_str(text);
            hear(Heard::Text(text))?;
        }
        if let Some(refusal) = &piece.refusal {
            answer.refusal.push_str(refusal);
            hear(Heard::Refusal(refusal))?;
        }
        for call in piece.calls {
            collect(&mut answer.calls, call);
        }
        answer.finish = piece.finish.or(answer.finish.take());
        answer.tokens = match piece.counted {
            Some(counted) => counted,
            None => answer.tokens + u64::from(is_content),
        };
        Ok(())
    };
    let is_stream = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"));
    if is_stream {
        let mut decoder = Decoder::new();
        let mut is_done = false;
        while !is_done {
            let bytes = match tokio::time::timeout(LONGEST_SILENCE, response.next()).await {
                Ok(Some(Ok(bytes))) => bytes,
                Ok(Some(Err(_)) | None) => {
                    return Err(Failure::failed("the answer broke off: the connection ended"));
                }
                Err(_) => return Err(Failure::failed("the answer broke off: nothing came for 15 minutes")),
            };
            decoder.feed(&bytes);
            if decoder.discarded() > 0 {
                return Err(Failure::failed("the answer has a piece that is too large to be read"));
            }
            while let Some(event) = decoder.next_event() {
                if event.data == "[DONE]" {
                    is_done = true;
                    break;
                }
                take(Piece::of_chunk(&event.data)?, &mut answer)?;
            }
        }
    } else {
        let bytes = hub.whole(&mut response).await?;
        take(Piece::of_completion(&bytes)?, &mut answer)?;
    }
    answer.total = asked.elapsed();
    answer.to_first = first.unwrap_or(answer.total);
    Ok(answer)
}
