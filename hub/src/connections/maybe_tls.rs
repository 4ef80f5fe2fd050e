//! A TCP stream with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::TcpStream;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio_rustls::server::TlsStream;

pub(super) enum MaybeTlsStream {
    Plain(TcpStream),
    Tls(Box<TlsStream<HandshakeStream>>),
}

/// Bytes that are read of a handshake: a client sends some 2 KiB, then 100 bytes. The system keeps further bytes until the
/// handshake is complete.
const MAX_HANDSHAKE: usize = 8 << 10;
/// The error of a handshake with more bytes than that.
pub(super) const HANDSHAKE_TOO_LARGE: io::ErrorKind = io::ErrorKind::QuotaExceeded;

/// A TCP stream that reads at most [`MAX_HANDSHAKE`] bytes until its TLS handshake is complete.
pub(super) struct HandshakeStream {
    stream: TcpStream,
    /// `usize::MAX` if the handshake is complete.
    left: usize,
}

impl HandshakeStream {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, left: MAX_HANDSHAKE }
    }

    pub(super) fn set_complete(&mut self) {
        self.left = usize::MAX;
    }
}

impl AsyncRead for HandshakeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == usize::MAX {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        if self.left == 0 {
            return Poll::Ready(Err(HANDSHAKE_TOO_LARGE.into()));
        }
        let mut part = [0; 1024];
        let size = self.left.min(part.len()).min(buf.remaining());
        let mut part = ReadBuf::new(&mut part[..size]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        buf.put_slice(part.filled());
        self.left -= part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HandshakeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

macro_rules! delegate {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            MaybeTlsStream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            MaybeTlsStream::Tls(stream) => {
                let $stream = Pin::new(stream.as_mut());
                $call
            }
        }
    };
}

impl MaybeTlsStream {
    /// Whether the peer has closed its half or reset the connection. Bytes before the end may still be unread.
    pub(super) fn is_closed(&self) -> bool {
        let stream = match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.get_ref().0.stream,
        };
        let readiness = stream.ready(Interest::READABLE).now_or_never();
        readiness.is_some_and(|readiness| readiness.map_or(true, Ready::is_read_closed))
    }
}

impl AsyncRead for MaybeTlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for MaybeTlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, stream => stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => stream.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A25, A27: of a handshake that never completes, 8 KiB are read.
    #[actix_rt::test]
    async fn an_endless_handshake_is_refused_after_8_kib() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = futures_util::join!(connecting, listener.accept());
        let (mut client, mut stream) = (client.unwrap(), HandshakeStream::new(accepted.unwrap().0));
        client.write_all(&vec![0x16; 3 * MAX_HANDSHAKE]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut bytes = Vec::new();
        let error = stream.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.kind(), bytes.len()), (HANDSHAKE_TOO_LARGE, MAX_HANDSHAKE));
        stream.set_complete();
        assert_eq!(stream.read_to_end(&mut bytes).await.unwrap(), 2 * MAX_HANDSHAKE);
    }
}
