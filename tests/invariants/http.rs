//! HTTP/1.1 by hand, where it matters to know exactly how an answer ended: a truncated one is an error.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The first line and the headers of a message, names in lower case.
struct Head {
    first: String,
    headers: Vec<(String, String)>,
}

impl Head {
    /// `None` where the peer ended before the first byte.
    async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first).await? == 0 {
            return Ok(None);
        }
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Ok(Some(Self { first: first.trim_end().to_owned(), headers })),
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn length(&self) -> Option<usize> {
        self.get("content-length")?.parse().ok()
    }
}

/// An answer whose head is read. Dropping it closes the connection.
pub struct Answer {
    pub status: u16,
    from: BufReader<TcpStream>,
    body: Body,
}

enum Body {
    /// So much is left.
    Length(usize),
    Chunked,
    Over,
}

/// Asks a server on this machine, on a connection of its own.
pub async fn ask(
    port: u16,
    token: &str,
    request: &str,
    extra: &str,
    body: Option<&str>,
) -> io::Result<Answer> {
    ask_on(TcpStream::connect(("127.0.0.1", port)).await?, token, request, extra, body).await
}

/// Asks on a connection that is open and new.
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
    let mut from = BufReader::new(socket);
    let head = Head::read(&mut from).await?.ok_or(ErrorKind::UnexpectedEof)?;
    let status = head.first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(ErrorKind::InvalidData)?;
    let body = match (head.get("transfer-encoding"), head.length()) {
        (Some("chunked"), _) => Body::Chunked,
        (_, Some(length)) => Body::Length(length),
        _ if status == 204 => Body::Over,
        _ => return Err(ErrorKind::InvalidData.into()),
    };
    Ok(Answer { status, from, body })
}

impl Answer {
    /// The next piece; `None` at the proper end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.body {
            Body::Over | Body::Length(0) => Ok(None),
            Body::Length(left) => {
                let mut piece = vec![0; left.min(16 << 10)];
                let read = self.from.read(&mut piece).await?;
                if read == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                piece.truncate(read);
                self.body = Body::Length(left - read);
                Ok(Some(piece))
            }
            Body::Chunked => {
                let mut size = String::new();
                self.from.read_line(&mut size).await?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(|_| ErrorKind::UnexpectedEof)?;
                let mut piece = vec![0; size + 2];
                self.from.read_exact(&mut piece).await?;
                piece.truncate(size);
                if size == 0 {
                    self.body = Body::Over;
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    /// All of it.
    pub async fn text(mut self) -> io::Result<String> {
        let mut all = Vec::new();
        while let Some(piece) = self.next().await? {
            all.extend(piece);
        }
        String::from_utf8(all).map_err(|_| ErrorKind::InvalidData.into())
    }
}
