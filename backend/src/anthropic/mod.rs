//! Anthropic's Messages API. Chat completions and responses are translated to it.

mod answer;
mod chunks;
mod content;
mod request;

#[cfg(test)]
mod tests;

use std::future::ready;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::chat_fallback::no_count;
use crate::http::Client;
use crate::offload::offload;
use crate::openai::OpenAiBackend;
use crate::translate::{AnswerError, check_values};
use crate::translated_stream::translated_stream;
use crate::{Availability, Backend, BackendError, BackendHealth, BackendRequest, HttpBackend, Reply, Secret};

use chunks::ChunkTranslator;
use request::MessagesRequest;

/// The newest version of the API, as a header.
pub(crate) const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

/// A server that speaks the Messages API.
pub struct AnthropicBackend {
    /// Sends requests. The APIs differ in headers and bodies only.
    http: OpenAiBackend,
}

impl AnthropicBackend {
    /// Creates a backend that fails after `silence` without a byte. `availability` replaces the default health check.
    pub fn new(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
    ) -> Self {
        let key = backend.api_key.iter().map(|key| ("x-api-key", key.clone()));
        let headers = key.chain([(VERSION.0, Secret::new(VERSION.1))]).collect();
        Self { http: OpenAiBackend::with_headers(http, backend, silence, availability, headers) }
    }
}

impl Backend for AnthropicBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let http = self.http.clone();
        match request.endpoint {
            Endpoint::ChatCompletions => chat(http, request).boxed_local(),
            Endpoint::Messages | Endpoint::CountTokens => http.infer_untranslated(request),
            Endpoint::InputTokens => ready(Err(no_count())).boxed_local(),
            Endpoint::Responses => async move {
                http.clone()
                    .infer_translated(request, &|request| chat(http.clone(), request).boxed_local())
                    .await
            }
            .boxed_local(),
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Rerank => {
                let message = "this model offers chat completions, messages and responses alone";
                ready(Ok(refusal(message))).boxed_local()
            }
        }
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        self.http.available()
    }

    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        self.http.health()
    }
}

async fn chat(http: OpenAiBackend, mut request: BackendRequest) -> Result<Reply, BackendError> {
    let (user, body) = (request.user.clone(), request.body.clone());
    let translated = offload(&user, body.len(), move || request::messages_request(&body)).await?;
    let MessagesRequest { body, include_usage } = match translated {
        Ok(translated) => translated,
        Err(invalid) => return Ok(refusal(&invalid.0)),
    };
    // What counted the caller's request goes with it, so its translation is counted like an answer.
    let mut reservation = request.budget.reservation();
    if !reservation.resize(body.len()) {
        return Err(BackendError::BudgetExceeded);
    }
    (request.endpoint, request.body) = (Endpoint::Messages, body.into());
    let reply = http.infer_untranslated(request).await.map_err(|error| error.map_body(answer::error))?;
    let _smaller = reservation.resize(0);
    let created = jiff::Timestamp::now().as_second();
    Ok(match reply {
        Reply::Whole { status, body } => {
            let size = body.len();
            let completion = move || read(&body, |body| answer::completion(body, created));
            let body = offload(&user, size, completion).await??;
            Reply::Whole { status, body }
        }
        Reply::Stream(events) => {
            let translator = ChunkTranslator::new(include_usage, created);
            Reply::Stream(translated_stream(events, translator, user, reservation))
        }
    })
}

/// Calls `reader` with an answer, or an event of one, after a check of its number of values.
fn read<T>(text: &str, reader: impl FnOnce(&str) -> Option<T>) -> Result<T, BackendError> {
    let invalid = || BackendError::Failed("backend's answer is not a message".to_owned());
    match check_values(text) {
        Err(error @ AnswerError::TooManyValues) => Err(error.into()),
        Err(_) => Err(invalid()),
        Ok(()) => reader(text).ok_or_else(invalid),
    }
}

/// Refuses a request that the Messages API cannot express.
fn refusal(message: &str) -> Reply {
    Reply::Whole { status: 400, body: error_body(message, "invalid_request_error", None) }
}
