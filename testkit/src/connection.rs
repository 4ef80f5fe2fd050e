//! The server side of an HTTP/1.1 connection. It reads requests, and writes bytes that the test chooses.

use std::io::{self, ErrorKind};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::Instant;

/// The head of a chunked event stream.
pub const SSE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// Returns `text` as one chunk of a chunked body.
pub fn chunked(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Returns a whole answer. `headers` are lines that end with CRLF.
pub fn answer(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

/// A received request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The head as received, without the empty line.
    pub head: String,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the body was complete: all bytes of its length, or its last chunk.
    pub is_whole: bool,
    /// When the head was read.
    pub at: Instant,
}

impl Request {
    fn parse(head: &[u8]) -> Self {
        let head = String::from_utf8_lossy(head).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { head, method, target, headers, body: Vec::new(), is_whole: false, at: Instant::now() }
    }

    /// Returns the target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Returns the first header of this name, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON, or null.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An accepted connection, with Nagle's algorithm off.
pub struct Connection {
    /// Number of connections that the [`Peer`](crate::peer::Peer) had accepted before.
    pub number: usize,
    socket: TcpStream,
    /// Bytes read from the socket that are not yet returned.
    unread: Vec<u8>,
    plug: watch::Receiver<()>,
}

impl Connection {
    /// Wraps a socket that another listener accepted.
    pub fn of(socket: TcpStream) -> Self {
        Self::numbered(socket, 0, watch::channel(()).1)
    }

    pub(crate) fn numbered(socket: TcpStream, number: usize, plug: watch::Receiver<()>) -> Self {
        let _ = socket.set_nodelay(true);
        Self { number, socket, unread: Vec::new(), plug }
    }

    /// Reads a request with its whole body. A body that breaks off is an error.
    pub async fn request(&mut self) -> io::Result<Request> {
        let request = self.request_or_part().await?;
        if request.is_whole { Ok(request) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads a request. If its body breaks off, the request has the part that came.
    pub async fn request_or_part(&mut self) -> io::Result<Request> {
        let mut request = self.head().await?;
        request.is_whole = self.body(&mut request).await.is_ok();
        Ok(request)
    }

    /// Reads the head of a request. [`body`](Self::body) reads its body.
    pub async fn head(&mut self) -> io::Result<Request> {
        let head = self.until(b"\r\n\r\n").await?;
        Ok(Request::parse(&head))
    }

    /// Reads the body of `request`. After an error, `request` has the part that came.
    pub async fn body(&mut self, request: &mut Request) -> io::Result<()> {
        if request.header("transfer-encoding").is_none() {
            let length = request.header("content-length").and_then(|length| length.parse().ok());
            return self.exactly(length.unwrap_or(0), &mut request.body).await;
        }
        loop {
            let line = self.until(b"\r\n").await?;
            let size = String::from_utf8_lossy(&line);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| ErrorKind::InvalidData)?;
            self.exactly(size, &mut request.body).await?;
            self.until(b"\r\n").await?;
            if size == 0 {
                return Ok(());
            }
        }
    }

    /// Reads up to `end`. Returns the bytes before `end`, and discards `end`.
    async fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread[looked..], end) {
                let taken = self.unread.drain(..looked + at).collect();
                self.unread.drain(..end.len());
                return Ok(taken);
            }
            looked = (self.unread.len() + 1).saturating_sub(end.len());
            self.fill().await?;
        }
    }

    async fn exactly(&mut self, mut count: usize, to: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let taken = count.min(self.unread.len());
            to.extend(self.unread.drain(..taken));
            count -= taken;
            if count == 0 {
                return Ok(());
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        self.unread.reserve(16 << 10);
        if self.socket.read_buf(&mut self.unread).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.socket.write_all(bytes.as_ref()).await
    }

    /// Writes a whole JSON answer.
    pub async fn json(&mut self, status: u16, body: &Value) -> io::Result<()> {
        self.write(answer(status, "content-type: application/json\r\n", &body.to_string())).await
    }

    /// The local port of the connection.
    pub fn port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|address| address.port())
    }

    /// Waits until the client has closed the connection, or sends a byte.
    pub async fn closed(&mut self) {
        let _ = self.socket.read(&mut [0]).await;
    }

    /// Waits until the [`Peer`](crate::peer::Peer) that accepted the connection is dropped.
    pub async fn unplugged(&self) {
        let _ = self.plug.clone().changed().await;
    }

    /// Runs `serve` until the [`Peer`](crate::peer::Peer) that accepted the connection is dropped.
    pub(crate) async fn while_plugged(
        mut self,
        serve: impl AsyncFnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut plug = self.plug.clone();
        tokio::select! {
            served = serve(&mut self) => served,
            _ = plug.changed() => Ok(()),
        }
    }

    /// Configures the socket so that closing it resets the connection.
    pub fn reset(&self) -> io::Result<()> {
        self.socket.set_zero_linger()
    }

    /// Splits the connection, for a server that writes while it watches for a close.
    pub fn halves(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        self.socket.split()
    }

    /// Shuts down the sending side.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }
}
