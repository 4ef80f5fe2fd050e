//! Calls to a hub, and the client for backends.

mod error;
mod relay;

use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use actors::{
    Credentials,
    http::{self, BodyError, Proxy},
};
use awc::{Client, ClientResponse};
use bytes::Bytes;
use serde_json::Value;
use tokio::time::timeout;
use wire::json::tree;

use crate::exit::Failure;

pub(crate) use error::{CallError, reason};
pub(crate) use relay::{HubBody, HubRelay, RequestBody};

/// Time-out of one call, to the end of its answer (SPEC.md section 3).
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;
/// Most values of an answer that is parsed: a list of 50,000 rows has fewer.
pub(crate) const MAX_VALUES: usize = 2_000_000;

/// Creates a client for the backend at `url`.
pub(crate) fn for_backend(url: &str) -> Result<backend::http::Client, Failure> {
    let tls = url.starts_with("https://").then(|| http::tls_config(None)).transpose();
    Ok(backend::http::Client::new(tls.map_err(Failure::usage)?))
}

/// Client of one hub. Follows no redirect: a token or a prompt must not be sent to another address.
pub(crate) struct HubClient {
    client: Client,
    credentials: Credentials,
    /// Time-out of a call, and of the body of an answer.
    limit: Duration,
}

impl HubClient {
    pub(crate) fn new(credentials: Credentials) -> Result<Self, Failure> {
        // Reading the system's certificates takes milliseconds: only for https.
        let proxy = credentials.proxy_in_use();
        let is_https = credentials.hub_url.starts_with("https://") || proxy.is_some_and(Proxy::is_tls);
        let tls = is_https.then(|| http::tls_config(credentials.ca_file.as_deref())).transpose();
        let client = http::client(tls.map_err(Failure::usage)?, proxy);
        Ok(Self { client, credentials, limit: CALL_TIMEOUT })
    }

    pub(crate) fn url(&self) -> &str {
        &self.credentials.hub_url
    }

    fn proxy(&self) -> Option<&Proxy> {
        self.credentials.proxy_in_use()
    }

    /// `GET` of a JSON answer.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, None).await
    }

    /// As [`get`](Self::get); `None` for 404.
    pub(crate) async fn find(&self, path: &str) -> Result<Option<Value>, CallError> {
        match self.get(path).await {
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Deletes an object; `false` for 404.
    pub(crate) async fn delete(&self, path: &str) -> Result<bool, CallError> {
        match self.call(Method::DELETE, path, None).await {
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// The list of LLMs, which every hub returns for every valid token. Another answer is not from a hub.
    pub(crate) async fn llms(&self) -> Result<Value, CallError> {
        match self.find("/api/v1/llms").await? {
            Some(list) if list.is_array() => Ok(list),
            Some(_) => Err(CallError::not_a_hub(self.url(), "its list of LLMs is no list")),
            None => Err(CallError::not_a_hub(self.url(), "it has no list of LLMs; is that its own address?")),
        }
    }

    /// Sends a request and reads its JSON answer; an empty answer is null.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, CallError> {
        let call = async {
            let mut answer = self.send(method, path, body, self.limit).await?;
            self.read_body(&mut answer).await
        };
        let bytes = timeout(self.limit, call).await.unwrap_or_else(|_| Err(self.too_slow()))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        tree(&bytes, MAX_VALUES).ok_or_else(|| {
            let what = format!("its answer is not JSON, or has more than {MAX_VALUES} values");
            CallError::not_a_hub(self.url(), &what)
        })
    }

    /// Sends a request. `head_timeout` limits the wait for the head of the answer.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        head_timeout: Duration,
    ) -> Result<ClientResponse, CallError> {
        let request = self
            .client
            .request(method, format!("{}{path}", self.url()))
            .insert_header(("Authorization", format!("Bearer {}", self.credentials.token.reveal())))
            .insert_header(("Accept", "application/json, text/event-stream"))
            .timeout(head_timeout)
            .no_decompress();
        let sent = match body {
            Some(body) => request.send_json(body).await,
            None => request.send().await,
        };
        let mut answer = sent.map_err(|error| CallError::unreachable(self.url(), self.proxy(), &error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let bytes = self.read_body(&mut answer).await.unwrap_or_default();
        Err(CallError::answered(self.url(), status, &bytes))
    }

    /// Reads a whole body, limited in size and time.
    pub(crate) async fn read_body(&self, answer: &mut ClientResponse) -> Result<Bytes, CallError> {
        match timeout(self.limit, http::read_body(answer, MAX_ANSWER, self.limit)).await {
            Ok(read) => read.map_err(|error: BodyError| CallError::broke_off(self.url(), &error.to_string())),
            Err(_) => Err(self.too_slow()),
        }
    }

    fn too_slow(&self) -> CallError {
        let how = format!("it was not whole after {} s", self.limit.as_secs_f64());
        CallError::broke_off(self.url(), &how)
    }
}

/// Status code and reason, such as `404 Not Found`.
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

    /// A hub that sends one byte of its answer every 20 ms.
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
    async fn a_slow_answer_is_given_up_after_the_time_out_of_a_call() {
        for status in ["200 OK", "500 Oops"] {
            let url = trickling(status).await;
            let mut hub = HubClient::new(Credentials::new(url, Secret::new("t".to_owned()))).unwrap();
            hub.limit = Duration::from_millis(300);
            let asked = tokio::time::Instant::now();
            let error = timeout(Duration::from_secs(20), hub.get("/api/v1/llms")).await.unwrap().unwrap_err();
            assert!(asked.elapsed() >= hub.limit, "{error}");
            let told = |text: &str| match status {
                "200 OK" => text.contains("not whole after 0.3 s"),
                // The status matters more than the incomplete body.
                _ => text.contains("not whole after 0.3 s") || text.contains("answered 500"),
            };
            assert!(told(&error.to_string()), "{error}");
            let sent = hub.send(Method::GET, "/", None, Duration::from_secs(9));
            let error = match timeout(Duration::from_secs(20), sent).await.unwrap() {
                Ok(mut answer) => {
                    timeout(Duration::from_secs(20), hub.read_body(&mut answer)).await.unwrap().unwrap_err()
                }
                Err(error) => error,
            };
            assert!(told(&error.to_string()), "{error}");
        }
    }

    /// A23: a tree of 64 MiB of small values has gigabytes.
    #[actix_rt::test]
    async fn an_answer_of_too_many_values_is_refused() {
        for (values, is_read) in [(MAX_VALUES, true), (MAX_VALUES + 1, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            actix_rt::spawn(async move {
                let (mut socket, _) = listener.accept().await.unwrap();
                let body = format!("[{}0]", "0,".repeat(values - 2));
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                socket.write_all((head + &body).as_bytes()).await.unwrap();
                // The socket stays open until the answer is read.
                std::future::pending::<()>().await;
            });
            let hub = HubClient::new(Credentials::new(url, Secret::new("t".to_owned()))).unwrap();
            match hub.get("/api/v1/llms").await {
                Ok(list) => assert!(is_read && list.as_array().unwrap().len() == values - 1),
                Err(error) => {
                    assert!(!is_read && error.to_string().contains("more than"), "{error}");
                }
            }
        }
    }
}
