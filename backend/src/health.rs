//! Whether a backend could answer now (SPEC.md section 6).

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hyper::Request;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::time::timeout;

use crate::config;
use crate::http::{Client, SendError, decode, read_body};
use crate::openai::Headers;
use crate::{HttpBackend, Secret};

/// Time for one check. A backend at work may need longer: that is silence, not an outage.
const LIMIT: Duration = Duration::from_secs(2);
/// Longest answer that is read: a list of a few thousand models.
const MAX_ANSWER: usize = 4 << 20;

/// What a health check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendHealth {
    /// It answers, whatever it says: a list of models may be refused, or not be there.
    Up,
    /// It is not there; in words that follow "the backend is away:".
    Away(&'static str),
    /// No answer in time, or one that says to come back (502, 503, 504): it may be at work, or starting.
    Silent(&'static str),
}

/// How to ask.
#[derive(Clone)]
pub(crate) struct HealthCheck {
    http: Client,
    url: Secret,
    /// The backend's own, its key among them: they go nowhere else.
    headers: Headers,
    wanted: Option<(String, serde_json::Value)>,
}

impl HealthCheck {
    /// `GET {url}/models`, or what the owner configured.
    pub(crate) fn new(
        http: Client,
        backend: &HttpBackend,
        headers: Headers,
        other: Option<config::Availability>,
    ) -> Self {
        if let Some(other) = other {
            let wanted = Some((other.json_pointer, other.equals));
            return Self { http, url: other.url, headers: Headers::default(), wanted };
        }
        let url = Secret::new(format!("{}/models", backend.url.reveal()));
        Self { http, url, headers, wanted: None }
    }

    /// Looks once.
    pub(crate) fn run(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let this = self.clone();
        async move {
            let looked = timeout(LIMIT, this.ask()).await;
            looked.unwrap_or(BackendHealth::Silent("it does not answer in time"))
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
        // Read to its end, or the connection is lost; how it ends does not matter to the default question.
        let body = read_body(body, MAX_ANSWER, LIMIT).await;
        let Some((pointer, wanted)) = &self.wanted else {
            return match head.status.as_u16() {
                502..=504 => BackendHealth::Silent("it answers that it is not ready"),
                _ => BackendHealth::Up,
            };
        };
        let encoding = head.headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok());
        let body = body.ok().and_then(|body| decode(encoding.unwrap_or_default(), &body, MAX_ANSWER).ok());
        let answer: Option<serde_json::Value> = body.and_then(|body| serde_json::from_slice(&body).ok());
        let found = answer.as_ref().and_then(|answer| answer.pointer(pointer));
        if head.status.is_success() && found == Some(wanted) {
            BackendHealth::Up
        } else {
            BackendHealth::Away("its availability check says no")
        }
    }
}

fn unanswered(error: SendError) -> BackendHealth {
    match error {
        SendError::Silent => BackendHealth::Silent("it does not answer in time"),
        SendError::Unreachable => BackendHealth::Away("nobody takes connections there"),
        SendError::Broken => BackendHealth::Away("it breaks connections off"),
        SendError::Malformed => BackendHealth::Away("it does not speak HTTP"),
        SendError::Tls => BackendHealth::Away("its TLS handshake fails"),
        SendError::NoTls => BackendHealth::Away("its URL is https, and TLS could not be set up"),
        SendError::Invalid => BackendHealth::Away("its URL is not one"),
    }
}
