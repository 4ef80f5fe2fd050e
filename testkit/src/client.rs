//! A minimal HTTP/1.1 client for tests that must see how an answer ended: a truncated answer is an error.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An answer whose head was read. Dropping it closes the connection.
pub struct Answer {
    pub status: u16,
    /// The head in lower case, including its empty line.
    pub head: String,
    socket: TcpStream,
    /// Bytes read from the socket that are not yet returned.
    unread: Vec<u8>,
    body: Body,
}

#[derive(Clone, Copy)]
enum Body {
    /// Remaining bytes of a body with `content-length`.
    Length(usize),
    Chunked,
    Over,
}

/// Sends a request such as `GET /path` to a server on this machine, on a new connection.
pub async fn ask(
    port: u16,
    token: &str,
    request: &str,
    extra: &str,
    body: Option<&str>,
) -> io::Result<Answer> {
    ask_on(TcpStream::connect(("127.0.0.1", port)).await?, token, request, extra, body).await
}

/// As [`ask`], on an open connection without earlier requests. An answer with neither a length nor chunks is an error.
pub async fn ask_on(
    mut socket: TcpStream,
    token: &str,
    request: &str,
    extra: &str,
    body: Option<&str>,
) -> io::Result<Answer> {
    let port = socket.peer_addr()?.port();
    let body = body.unwrap_or_default();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n{body}"
    );
    socket.write_all(text.as_bytes()).await?;
    let answer = Answer::read(socket).await?;
    let is_framed = answer.header("content-length").is_some() || answer.header("transfer-encoding").is_some();
    if is_framed || answer.status == 204 { Ok(answer) } else { Err(ErrorKind::InvalidData.into()) }
}

impl Answer {
    /// Reads the head of the next answer. An answer with neither a length nor chunks has no body.
    pub async fn read(mut socket: TcpStream) -> io::Result<Self> {
        let mut unread = Vec::new();
        let end = loop {
            if let Some(at) = memchr::memmem::find(&unread, b"\r\n\r\n") {
                break at + 4;
            }
            if socket.read_buf(&mut unread).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&unread[..end]).to_lowercase();
        unread.drain(..end);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(ErrorKind::InvalidData)?;
        let mut answer = Self { status, head, socket, unread, body: Body::Over };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = Body::Chunked;
        } else if let Some(length) = answer.header("content-length") {
            answer.body = Body::Length(length.parse().map_err(|_| ErrorKind::InvalidData)?);
        }
        Ok(answer)
    }

    /// Returns the first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    }

    /// Returns the next chunk, or the next piece of a body with a length; `None` at the proper end. Cancel-safe: bytes read by a
    /// dropped call are returned by the next call.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            match self.body {
                Body::Over | Body::Length(0) => return Ok(None),
                Body::Length(left) if !self.unread.is_empty() => {
                    let taken = left.min(self.unread.len());
                    self.body = Body::Length(left - taken);
                    return Ok(Some(self.unread.drain(..taken).collect()));
                }
                Body::Length(_) => (),
                Body::Chunked => {
                    if let Some(chunk) = self.chunk()? {
                        if chunk.is_empty() {
                            self.body = Body::Over;
                            return Ok(None);
                        }
                        return Ok(Some(chunk));
                    }
                }
            }
            if self.socket.read_buf(&mut self.unread).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes a chunk from `unread` if all its bytes are there. The last chunk is empty.
    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(line) = memchr::memmem::find(&self.unread, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&self.unread[..line]).map_err(|_| ErrorKind::InvalidData)?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| ErrorKind::InvalidData)?;
        if self.unread.len() < line + 2 + size + 2 {
            return Ok(None);
        }
        let chunk = self.unread[line + 2..][..size].to_vec();
        self.unread.drain(..line + 2 + size + 2);
        Ok(Some(chunk))
    }

    /// Reads the body to its end.
    pub async fn text(mut self) -> io::Result<String> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            all.extend(piece);
        }
        String::from_utf8(all).map_err(|_| ErrorKind::InvalidData.into())
    }
}
