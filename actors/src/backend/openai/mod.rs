//! Any server that speaks OpenAI's HTTP API: vLLM, llama.cpp, Ollama, LM Studio and the like.

mod body;
mod events;
mod marks;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use awc::error::{ConnectError, SendRequestError};
use awc::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use awc::http::uri::Scheme;
use awc::http::{StatusCode, Uri};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wire::json::compact;
use wire::model_path::cut_model_paths;
use wire::openai::error_message;
use wire::task::Endpoint;

use super::availability::Availability;
use super::redact::Redactor;
use super::{Backend, BackendError, BackendRequest, Reply};
use crate::http::{BodyError, read_body};
use crate::options::{HttpBackend, ProviderConfig};
use crate::secret::Secret;

use body::Body;
use events::Events;
use marks::Marks;

/// Longest answer in one body: a long one has a few hundred KiB, one with images in base64 some MiB, and the hub
/// takes no more.
const MAX_ANSWER: usize = 64 << 20;
/// Longest error body that is passed on; a longer one is not for a caller.
const MAX_ERROR: usize = 256 << 10;
/// Characters of an error body that is not JSON.
const MAX_ERROR_TEXT: usize = 300;
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
    redactor: Redactor,
    availability: Availability,
}

/// Headers of every call.
pub(super) type Headers = Rc<[(&'static str, Secret)]>;

/// How a server wants its key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Auth {
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
    /// A backend that calls by `http`.
    pub fn new(http: Client, backend: &HttpBackend, config: &ProviderConfig) -> Self {
        Self::with_auth(http, backend, config, Auth::Bearer)
    }

    /// As [`new`](Self::new), for a server that wants its key in another way.
    pub(super) fn with_auth(
        http: Client,
        backend: &HttpBackend,
        config: &ProviderConfig,
        auth: Auth,
    ) -> Self {
        let headers = auth.headers(backend.api_key.as_ref());
        let own = config.availability.clone();
        let availability = Availability::new(http.clone(), backend, Rc::clone(&headers), own);
        let inner = Inner {
            http,
            url: backend.url.clone(),
            headers,
            silence: config.timeout,
            redactor: Redactor::new(backend),
            availability,
        };
        Self { inner: Rc::new(inner) }
    }
}

impl Backend for OpenAiBackend {
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>> {
        let inner = Rc::clone(&self.inner);
        async move { inner.infer(request).await }.boxed_local()
    }

    fn available(&self) -> LocalBoxFuture<'static, bool> {
        self.inner.availability.check()
    }
}

impl Inner {
    async fn infer(self: Rc<Self>, request: BackendRequest) -> Result<Reply, BackendError> {
        let marks = Marks::new(&request);
        let response = self.send(&request).await?;
        let status = response.status();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                return Err(BackendError::KeyRefused);
            }
            _ if status.is_redirection() => {
                return Err(failed(format!(
                    "backend answered {}: redirects are not followed",
                    status.as_u16()
                )));
            }
            _ if !status.is_success() => return self.refusal(response).await,
            _ => (),
        }
        let encoding = header(&response, CONTENT_ENCODING.as_str());
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(failed("backend answered in an encoding that was not asked for"));
        }
        let promised = header(&response, CONTENT_LENGTH.as_str()).parse::<usize>().ok();
        let mut body = Body { begun: Bytes::new(), rest: response };
        // Its first byte says what it is. Its type may not: servers answer `text/plain`, or say nothing.
        if request.streaming
            && body.first_byte(self.silence).await.map_err(|error| self.unread(error))? != Some(b'{')
        {
            let silence = self.silence;
            return Ok(Reply::Stream(Events::new(body, self, marks, silence).boxed_local()));
        }
        let body = read_body(body, MAX_ANSWER, self.silence).await.map_err(|error| self.unread(error))?;
        if promised.is_some_and(|promised| promised != body.len()) {
            return Err(failed("backend broke off in the middle of its answer"));
        }
        if body.is_empty() {
            return Err(failed(format!("backend answered {} with an empty body", status.as_u16())));
        }
        let body = into_text(body)?;
        // A response of the responses API tells its own failure, in a shape that its callers know.
        if request.endpoint != Endpoint::Responses && marks::is_error(&body) {
            return Err(self.told(error_message(&body).as_deref()));
        }
        let body = match cut_model_paths(&body) {
            std::borrow::Cow::Owned(cut) => cut,
            std::borrow::Cow::Borrowed(_) => body,
        };
        Ok(Reply::Whole { status: status.as_u16(), body })
    }

    async fn send(&self, request: &BackendRequest) -> Result<ClientResponse, BackendError> {
        let url = format!("{}/{}", self.url.reveal(), request.endpoint.as_str());
        let accept =
            if request.streaming { "text/event-stream, application/json" } else { "application/json" };
        let mut call = self
            .http
            .post(url)
            .timeout(self.silence)
            .no_decompress()
            .content_type("application/json")
            .insert_header((ACCEPT, accept))
            .insert_header((ACCEPT_ENCODING, "identity"));
        for (name, value) in &*self.headers {
            call = call.insert_header((*name, value.reveal()));
        }
        match call.send_body(request.body.clone()).await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.unsent(&error).await),
        }
    }

    /// A 4xx or 5xx: passed on when it is JSON, told in words when it is not.
    async fn refusal(&self, response: ClientResponse) -> Result<Reply, BackendError> {
        let status = response.status().as_u16();
        let is_html = header(&response, CONTENT_TYPE.as_str()).contains("html");
        let body = match read_body(response, MAX_ERROR, self.silence).await {
            Ok(body) => String::from_utf8_lossy(&body).into_owned(),
            Err(_) => String::new(),
        };
        if let Ok(json) = compact(&body)
            && json.starts_with('{')
        {
            let body = self.redactor.json(&cut_model_paths(&json));
            return Ok(Reply::Whole { status, body });
        }
        let text = body.trim();
        if text.is_empty() || is_html || text.starts_with('<') {
            return Err(failed(format!("backend answered {status}")));
        }
        // Cut last: half a key is found by nobody.
        let text = self.redactor.text(&text.replace(char::is_control, " "));
        let text: String = text.chars().take(MAX_ERROR_TEXT).collect();
        Err(failed(format!("backend answered {status}: {text}")))
    }

    /// No word of awc's own: it may name host and port.
    async fn unsent(&self, error: &SendRequestError) -> BackendError {
        match error {
            SendRequestError::Connect(ConnectError::SslIsNotSupported) => {
                failed("the backend's URL is https, and TLS could not be set up")
            }
            // `Disconnected` is awc's word for a connection that ended after the request was sent.
            SendRequestError::Connect(error) if !matches!(error, ConnectError::Disconnected) => {
                BackendError::Unavailable
            }
            SendRequestError::Timeout => self.silent(),
            SendRequestError::Url(_) => failed("the backend's URL is not one"),
            // It may have begun. Who is woken and asked again must have ended, and what it ran with it.
            _ if listens(self.url.reveal()).await => failed("backend broke off before it answered"),
            _ => BackendError::Unavailable,
        }
    }

    fn unread(&self, error: BodyError) -> BackendError {
        match error {
            BodyError::TooLarge(limit) => {
                failed(format!("backend's answer is larger than {} MiB", limit >> 20))
            }
            BodyError::Broken => failed("backend broke off in the middle of its answer"),
            BodyError::Silent => self.silent(),
        }
    }

    /// What the backend says of its own failure, with a status that says success.
    fn told(&self, message: Option<&str>) -> BackendError {
        match message {
            Some(message) => failed(format!("backend failed: {}", self.redactor.text(message))),
            None => failed("backend failed and gave no reason"),
        }
    }

    fn silent(&self) -> BackendError {
        failed(format!("backend sent nothing for {} s", self.silence.as_secs_f64()))
    }
}

/// Whether somebody takes connections where `url` leads; also where that cannot be told in time.
async fn listens(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return true };
    let port = url.port_u16().unwrap_or(if url.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 });
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    !matches!(timeout(LISTENS, TcpStream::connect((host, port))).await, Ok(Err(_)))
}

fn failed(text: impl Into<String>) -> BackendError {
    BackendError::Failed(text.into())
}

fn header<'a>(response: &'a ClientResponse, name: &str) -> &'a str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn into_text(body: Bytes) -> Result<String, BackendError> {
    String::from_utf8(body.into()).map_err(|_| failed("backend's answer is not JSON"))
}
