//! Anthropic's Messages API: chat completions are translated both ways, `messages` passes as it is.

mod answer;
mod request;

#[cfg(test)]
mod tests;

use awc::Client;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt, future};
use serde_json::Value;
use wire::task::Endpoint;

use super::openai::{Dialect, OpenAiBackend};
use super::{Backend, BackendError, BackendRequest, Reply};
use crate::options::{HttpBackend, ProviderConfig};

use answer::Chunks;

/// A server that speaks the Messages API.
pub struct AnthropicBackend {
    http: OpenAiBackend,
}

impl AnthropicBackend {
    /// A backend that calls by `http`.
    pub fn new(http: Client, backend: &HttpBackend, config: &ProviderConfig) -> Self {
        Self { http: OpenAiBackend::speaking(Dialect::Anthropic, http, backend, config) }
    }
}

impl Backend for AnthropicBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        match request.endpoint {
            Endpoint::Messages => self.http.infer(request),
            Endpoint::ChatCompletions => match translated(&request) {
                Ok((request, wants_usage)) => {
                    let answering = self.http.infer(request);
                    async move { Ok(translate_back(answering.await?, wants_usage)) }.boxed_local()
                }
                Err(reason) => future::ready(Err(BackendError::Failed(reason))).boxed_local(),
            },
            other => {
                let text = format!(
                    "this provider offers no {}: chat/completions and messages it does",
                    other.as_str()
                );
                future::ready(Err(BackendError::Failed(text))).boxed_local()
            }
        }
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        self.http.available()
    }
}

/// The request, and whether the caller wants a usage chunk.
fn translated(request: &BackendRequest) -> Result<(BackendRequest, bool), String> {
    let chat: Value = serde_json::from_slice(&request.body).map_err(|_| "the request is not JSON")?;
    let body = request::to_messages(&chat)?.to_string().into();
    let wants_usage = chat["stream_options"]["include_usage"] == true;
    Ok((BackendRequest { endpoint: Endpoint::Messages, streaming: request.streaming, body }, wants_usage))
}

fn translate_back(reply: Reply, wants_usage: bool) -> Reply {
    let created = jiff::Timestamp::now().as_second();
    match reply {
        Reply::Whole { status, body } => {
            let Ok(value) = serde_json::from_str::<Value>(&body) else {
                return Reply::Whole { status, body };
            };
            let translated = match status {
                400.. => answer::error(&value),
                _ => answer::completion(&value, created),
            };
            Reply::Whole { status, body: translated.to_string() }
        }
        Reply::Stream(events) => Reply::Stream(chunks(events, Chunks::new(created, wants_usage))),
    }
}

type Events = LocalBoxStream<'static, Result<String, BackendError>>;

fn chunks(events: Events, mut state: Chunks) -> Events {
    events
        .filter_map(move |event| {
            future::ready(match event {
                Ok(event) => match serde_json::from_str(&event) {
                    Ok(event) => state.chunk(&event).map(|chunk| Ok(chunk.to_string())),
                    Err(_) => {
                        Some(Err(BackendError::Failed("backend sent an event that is not JSON".to_owned())))
                    }
                },
                Err(error) => Some(Err(error)),
            })
        })
        .boxed_local()
}
