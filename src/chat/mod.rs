//! Chat requests through a hub, and their answers as they arrive.

mod answer;
#[cfg(test)]
mod tests;

use std::time::Duration;

use actix_web::http::{Method, header::CONTENT_TYPE};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use wire::{ids::encode_uri_component, sse::Decoder};

use crate::{
    client::HubClient,
    exit::{Failure, Outcome},
    output,
};
use answer::{Chunk, ToolCall};

/// Time-out of the head of an answer. The hub has its own (`--wait-timeout`), and the user has Ctrl-C.
const HEAD_TIMEOUT: Duration = Duration::from_hours(24);
/// Longest silence within an answer. This hub sends a comment every 15 s; a classic hub is silent while the model
/// reasons, for at most 10 min.
const MAX_SILENCE: Duration = Duration::from_mins(15);

/// Where chat requests for a name go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    path: String,
    /// The `model` of the request. `None` if the path names the LLM or the agent.
    model: Option<String>,
}

impl Route {
    /// The route to an LLM or a pool of exactly that name.
    pub(crate) fn to_llm(name: &str) -> Self {
        Self { path: format!("/api/v1/llms/{}/infer", encode_uri_component(name)), model: None }
    }

    /// The route on which the hub finds the name, which may be an alias.
    fn by_model(name: &str) -> Self {
        Self { path: "/v1/chat/completions".to_owned(), model: Some(name.to_owned()) }
    }
}

/// Options of a chat request.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChatOptions {
    pub(crate) temperature: Option<f64>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) streaming: bool,
}

impl ChatOptions {
    /// OpenAI chat request with `messages`.
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
            // Without it the hub and the status line would have to estimate the number of tokens.
            request["stream_options"] = json!({ "include_usage": true });
        }
        request
    }
}

/// A complete answer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// The model's reason not to answer.
    pub(crate) refusal: String,
    pub(crate) calls: Vec<ToolCall>,
    /// Whether the answer contains reasoning.
    pub(crate) has_reasoning: bool,
    /// `finish_reason`.
    pub(crate) finish: Option<String>,
    /// Number of tokens: as the backend counted them, else the number of chunks with content.
    pub(crate) tokens: u64,
    /// Time from the request to the first token.
    pub(crate) to_first: Duration,
    /// Time from the request to the end.
    pub(crate) total: Duration,
}

impl Answer {
    fn add(&mut self, chunk: Chunk) {
        self.tokens = chunk.tokens.unwrap_or(self.tokens + u64::from(chunk.has_content()));
        self.has_reasoning |= chunk.reasoning.is_some();
        self.text.push_str(chunk.text.as_deref().unwrap_or_default());
        self.refusal.push_str(chunk.refusal.as_deref().unwrap_or_default());
        for call in chunk.calls {
            answer::add_call(&mut self.calls, call);
        }
        self.finish = chunk.finish.or(self.finish.take());
    }

    /// Whether the answer has a text, a refusal or a tool call.
    pub(crate) fn has_content(&self) -> bool {
        !self.text.trim().is_empty() || !self.refusal.is_empty() || !self.calls.is_empty()
    }

    /// Ends a command that has shown the answer: an empty one is a failure, and of one that is cut off it says so.
    pub(crate) fn outcome(&self) -> Outcome {
        match self.shortfall() {
            Some(why) if !self.has_content() => Err(Failure::failed(why)),
            Some(why) => {
                output::note(why);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Reason why the answer is empty or cut off; `None` if it is complete.
    pub(crate) fn shortfall(&self) -> Option<String> {
        let has_content = self.has_content();
        let no_text = self.text.trim().is_empty();
        let text = match self.finish.as_deref() {
            Some("length" | "max_tokens") if has_content => {
                "the answer is cut off: the limit of tokens was reached"
            }
            Some("length" | "max_tokens") if self.has_reasoning => {
                "no answer: the limit of tokens was reached while the model was thinking (finish_reason length); \
                 a larger --max-tokens leaves room for the answer"
            }
            Some("length" | "max_tokens") => {
                "no answer: the limit of tokens was reached (finish_reason length); give a larger --max-tokens"
            }
            Some("content_filter") if has_content => "the answer is cut off by a content filter",
            Some("content_filter") => {
                "no answer: a content filter held it back (finish_reason content_filter)"
            }
            _ if no_text && !self.refusal.is_empty() => "the model refused",
            _ if no_text && !self.calls.is_empty() => "the model calls a tool instead of answering",
            _ if has_content => return None,
            Some("tool_calls" | "function_call") => {
                "no answer: the model wanted to call a tool and named none (finish_reason tool_calls)"
            }
            _ if self.has_reasoning => "no answer: the model thought, and said nothing after it",
            Some(reason) => {
                let reason = crate::output::printable(reason).into_owned();
                return Some(format!("no answer: the model said nothing (finish_reason {reason})"));
            }
            None => "no answer: the model said nothing",
        };
        Some(text.to_owned())
    }

    /// Tokens a second after the first one.
    pub(crate) fn tokens_per_second(&self) -> Option<f64> {
        let seconds = self.total.saturating_sub(self.to_first).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate needs few digits")]
        (self.tokens > 1 && seconds > 0.0).then(|| (self.tokens - 1) as f64 / seconds)
    }
}

/// The answer in the `result` of a durable task: a whole completion in `body`, or the chunks of a stream.
pub(crate) fn of_task(result: &Value) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    if let Some(chunks) = result["chunks"].as_array() {
        chunks
            .iter()
            .try_for_each(|chunk| Chunk::of_event(&chunk.to_string()).map(|chunk| answer.add(chunk)))?;
    } else {
        answer.add(Chunk::of_completion(result["body"].to_string().as_bytes())?);
    }
    Ok(answer)
}

/// A piece of an answer that is shown as it arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delta<'a> {
    Text(&'a str),
    Reasoning(&'a str),
    Refusal(&'a str),
}

/// Finds the route to `name`: an LLM, a pool, an agent or an alias of one. Sends no inference.
///
/// A hub with the OpenAI-compatible API finds the name itself: an alias comes before what other users have by its name.
pub(crate) async fn find_route(hub: &HubClient, name: &str) -> Result<Route, Failure> {
    let encoded = encode_uri_component(name);
    if hub.find(&format!("/v1/models/{encoded}")).await?.is_some() {
        return Ok(Route::by_model(name));
    }
    // A name that is away, or a classic hub.
    if let Some(path) = path_of(hub, &encoded).await? {
        let finds_names = hub.find("/v1/models").await?.is_some();
        return Ok(if finds_names { Route::by_model(name) } else { Route { path, model: None } });
    }
    if hub.find(&format!("/api/v1/aliases/{encoded}")).await?.is_some() {
        return Ok(Route::by_model(name));
    }
    Err(Failure::failed(format!(
        "there is no LLM, pool or agent '{name}' at {}; `virtual-llm get llm` lists them",
        hub.url()
    )))
}

async fn path_of(hub: &HubClient, encoded: &str) -> Result<Option<String>, Failure> {
    let (agent, llm) = (format!("/api/v1/agents/{encoded}"), format!("/api/v1/llms/{encoded}"));
    let members = format!("{llm}/members");
    for (path, target) in [(&llm, &llm), (&agent, &agent), (&members, &llm)] {
        if hub.find(path).await?.is_some() {
            return Ok(Some(format!("{target}/infer")));
        }
    }
    Ok(None)
}

/// Sends a chat request on `route`, and calls `on_delta` with each piece of the answer.
pub(crate) async fn ask(
    hub: &HubClient,
    route: &Route,
    request: &Value,
    mut on_delta: impl FnMut(Delta<'_>) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let asked = Instant::now();
    let named = route.model.as_ref().map(|model| {
        let mut request = request.clone();
        request["model"] = json!(model);
        request
    });
    let request = named.as_ref().unwrap_or(request);
    let mut response = hub.send(Method::POST, &route.path, Some(request), HEAD_TIMEOUT).await?;
    let mut answer = Answer::default();
    let mut first = None;
    let mut add = |chunk: Chunk, answer: &mut Answer| -> Result<(), Failure> {
        if chunk.has_content() {
            first.get_or_insert_with(|| asked.elapsed());
        }
        if let Some(text) = &chunk.reasoning {
            on_delta(Delta::Reasoning(text))?;
        }
        if let Some(text) = &chunk.text {
            on_delta(Delta::Text(text))?;
        }
        if let Some(text) = &chunk.refusal {
            on_delta(Delta::Refusal(text))?;
        }
        answer.add(chunk);
        Ok(())
    };
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|value| value.starts_with("text/event-stream")) {
        let mut decoder = Decoder::new();
        'stream: loop {
            let bytes = match tokio::time::timeout(MAX_SILENCE, response.next()).await {
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
                    break 'stream;
                }
                add(Chunk::of_event(&event.data)?, &mut answer)?;
            }
        }
    } else {
        let bytes = hub.read_body(&mut response).await?;
        add(Chunk::of_completion(&bytes)?, &mut answer)?;
    }
    answer.total = asked.elapsed();
    answer.to_first = first.unwrap_or(answer.total);
    Ok(answer)
}
