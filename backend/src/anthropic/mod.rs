//! Anthropic's Messages API, spoken to callers as chat completions; its own `messages` endpoint passes as it stands.

mod answer;
mod chunks;
mod content;
mod request;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::aside::aside;
use crate::http::Client;
use crate::openai::{Auth, OpenAiBackend};
use crate::{Availability, Backend, BackendError, BackendRequest, HttpBackend, Look, Refusal, Reply};

use chunks::Chunks;
use request::{Invalid, Translated};

/// The version of the API whose shapes are translated here; the newest there is, and older models take it too.
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// A server that speaks the Messages API.
pub struct AnthropicBackend {
    /// Sends what is translated: the two APIs differ in headers and shapes, not in how a connection fails.
    http: Rc<OpenAiBackend>,
}

impl AnthropicBackend {
    /// A backend that calls by `http` and fails after `silence` without a byte. `availability`: another way to tell
    /// whether it is there.
    pub fn new(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
    ) -> Self {
        let auth = Auth::Header { name: "x-api-key", fixed: &[VERSION] };
        Self { http: Rc::new(OpenAiBackend::with_auth(http, backend, silence, availability, auth)) }
    }
}

impl Backend for AnthropicBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        match request.endpoint {
            Endpoint::ChatCompletions => chat(Rc::clone(&self.http), request).boxed_local(),
            Endpoint::Messages => self.http.infer_untranslated(request),
            Endpoint::Responses => {
                let http = Rc::clone(&self.http);
                self.http.infer_by(request, move |request| chat(Rc::clone(&http), request))
            }
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => {
                let message = "this model offers chat completions, messages and responses alone";
                std::future::ready(Ok(refusal(message))).boxed_local()
            }
        }
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        self.http.available()
    }

    fn look(&self) -> LocalBoxFuture<'static, Look> {
        self.http.look()
    }
}

async fn chat(http: Rc<OpenAiBackend>, request: BackendRequest) -> Result<Reply, BackendError> {
    let body = request.body.clone();
    let translated = aside(body.len(), move || request::messages_request(&body)).await?;
    let Translated { body, include_usage } = match translated {
        Ok(translated) => translated,
        Err(Invalid(reason)) => return Ok(refusal(&reason)),
    };
    let streaming = request.streaming;
    let asked = BackendRequest { endpoint: Endpoint::Messages, streaming, body: body.into(), ..request };
    Ok(match http.infer_untranslated(asked).await.map_err(in_openais_words)? {
        Reply::Whole { status, body } => {
            let body = answer::completion(&body, now()).ok_or_else(not_understood)?;
            Reply::Whole { status, body }
        }
        Reply::Stream(events) => {
            let translated = events
                .scan(Chunks::new(include_usage, now()), |chunks, event| {
                    let pieces = match event {
                        Ok(event) => chunks.take(&event).map_or_else(
                            || vec![Err(not_understood())],
                            |pieces| pieces.into_iter().map(Ok).collect(),
                        ),
                        Err(error) => vec![Err(in_openais_words(error))],
                    };
                    std::future::ready(Some(stream::iter(pieces)))
                })
                .flatten();
            Reply::Stream(translated.boxed_local())
        }
    })
}

fn in_openais_words(error: BackendError) -> BackendError {
    match error {
        BackendError::Refused(refusal) => {
            let body = answer::error(&refusal.body);
            BackendError::Refused(Box::new(Refusal { body, ..*refusal }))
        }
        other => other,
    }
}

/// What the Messages API cannot do is the caller's mistake, not the backend's.
fn refusal(message: &str) -> Reply {
    Reply::Whole { status: 400, body: error_body(message, "invalid_request_error", None) }
}

fn not_understood() -> BackendError {
    BackendError::Failed("backend's answer is not a message".to_owned())
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
