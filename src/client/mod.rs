//! Calls to a hub, and the client for backends.

mod error;

use std::{path::Path, time::Duration};

use actix_web::http::{Method, StatusCode};
use actors::http::{self, BodyError};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use serde_json::Value;

use crate::{config::Hub, exit::Failure};

pub(crate) use error::{CallError, reason};

/// SPEC.md section 3: 30 s for each call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer taken into memory: a table of all LLMs is far smaller.
const LARGEST_ANSWER: usize = 64 << 20;

/// A client that follows no redirect: a token or a prompt must not go where somebody else points.
fn plain(ca_file: Option<&Path>, needs_tls: bool) -> Result<Client, Failure> {
    // Reading the system's certificates costs milliseconds: only where they are needed.
    let tls = if needs_tls { Some(http::tls_config(ca_file).map_err(Failure::usage)?) } else { None };
    Ok(http::client(tls))
}

/// A client for the backend at `url`.
pub(crate) fn for_backend(url: &str) -> Result<backend::http::Client, Failure> {
    let tls = url.starts_with("https://").then(|| http::tls_config(None)).transpose();
    Ok(backend::http::Client::new(tls.map_err(Failure::usage)?))
}

/// A hub, seen with one token.
pub(crate) struct HubClient {
    client: Client,
    hub: Hub,
}

impl HubClient {
    /// Prepares to call `hub`; nothing is sent yet.
    pub(crate) fn new(hub: Hub, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let client = plain(ca_file, hub.url.starts_with("https://"))?;
        Ok(Self { client, hub })
    }

    /// The hub's address, for texts.
    pub(crate) fn url(&self) -> &str {
        &self.hub.url
    }

    /// `GET` of a JSON answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// The list of LLMs, which every hub has and every token may see. What has none is no hub.
    pub(crate) async fn llms(&self) -> Result<Value, CallError> {
        match self.get("/api/v1/llms").await {
            Ok(list) if list.is_array() => Ok(list),
            Ok(_) => Err(CallError::not_a_hub(&self.hub.url, "its list of LLMs is no list")),
            Err(error) if error.is(StatusCode::NOT_FOUND) => {
                Err(CallError::not_a_hub(&self.hub.url, "it has no list of LLMs; is that its own address?"))
            }
            Err(error) => Err(error),
        }
    }

    /// Any call with a JSON answer (null for an empty one).
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let mut answer = self.send(method, path, body, CALL_TIMEOUT).await?;
        let bytes = whole(&mut answer, &self.hub.url).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|_| CallError::not_a_hub(&self.hub.url, "its answer is not JSON"))
    }

    /// A call whose body is read by the caller. `head_timeout` bounds the wait for the answer's head.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        head_timeout: Duration,
    ) -> Result<Answer, CallError> {
        let request = self
            .client
            .request(method, format!("{}{path}", self.hub.url))
            .insert_header(("Authorization", format!("Bearer {}", self.hub.token.reveal())))
            .insert_header(("Accept", "application/json, text/event-stream"))
            .timeout(head_timeout)
            .no_decompress();
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut answer = sent.map_err(|error| CallError::unreachable(&self.hub.url, &error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let bytes = whole(&mut answer, &self.hub.url).await.unwrap_or_default();
        Err(CallError::answered(&self.hub.url, status, &bytes))
    }
}

/// What awc answers with.
pub(crate) type Answer = ClientResponse;

/// The whole body, within bounds and with a limit on silence.
pub(crate) async fn whole(answer: &mut Answer, url: &str) -> Result<Bytes, CallError> {
    http::read_body(answer, LARGEST_ANSWER, CALL_TIMEOUT)
        .await
        .map_err(|error: BodyError| CallError::broke_off(url, &error.to_string()))
}

/// Percent-encodes a name for a path, as `encodeURIComponent` does.
pub(crate) fn encoded(name: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'_')
        .remove(b'.')
        .remove(b'!')
        .remove(b'~')
        .remove(b'*')
        .remove(b'\'')
        .remove(b'(')
        .remove(b')');
    percent_encoding::utf8_percent_encode(name, KEEP).to_string()
}

/// The status in words: `404 Not Found`.
pub(crate) fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}
