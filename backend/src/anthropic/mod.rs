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
use futures_util::stream::LocalBoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use wire::openai::error_body;
use wire::task::Endpoint;

use crate::budget::Reservation;
use crate::http::Client;
use crate::offload::{LONG_ANSWER, offload};
use crate::openai::{Auth, OpenAiBackend};
use crate::translate::{AnswerError, is_small};
use crate::{
    Availability, Backend, BackendError, BackendHealth, BackendRequest, HttpBackend, Refusal, Reply,
};

use chunks::ChunkTranslator;
use request::{InvalidRequest, MessagesRequest};

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

    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        self.http.health()
    }
}

async fn chat(http: Rc<OpenAiBackend>, request: BackendRequest) -> Result<Reply, BackendError> {
    let (user, body) = (request.user.clone(), request.body.clone());
    let translated = offload(&user, body.len(), move || request::messages_request(&body)).await?;
    let MessagesRequest { body, include_usage } = match translated {
        Ok(translated) => translated,
        Err(InvalidRequest(reason)) => return Ok(refusal(&reason)),
    };
    let (streaming, reservation) = (request.streaming, request.budget.reservation());
    let asked = BackendRequest { endpoint: Endpoint::Messages, streaming, body: body.into(), ..request };
    Ok(match http.infer_untranslated(asked).await.map_err(in_openais_words)? {
        Reply::Whole { status, body } => {
            let size = body.len();
            let completion = move || read(&body, |body| answer::completion(body, now()));
            let body = offload(&user, size, completion).await??;
            Reply::Whole { status, body }
        }
        Reply::Stream(events) => {
            let told = TranslatedStream {
                user,
                open: Some(ChunkTranslator::new(include_usage, now())),
                events,
                reservation,
            };
            Reply::Stream(
                stream::unfold(told, TranslatedStream::next).map(stream::iter).flatten().boxed_local(),
            )
        }
    })
}

/// A streamed answer that is being translated.
struct TranslatedStream {
    user: String,
    /// `None` behind an error.
    open: Option<ChunkTranslator>,
    events: LocalBoxStream<'static, Result<String, BackendError>>,
    /// Counts what is kept of the answer, and the event that is being told.
    reservation: Reservation,
}

impl TranslatedStream {
    /// The chunks that the next event gives. After an error nothing follows.
    async fn next(mut self) -> Option<(Vec<Result<String, BackendError>>, Self)> {
        let open = self.open.take()?;
        let told = match self.events.next().await? {
            Ok(event) => self.tell(open, event).await,
            Err(error) => Err(in_openais_words(error)),
        };
        Some((told.map_or_else(|error| vec![Err(error)], |told| told.into_iter().map(Ok).collect()), self))
    }

    async fn tell(&mut self, mut open: ChunkTranslator, event: String) -> Result<Vec<String>, BackendError> {
        if !self.reservation.resize(open.kept() + event.len()) {
            return Err(BackendError::BudgetExceeded);
        }
        let size = if open.kept() > LONG_ANSWER { usize::MAX } else { event.len() };
        let work = move || read(&event, |event| open.take(event)).map(|told| (open, told));
        let (open, told) = offload(&self.user, size, work).await??;
        self.open = Some(open);
        Ok(told)
    }
}

/// What `reader` makes of an answer, or of an event of one, of no more values than a tree is made of.
fn read<T>(text: &str, reader: impl FnOnce(&str) -> Option<T>) -> Result<T, BackendError> {
    match is_small(text) {
        Err(AnswerError::TooManyValues) => Err(BackendError::Failed(AnswerError::TooManyValues.to_string())),
        Err(_) => Err(not_understood()),
        Ok(()) => reader(text).ok_or_else(not_understood),
    }
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
