//! A raw HTTP/1.1 client that sees every byte and can close the connection at any time.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Deadline of every wait in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A request builder.
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
    stream: TcpStream,
    pub(crate) status: u16,
    pub(crate) head: String,
    raw: Vec<u8>,
    chunked: bool,
    left: usize,
    over: bool,
}

/// Whether a line of a head is the same in two answers to the same request.
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
        // A server that answers early may close before it has read all of it.
        let _ = stream.write_all(body).await;
        stream
    }

    /// Sends the request and reads the head of the answer.
    pub(crate) async fn open(&self) -> Answer {
        Answer::read(self.begin().await).await
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn send(&self) -> (u16, String) {
        let mut answer = self.open().await;
        let body = answer.rest().await;
        (answer.status, body)
    }

    /// As [`send`](Self::send), the body as JSON.
    pub(crate) async fn json(&self) -> (u16, serde_json::Value) {
        let (status, body) = self.send().await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("not JSON: {status} {body}")))
    }

    /// Sends the request without the last `missing` bytes of its body. Returns the answer.
    pub(crate) async fn break_off(&self, missing: usize) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let body = self.body.as_deref().unwrap_or_default();
        let head = self.head(&format!("content-length: {}\r\n", body.len()));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&body[..body.len() - missing]).await.unwrap();
        leave(stream).await
    }

    /// Begins a chunked upload.
    pub(crate) async fn upload(&self) -> Upload {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        stream.write_all(self.head("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
        Upload { stream }
    }
}

/// Shuts down the sending side, and reads until the server closes.
async fn leave(mut stream: TcpStream) -> String {
    stream.shutdown().await.unwrap();
    let mut said = Vec::new();
    // A reset is an answer as well.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server lets go");
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

    /// Writes until the server stops reading. Returns the number of bytes.
    pub(crate) async fn write_until_stuck(&mut self, text: &str) -> usize {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        let mut written = 0;
        while timeout(Duration::from_millis(500), self.stream.write_all(chunk.as_bytes())).await.is_ok() {
            written += text.len();
        }
        written
    }

    /// Shuts down without the last chunk. Returns the answer.
    pub(crate) async fn break_off(self) -> String {
        leave(self.stream).await
    }

    pub(crate) async fn finish(mut self) -> (u16, String) {
        self.stream.write_all(b"0\r\n\r\n").await.unwrap();
        self.answer().await
    }

    pub(crate) async fn answer(self) -> (u16, String) {
        let mut answer = Answer::read(self.stream).await;
        let body = answer.rest().await;
        (answer.status, body)
    }
}

impl Answer {
    /// Reads the head of the answer to a request that was sent.
    pub(crate) async fn of(stream: TcpStream) -> Self {
        Self::read(stream).await
    }

    async fn read(mut stream: TcpStream) -> Self {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let read =
                timeout(PATIENCE, stream.read_buf(&mut raw)).await.expect("no answer in time").unwrap();
            assert!(read > 0, "closed without an answer");
        };
        let head = String::from_utf8(raw.drain(..end).collect()).unwrap().to_lowercase();
        let status = head[9..12].parse().unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let left = if chunked { 0 } else { length.unwrap_or(0) };
        Self { stream, status, head, raw, chunked, left, over: !chunked && left == 0 }
    }

    /// The next chunk of the body; `None` at its proper end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if self.over {
                return None;
            }
            let ready = self.left.min(self.raw.len());
            // A character may come in two pieces.
            let take = match std::str::from_utf8(&self.raw[..ready]) {
                Err(error) if error.error_len().is_none() && ready < self.left => error.valid_up_to(),
                _ => ready,
            };
            if !self.chunked && take > 0 {
                self.left -= take;
                self.over = self.left == 0;
                return Some(
                    String::from_utf8_lossy(&self.raw.drain(..take).collect::<Vec<_>>()).into_owned(),
                );
            }
            if self.chunked
                && let Some(line) = self.raw.windows(2).position(|window| window == b"\r\n")
            {
                let size = std::str::from_utf8(&self.raw[..line]).unwrap();
                let size = usize::from_str_radix(size, 16).unwrap();
                if self.raw.len() >= line + 2 + size + 2 {
                    let data = self.raw[line + 2..line + 2 + size].to_vec();
                    self.raw.drain(..line + 2 + size + 2);
                    self.over = size == 0;
                    if self.over {
                        return None;
                    }
                    return Some(String::from_utf8(data).unwrap());
                }
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.raw)).await;
            let read = read.expect("nothing came in time").unwrap_or(0);
            assert!(read > 0, "cut off in the body");
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

    /// Reads until what came contains `text`.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut body = String::new();
        while !body.contains(text) {
            body.push_str(&self.next().await.unwrap_or_else(|| panic!("ended before {text:?}: {body}")));
        }
        body
    }
}
