//! Calls to a hub, and the client for backends.

mod error;

use std::{path::Path, time::Duration};

use actix_web::http::{Method, StatusCode};
use actors::http::{self, BodyError};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;

use crate::{config::Hub, exit::Failure};

pub(crate) use error::{CallError, reason};

/// SPEC.md section 3: 30 s for each call, to the end of its answer.
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
    /// How long a call may take, and an answer behind its head.
    limit: Duration,
}

impl HubClient {
    /// Prepares to call `hub`; nothing is sent yet.
    pub(crate) fn new(hub: Hub, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let client = plain(ca_file, hub.url.starts_with("https://"))?;
        Ok(Self { client, hub, limit: CALL_TIMEOUT })
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
        let call = async {
            let mut answer = self.send(method, path, body, self.limit).await?;
            self.whole(&mut answer).await
        };
        let bytes = timeout(self.limit, call).await.unwrap_or_else(|_| Err(self.too_slow()))?;
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
        let bytes = self.whole(&mut answer).await.unwrap_or_default();
        Err(CallError::answered(&self.hub.url, status, &bytes))
    }

    /// The whole body, within bounds, however slowly it comes.
    pub(crate) async fn whole(&self, answer: &mut Answer) -> Result<Bytes, CallError> {
        let read = http::read_body(answer, LARGEST_ANSWER, self.limit);
        match timeout(self.limit, read).await {
            Ok(read) => {
                read.map_err(|error: BodyError| CallError::broke_off(&self.hub.url, &error.to_string()))
            }
            Err(_) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> CallError {
        let how = format!("it was not whole after {} s", self.limit.as_secs_f64());
        CallError::broke_off(&self.hub.url, &how)
    }
}

/// What awc answers with.
pub(crate) type Answer = ClientResponse;

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

#[cfg(test)]
mod tests {

    use actors::Secret;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// A hub whose answers come a byte at a time, without an end that anybody waits for.
    async fn trickling(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        actix_rt::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                actix_rt::spawn(async move {
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 100000\r\n\r\n[");
                    let mut said = socket.write_all(head.as_bytes()).await;
                    while said.is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        said = socket.write_all(b" ").await;
                    }
                });
            }
        });
        url
    }

    #[actix_rt::test]
    async fn an_answer_that_trickles_has_the_time_of_a_call_and_no_more() {
        for status in ["200 OK", "500 Oops"] {
            let url = trickling(status).await;
            let hub = Hub { url, token: Secret::new("t".to_owned()), file: None, allow_insecure: false };
            let mut hub = HubClient::new(hub, None).unwrap();
            hub.limit = Duration::from_millis(300);
            let asked = tokio::time::Instant::now();
            let error = timeout(Duration::from_secs(20), hub.get("/api/v1/llms")).await.unwrap().unwrap_err();
            assert!(asked.elapsed() >= hub.limit, "{error}");
            let told = |text: &str| match status {
                "200 OK" => text.contains("not whole after 0.3 s"),
                // The status is worth more than that its words did not come.
                _ => text.contains("not whole after 0.3 s") || text.contains("answered 500"),
            };
            assert!(told(&error.to_string()), "{error}");
            let sent = hub.send(Method::GET, "/", None, Duration::from_secs(9));
            let error = match timeout(Duration::from_secs(20), sent).await.unwrap() {
                Ok(mut answer) => {
                    timeout(Duration::from_secs(20), hub.whole(&mut answer)).await.unwrap().unwrap_err()
                }
                Err(error) => error,
            };
            assert!(told(&error.to_string()), "{error}");
        }
    }
}
