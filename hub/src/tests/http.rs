//! A raw HTTP/1.1 client that sees every byte and can close the connection at any time.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Deadline of every wait in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Builds and sends one request. Each `send` opens a connection of its own.
#[derive(Clone)]
pub(crate) struct Ask {
    addr: SocketAddr,
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// An answer, whose body is read chunk by chunk.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Status line and headers, in lower case.
    pub(crate) head: String,
    inner: client::Answer,
    /// The first bytes of a character that is not complete yet.
    incomplete: Vec<u8>,
}

/// Whether a header line is the same in every answer to one request.
pub(crate) fn is_stable(line: &str) -> bool {
    let own = ["date:", "content-length:", "x-request-id:", "request-id:", "server-timing:"];
    !own.iter().any(|name| line.starts_with(name))
}

pub(crate) fn ask(addr: SocketAddr, method: &'static str, path: impl Into<String>) -> Ask {
    Ask { addr, method, path: path.into(), headers: Vec::new(), body: None }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub(crate) fn body(self, body: impl Into<String>) -> Self {
        self.bytes(body.into().into_bytes())
    }

    pub(crate) fn bytes(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    fn head(&self, framing: &str) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n{framing}", self.method, self.path, self.addr);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head + "\r\n"
    }

    /// Sends the request, without waiting for the answer.
    pub(crate) async fn begin(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let body = self.body.as_deref().unwrap_or_default();
        let framing = format!("content-length: {}\r\n", body.len());
        stream.write_all(self.head(&framing).as_bytes()).await.unwrap();
        // A server that answers early may close the connection before it has read the whole body.
        let _ = stream.write_all(body).await;
        stream
    }

    /// Sends the request and reads the head of the answer.
    pub(crate) async fn open(&self) -> Answer {
        Answer::of(self.begin().await).await
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn send(&self) -> (u16, String) {
        self.open().await.text().await
    }

    /// Sends the request. Returns the status and the body as JSON.
    pub(crate) async fn json(&self) -> (u16, serde_json::Value) {
        self.open().await.json().await
    }

    /// Sends the request without the last `missing` bytes of its body. Returns the answer.
    pub(crate) async fn break_off(&self, missing: usize) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let body = self.body.as_deref().unwrap_or_default();
        let head = self.head(&format!("content-length: {}\r\n", body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..body.len() - missing]).await.unwrap();
        shut_down(stream).await
    }

    /// Begins a chunked upload.
    pub(crate) async fn upload(&self) -> Upload {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(self.head("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
        Upload { stream }
    }
}

/// Shuts down the sending side, and reads until the server closes.
async fn shut_down(mut stream: TcpStream) -> String {
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    // A reset also counts as closed.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server closes the connection");
    String::from_utf8_lossy(&said).into_owned()
}

/// A request whose body is written in chunks.
pub(crate) struct Upload {
    stream: TcpStream,
}

impl Upload {
    pub(crate) async fn write(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.stream.write_all(chunk.as_bytes()).await.unwrap();
    }

    /// Shuts down without the last chunk. Returns the answer.
    pub(crate) async fn break_off(self) -> String {
        shut_down(self.stream).await
    }

    pub(crate) async fn finish(mut self) -> (u16, String) {
        self.stream.write_all(b"0\r\n\r\n").await.unwrap();
        Answer::of(self.stream).await.text().await
    }
}

impl Answer {
    /// Reads the head of the answer on `stream`, on which a request was sent.
    pub(crate) async fn of(stream: TcpStream) -> Self {
        let read = timeout(PATIENCE, client::Answer::read(stream)).await.expect("no answer in time");
        let mut answer = read.expect("closed without an answer");
        Self {
            status: answer.status,
            head: std::mem::take(&mut answer.head),
            inner: answer,
            incomplete: Vec::new(),
        }
    }

    /// The next chunk of the body; `None` at its end. Panics if the body breaks off.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            let piece = timeout(PATIENCE, self.inner.next()).await.expect("nothing came in time");
            let Some(piece) = piece.expect("cut off in the body") else {
                let rest = std::mem::take(&mut self.incomplete);
                return (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned());
            };
            self.incomplete.extend(piece);
            // A character may be cut between two pieces.
            let whole = match std::str::from_utf8(&self.incomplete) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => self.incomplete.len(),
            };
            if whole > 0 {
                return Some(
                    String::from_utf8_lossy(&self.incomplete.drain(..whole).collect::<Vec<_>>()).into_owned(),
                );
            }
        }
    }

    /// The rest of the body.
    pub(crate) async fn rest(&mut self) -> String {
        let mut body = String::new();
        while let Some(piece) = self.next().await {
            body.push_str(&piece);
        }
        body
    }

    /// Reads the rest of the body. Returns the status and the text read.
    pub(crate) async fn text(mut self) -> (u16, String) {
        let body = self.rest().await;
        (self.status, body)
    }

    /// Reads the rest of the body. Returns the status and the JSON read.
    pub(crate) async fn json(self) -> (u16, serde_json::Value) {
        let (status, body) = self.text().await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {status} {body}")))
    }

    /// Reads until the body breaks off, which it has to. Returns the number of bytes read.
    pub(crate) async fn until_cut(mut self) -> usize {
        let mut length = 0;
        while let Ok(piece) = timeout(PATIENCE, self.inner.next()).await.expect("nothing came in time") {
            length += piece.expect("the body is whole").len();
        }
        length
    }

    /// Reads until the text read contains `text`. Returns the text read.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut body = String::new();
        while !body.contains(text) {
            body.push_str(&self.next().await.unwrap_or_else(|| panic!("ended before {text:?}: {body}")));
        }
        body
    }
}
