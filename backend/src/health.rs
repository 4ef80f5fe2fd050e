//! Health checks of backends (SPEC.md section 6).

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hyper::Request;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::time::timeout;
use wire::json::{MAX_VALUES, tree};

use crate::config;
use crate::http::{Client, SendError, decode, read_body};
use crate::openai::Headers;
use crate::{HttpBackend, Secret};

/// Time limit of one check. A busy backend can need longer, so a timeout is no outage.
const LIMIT: Duration = Duration::from_secs(2);
/// Maximum size of an answer in bytes: a list of a few thousand models.
const MAX_ANSWER: usize = 4 << 20;

/// The result of a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendHealth {
    /// The backend answers, with any status.
    Up,
    /// The backend is not reachable. The text completes "the backend is away: …".
    Away(&'static str),
    /// The backend timed out or answered 502, 503 or 504: it may be busy or starting.
    Silent(&'static str),
}

/// A configured health check.
#[derive(Clone)]
pub(crate) struct HealthCheck {
    http: Client,
    url: Secret,
    /// Headers for the backend itself, the key included.
    headers: Headers,
    /// A JSON pointer into the answer and the value expected there.
    expected: Option<(String, serde_json::Value)>,
}

impl HealthCheck {
    /// Creates a check of `GET {url}/models`, or the one that the owner configured.
    pub(crate) fn new(
        http: Client,
        backend: &HttpBackend,
        headers: Headers,
        other: Option<config::Availability>,
    ) -> Self {
        if let Some(other) = other {
            let expected = Some((other.json_pointer, other.equals));
            return Self { http, url: other.url, headers: Headers::default(), expected };
        }
        let url = Secret::new(format!("{}/models", backend.url.reveal()));
        Self { http, url, headers, expected: None }
    }

    /// Runs the check once.
    pub(crate) fn run(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let this = self.clone();
        async move {
            let result = timeout(LIMIT, this.ask()).await;
            result.unwrap_or(BackendHealth::Silent("it does not answer in time"))
        }
        .boxed_local()
    }

    async fn ask(self) -> BackendHealth {
        let mut request = Request::get(self.url.reveal()).header(ACCEPT_ENCODING, "identity");
        for (name, value) in &*self.headers {
            request = request.header(*name, value.reveal());
        }
        let Ok(request) = request.body(Bytes::new()) else {
            return BackendHealth::Away("its URL is not one");
        };
        let response = match self.http.send(request, LIMIT).await {
            Ok(response) => response,
            Err(error) => return unanswered(error),
        };
        let (head, body) = response.into_parts();
        // Read to the end, so that the connection can be reused.
        let body = read_body(body, MAX_ANSWER, LIMIT).await;
        let Some((pointer, expected)) = &self.expected else {
            return match head.status.as_u16() {
                502..=504 => BackendHealth::Silent("it answers that it is not ready"),
                _ => BackendHealth::Up,
            };
        };
        let encoding = head.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        let body = body.ok().and_then(|body| decode(encoding.unwrap_or_default(), &body, MAX_ANSWER).ok());
        let answer = body.and_then(|body| tree(&body, MAX_VALUES));
        let found = answer.as_ref().and_then(|answer| answer.pointer(pointer));
        if head.status.is_success() && found == Some(expected) {
            BackendHealth::Up
        } else {
            BackendHealth::Away("its availability check says no")
        }
    }
}

/// Converts a failed request to a result.
fn unanswered(error: SendError) -> BackendHealth {
    match error {
        SendError::Silent => BackendHealth::Silent("it does not answer in time"),
        SendError::Unresolved => BackendHealth::Silent("its name could not be resolved in time"),
        SendError::Unreachable => BackendHealth::Away("nobody takes connections there"),
        SendError::Proxy => BackendHealth::Away("the proxy on the way to it opens no connection"),
        SendError::Broken => BackendHealth::Away("it breaks connections off"),
        SendError::Malformed => BackendHealth::Away("it does not speak HTTP"),
        SendError::Tls => BackendHealth::Away("its TLS handshake fails"),
        SendError::NoTls => BackendHealth::Away("its URL is https, and TLS could not be set up"),
        SendError::Invalid => BackendHealth::Away("its URL is not one"),
    }
}
