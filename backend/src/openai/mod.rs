//! Any server that speaks OpenAI's HTTP API: vLLM, llama.cpp, Ollama, LM Studio and the like.

mod answer_stream;
mod body;
mod completion;
mod error_in_answer;
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
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::model_path::cut_model_paths;
use wire::task::Endpoint;

use crate::chat_fallback::ChatFallback;
use crate::health::{BackendHealth, HealthCheck};
use crate::http::{self, BodyError, Client, LookupUser, SendError, read_reserved};
use crate::offload::offload;
use crate::redact::Redactor;
use crate::{Availability, Backend, BackendError, BackendRequest, HttpBackend, Reply, Secret};

use answer_stream::AnswerStream;
use body::Body;
use completion::Completion;
use error_in_answer::ErrorInAnswer;

/// Longest answer in one body: a long one has a few hundred KiB, one with images in base64 some MiB, and the hub
/// takes no more.
const MAX_ANSWER: usize = 64 << 20;
/// Longest error that is looked at, in bytes: a body, as it came and decoded, and what an answer or an event tells of one.
const MAX_ERROR: usize = 256 << 10;
/// Whoever listens takes a connection within this, and a caller is told of a backend that is gone within a second.
const LISTENS: Duration = Duration::from_millis(500);

/// A server behind HTTP.
pub struct OpenAiBackend {
    inner: Rc<Inner>,
}

struct Inner {
    http: Client,
    url: Secret,
    headers: Headers,
    silence: Duration,
    redactor: Arc<Redactor>,
    health_check: HealthCheck,
    fallback: Rc<ChatFallback>,
}

/// Headers of every call.
pub(crate) type Headers = Rc<[(&'static str, Secret)]>;

/// How a server wants its key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Auth {
    /// `Authorization: Bearer`.
    Bearer,
    /// In a header of its own, and with headers that every call has.
    Header { name: &'static str, fixed: &'static [(&'static str, &'static str)] },
}

impl Auth {
    fn headers(self, key: Option<&Secret>) -> Headers {
        let own = key.map(|key| match self {
            Self::Bearer => ("authorization", Secret::new(format!("Bearer {}", key.reveal()))),
            Self::Header { name, .. } => (name, key.clone()),
        });
        let fixed = match self {
            Self::Bearer => &[],
            Self::Header { fixed, .. } => fixed,
        };
        own.into_iter().chain(fixed.iter().map(|(name, value)| (*name, Secret::new(*value)))).collect()
    }
}

impl OpenAiBackend {
    /// A backend that calls by `http` and fails after `silence` without a byte. `availability`: another way to tell
    /// whether it is there.
    pub fn new(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
    ) -> Self {
        Self::with_auth(http, backend, silence, availability, Auth::Bearer)
    }

    /// As [`new`](Self::new), for a server that wants its key in another way.
    pub(crate) fn with_auth(
        http: Client,
        backend: &HttpBackend,
        silence: Duration,
        availability: Option<Availability>,
        auth: Auth,
    ) -> Self {
        let headers = auth.headers(backend.api_key.as_ref());
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
        Self { inner: Rc::new(inner) }
    }
}

impl OpenAiBackend {
    /// As [`infer`](Backend::infer), without a translation where the server has no such endpoint.
    pub(crate) fn infer_untranslated(
        &self,
        request: BackendRequest,
    ) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        Rc::clone(&self.inner).infer(request).boxed_local()
    }

    /// The answer by way of `chat`, which answers chat completions.
    pub(crate) fn infer_by<F>(
        &self,
        request: BackendRequest,
        chat: impl Fn(BackendRequest) -> F + 'static,
    ) -> LocalBoxFuture<'static, Result<Reply, BackendError>>
    where
        F: Future<Output = Result<Reply, BackendError>> + 'static,
    {
        Rc::clone(&self.inner.fallback).translate(request, chat).boxed_local()
    }
}

impl Backend for OpenAiBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let inner = Rc::clone(&self.inner);
        Rc::clone(&inner.fallback)
            .infer(request, move |request| Rc::clone(&inner).infer(request))
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
            // Of a body of as many tokens as it may have, how many answers it asks for is not counted here.
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
        // Its first byte says what it is. Its type may not: servers answer `text/plain`, or say nothing.
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
            // The caller's version of an API is meant for that API.
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

    async fn unsent(&self, error: SendError) -> BackendError {
        match error {
            SendError::NoTls => failed("the backend's URL is https, and TLS could not be set up"),
            SendError::Tls => {
                failed("the TLS handshake with the backend failed: is its certificate trusted?")
            }
            SendError::Silent => self.silent(),
            SendError::Invalid => failed("the backend's URL is not one"),
            SendError::Malformed => failed("backend's answer is not HTTP"),
            // It may have begun. Who is woken and asked again must have ended, and what it ran with it.
            SendError::Broken if listens(&self.http, self.url.reveal()).await => {
                failed("backend broke off before it answered")
            }
            SendError::Unresolved => BackendError::Unresolved,
            SendError::Unreachable | SendError::Broken => BackendError::Unavailable,
        }
    }

    fn unread(&self, error: BodyError) -> BackendError {
        match error {
            BodyError::TooLarge(limit) => {
                failed(format!("backend's answer is larger than {} MiB", limit >> 20))
            }
            BodyError::Broken => failed("backend broke off in the middle of its answer"),
            BodyError::Silent => self.silent(),
            BodyError::BudgetExceeded => BackendError::BudgetExceeded,
        }
    }

    fn silent(&self) -> BackendError {
        failed(format!("backend sent nothing for {} s", self.silence.as_secs_f64()))
    }
}

/// A whole answer as its caller gets it; else the error in it, or `None` for what is no text.
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

/// Whether somebody takes connections where `url` leads; also where that cannot be told in time.
async fn listens(http: &Client, url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    let port = url.port_u16().unwrap_or(if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let connecting = async {
        let mut addresses = http.addresses(url.host().unwrap_or_default()).await?;
        for address in &mut addresses {
            address.set_port(port);
        }
        TcpStream::connect(&*addresses).await.map_err(|_| SendError::Unreachable)
    };
    !matches!(timeout(LISTENS, connecting).await, Ok(Err(_)))
}

fn failed(text: impl Into<String>) -> BackendError {
    BackendError::Failed(text.into())
}

/// The value of a header, empty where it is absent or no text.
fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
