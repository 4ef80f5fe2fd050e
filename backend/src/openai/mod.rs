//! Servers with OpenAI's HTTP API: vLLM, llama.cpp, Ollama, LM Studio and others.

mod answer_stream;
mod body;
mod completion;
mod error_in_answer;
mod failure;
mod refusal;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt};
use hyper::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
};
use hyper::{Request, Response, StatusCode};
use wire::model_path::cut_model_paths;
use wire::task::Endpoint;

use crate::attribution::without_attribution;
use crate::chat_fallback::{Ask, ChatFallback};
use crate::health::{BackendHealth, HealthCheck};
use crate::http::{self, Client, LookupUser, read_reserved};
use crate::offload::offload;
use crate::redact::Redactor;
use crate::{Availability, Backend, BackendError, BackendRequest, HttpBackend, Reply, Secret};

use answer_stream::AnswerStream;
use body::Body;
use completion::Completion;
use error_in_answer::ErrorInAnswer;
use failure::failed;

/// Maximum size of a whole answer in bytes, which is the hub's limit. A long text has a few hundred KiB, images in base64 some MiB.
const MAX_ANSWER: usize = 64 << 20;
/// Maximum size of an error in bytes: of a body, encoded and decoded, and of an error in an answer or event.
const MAX_ERROR: usize = 256 << 10;

/// A server with OpenAI's API.
#[derive(Clone)]
pub struct OpenAiBackend {
    inner: Rc<Inner>,
    /// Whether the attribution line of a Messages request is sent.
    keeps_attribution: bool,
}

struct Inner {
    http: Client,
    url: Secret,
    headers: Headers,
    silence: Duration,
    redactor: Arc<Redactor>,
    health_check: HealthCheck,
    fallback: ChatFallback,
}

/// Headers of every request, the key included.
pub(crate) type Headers = Rc<[(&'static str, Secret)]>;

impl OpenAiBackend {
    /// Creates a backend that fails after `silence` without a byte. `availability` replaces the default health check.
    pub fn new(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
    ) -> Self {
        let key = backend.api_key.iter();
        let key = key.map(|key| ("authorization", Secret::new(format!("Bearer {}", key.reveal()))));
        Self::with_headers(http, backend, silence, availability, key.collect())
    }

    /// Like [`new`](Self::new), but sends `headers` instead of the key as a bearer token.
    pub(crate) fn with_headers(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
        headers: Headers,
    ) -> Self {
        let health_check = HealthCheck::new(http.clone(), backend, Rc::clone(&headers), availability);
        let inner = Inner {
            http,
            url: backend.url.clone(),
            headers,
            silence,
            redactor: Arc::new(Redactor::new(backend)),
            health_check,
            fallback: ChatFallback::new(),
        };
        Self { inner: Rc::new(inner), keeps_attribution: false }
    }

    /// Sends the attribution line of Claude Code (`x-anthropic-billing-header:`), which is dropped by default because it changes
    /// with each session and so costs the backend its prefix cache.
    #[must_use]
    pub fn keep_attribution(self, keeps_attribution: bool) -> Self {
        Self { keeps_attribution, ..self }
    }

    /// Like [`infer`](Backend::infer), but never translates.
    pub(crate) fn infer_untranslated(
        &self,
        request: BackendRequest,
    ) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        Rc::clone(&self.inner).infer(request).boxed_local()
    }

    /// Translates `request` to chat completions, which `chat` answers.
    pub(crate) async fn infer_translated(
        &self,
        request: BackendRequest,
        chat: Ask<'_>,
    ) -> Result<Reply, BackendError> {
        self.inner.fallback.translate(request, chat).await
    }
}

impl Backend for OpenAiBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let this = self.clone();
        async move {
            // Counts until the answer begins.
            let (request, _copy) =
                if this.keeps_attribution { (request, None) } else { without_attribution(request).await? };
            let ask = |request| this.infer_untranslated(request);
            this.inner.fallback.infer(request, &ask).await
        }
        .boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        self.health().map(|health| health == BackendHealth::Up).boxed_local()
    }

    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let inner = Rc::clone(&self.inner);
        async move {
            let health = inner.health_check.run().await;
            if matches!(health, BackendHealth::Away(_)) {
                inner.fallback.reset();
            }
            health
        }
        .boxed_local()
    }
}

impl Inner {
    async fn infer(self: Rc<Self>, request: BackendRequest) -> Result<Reply, BackendError> {
        let (endpoint, streaming, user) = (request.endpoint, request.streaming, request.user.clone());
        let mut reservation = request.budget.reservation();
        let completion = if streaming {
            let body = request.body.clone();
            Some(offload(&user, body.len(), move || Completion::new(endpoint, &body)).await?)
        } else {
            None
        };
        let response = self.send(request).await?;
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(BackendError::KeyRefused);
            }
            _ if status.is_client_error() || status.is_server_error() => {
                return Err(self.refusal(response).await);
            }
            _ if status.is_redirection() => {
                return Err(failed(format!(
                    "backend answered {}: redirects are not followed",
                    status.as_u16()
                )));
            }
            _ if !status.is_success() => {
                return Err(failed(format!("backend answered {}, which nobody asked for", status.as_u16())));
            }
            _ => (),
        }
        let coding = text_of(response.headers(), &CONTENT_ENCODING);
        if !coding.is_empty() && !coding.eq_ignore_ascii_case("identity") {
            return Err(failed("backend answered in an encoding that was not asked for"));
        }
        let mut body = Body::new(response.into_body());
        // The first byte tells a stream from JSON. The content type does not: some servers send `text/plain` or none.
        if let Some(completion) = completion
            && body.first_byte(self.silence).await.map_err(|error| self.unread(error))? != Some(b'{')
        {
            return Ok(Reply::Stream(
                AnswerStream::new(body, self, endpoint, user, completion, reservation).boxed_local(),
            ));
        }
        let body = read_reserved(body, MAX_ANSWER, self.silence, &mut reservation).await;
        let body = body.map_err(|error| self.unread(error))?;
        if body.is_empty() {
            return Err(failed(format!("backend answered {} with an empty body", status.as_u16())));
        }
        let redactor = Arc::clone(&self.redactor);
        match offload(&user, body.len(), move || read(body, endpoint, &redactor)).await? {
            Ok(body) => {
                reservation.keep();
                Ok(Reply::Whole { status: status.as_u16(), body })
            }
            Err(Some(error)) => Err(self.told(&error)),
            Err(None) => Err(failed("backend's answer is not JSON")),
        }
    }

    async fn send(&self, request: BackendRequest) -> Result<Response<http::Body>, BackendError> {
        let accept =
            if request.streaming { "text/event-stream, application/json" } else { "application/json" };
        let mut call = Request::post(format!("{}/{}", self.url.reveal(), request.endpoint.as_str()))
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, accept)
            .header(ACCEPT_ENCODING, "identity")
            .extension(LookupUser(request.user.clone()));
        if let Some(headers) = call.headers_mut() {
            for (name, value) in &*self.headers {
                let value = HeaderValue::from_str(value.reveal())
                    .map_err(|_| failed("the backend's key is not one"))?;
                headers.insert(HeaderName::from_static(name), value);
            }
            for (name, value) in &request.headers {
                if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                    headers.insert(name, value);
                }
            }
        }
        let call = call.body(request.body).map_err(|_| failed("the backend's URL is not one"))?;
        match self.http.send(call, self.silence).await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.unsent(error).await),
        }
    }
}

/// Redacts a whole answer; fails with the error in it, or with `None` if it is not UTF-8.
fn read(body: Bytes, endpoint: Endpoint, redactor: &Redactor) -> Result<String, Option<ErrorInAnswer>> {
    let body = String::from_utf8(body.into()).map_err(|_| None)?;
    if let Some(error) = ErrorInAnswer::of_whole(&body, endpoint) {
        return Err(Some(error));
    }
    let body = match cut_model_paths(&body) {
        Cow::Owned(cut) => cut,
        Cow::Borrowed(_) => body,
    };
    let body = if endpoint == Endpoint::Responses { redactor.failure(body) } else { body };
    Ok(redactor.answer(body))
}

/// Returns the value of a header; empty if it is absent or no text.
pub(crate) fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
