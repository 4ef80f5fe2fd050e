//! A small HTTP client for tests, which reads whole answers and parses SSE bodies.

use std::time::Duration;

use awc::http::Method;
use futures_util::StreamExt;
use serde_json::Value;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// An event of an SSE body.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Event {
    pub event: Option<String>,
    /// The data lines, joined with LF.
    pub data: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The events of an SSE body in the hub's format: lines end with LF, and a space follows each colon. An incomplete last event
    /// is omitted.
    pub fn events(&self) -> Vec<Event> {
        let mut blocks: Vec<&str> = self.body.split("\n\n").collect();
        blocks.pop();
        blocks.into_iter().map(Event::parse).filter(|event| !event.data.is_empty()).collect()
    }
}

impl Event {
    fn parse(block: &str) -> Self {
        let mut event = Self::default();
        let mut data = Vec::new();
        for line in block.lines() {
            match line.split_once(": ") {
                Some(("data", line)) => data.push(line),
                Some(("event", name)) => event.event = Some(name.to_owned()),
                _ => (),
            }
        }
        event.data = data.join("\n");
        event
    }
}
/// A client for one server and one token.
#[derive(Clone)]
pub struct Http {
    base: String,
    token: String,
    client: awc::Client,
}

impl Http {
    pub fn new(base: &str, token: &str) -> Self {
        let client = awc::Client::builder().timeout(Duration::from_secs(30)).disable_redirects().finish();
        Self { base: base.trim_end_matches('/').to_owned(), token: token.to_owned(), client }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        self.try_send(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// As `send`, of a server that may not be there.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, awc::error::SendRequestError> {
        let mut response = self.request(method, path, body).await?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.next().await {
            let Ok(chunk) = chunk else { break };
            bytes.extend_from_slice(&chunk);
        }
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(key, value)| (key.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            body: String::from_utf8_lossy(&bytes).into_owned(),
        })
    }

    /// Opens a session's control channel as a classic registrar does, and reads its hello.
    pub async fn open_channel(&self, session: &str) -> impl Sized + use<> {
        let request = self
            .client
            .get(format!("{}/api/v1/llms/_provider-stream", self.base))
            .insert_header(("authorization", format!("Bearer {}", self.token)))
            .insert_header(("x-mcpctl-provider-session", session));
        let mut channel = request.send().await.unwrap();
        assert_eq!(channel.status(), 200);
        channel.next().await.unwrap().unwrap();
        channel
    }

    /// Sends a request and reads the head of its answer. Dropping the answer closes the connection.
    pub async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> awc::ClientResponse<
        impl futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + use<>,
    > {
        self.request(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<
        awc::ClientResponse<
            impl futures_util::Stream<Item = Result<bytes::Bytes, awc::error::PayloadError>> + use<>,
        >,
        awc::error::SendRequestError,
    > {
        let request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .insert_header(("authorization", format!("Bearer {}", self.token)))
            .no_decompress();
        let sent = match body {
            Some(body) => request.insert_header(("content-type", "application/json")).send_body(body),
            None => request.send(),
        };
        sent.await
    }
}
