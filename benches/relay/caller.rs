//! A caller as thin as can be, so that it measures what it calls and not itself: one kept connection, blocking on
//! exactly the bytes that it needs.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to call, and how.
#[derive(Clone)]
pub struct Target {
    pub port: u16,
    pub path: &'static str,
    pub token: String,
}

pub struct Caller {
    socket: TcpStream,
    buffer: Vec<u8>,
    head: Target,
}

impl Caller {
    pub async fn connect(target: &Target) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", target.port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, buffer: Vec::with_capacity(64 << 10), head: target.clone() }
    }

    pub async fn send(&mut self, body: &str) {
        let Target { path, token, .. } = &self.head;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
    }

    /// One whole answer with a content length; gives its status.
    pub async fn whole(&mut self) -> u16 {
        loop {
            if let Some(head) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
                let length = text.split("content-length: ").nth(1).expect("a content length");
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                while self.buffer.len() < head + 4 + length {
                    self.fill().await;
                }
                return text[9..12].parse().unwrap();
            }
            self.fill().await;
        }
    }

    /// Reads until the end mark of a chunked event stream; tells `saw` how many new bytes came.
    pub async fn stream(&mut self, mut saw: impl FnMut(&[u8])) {
        loop {
            let before = self.buffer.len();
            self.fill().await;
            saw(&self.buffer[before..]);
            let tail = &self.buffer[self.buffer.len().saturating_sub(64)..];
            if tail.ends_with(b"0\r\n\r\n") && memchr::memmem::find(&self.buffer, b"[DONE]").is_some() {
                return;
            }
        }
    }

    async fn fill(&mut self) {
        let read = self.socket.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "closed early: {}", String::from_utf8_lossy(&self.buffer));
    }
}
