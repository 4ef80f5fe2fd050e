//! Connections that another part of the program opens: through a proxy.

use std::io;

use futures_util::future::LocalBoxFuture;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::CONNECT_TIMEOUT;
use super::connection::Socket;
use super::early::{PeekSocket, UnreadBytes, peek};
use super::send_error::SendError;

/// Opens transports to servers.
pub trait Dial {
    /// Opens a transport to `host:port`, within a time of its own. An IPv6 address in `host` has no brackets. Nobody sees the
    /// error: it may name the server.
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> LocalBoxFuture<'a, io::Result<Box<dyn Transport>>>;
}

/// An open transport to a server, below the server's own TLS.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket that carries it.
    fn socket(&self) -> &TcpStream;

    /// Whether the socket's bytes are those of the transport, and not encrypted by it.
    fn is_plain(&self) -> bool;
}

/// Opens a transport to the server of `url`, with its TLS if `url` is https.
pub(super) async fn connect(
    dial: &dyn Dial,
    tls: Option<&TlsConnector>,
    url: &Uri,
) -> Result<Box<dyn Socket>, SendError> {
    let (host, port) = target(url).ok_or(SendError::Invalid)?;
    let tls = match tls {
        Some(tls) => Some(tls).filter(|_| is_https(url)),
        None if is_https(url) => return Err(SendError::NoTls),
        None => None,
    };
    let transport = dial.dial(host, port).await.map_err(|_named| SendError::Proxy)?;
    let Some(tls) = tls else { return Ok(Box::new(TokioIo::new(transport))) };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| SendError::Invalid)?;
    let shaken = timeout(CONNECT_TIMEOUT, tls.connect(name, transport)).await;
    let stream = shaken.map_err(|_elapsed| SendError::Unreachable)?.map_err(|_| SendError::Tls)?;
    Ok(Box::new(TokioIo::new(stream)))
}

/// Host, without brackets, and port of `url`.
pub(super) fn target(url: &Uri) -> Option<(&str, u16)> {
    let host = url.host()?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((bare, url.port_u16().unwrap_or(if is_https(url) { 443 } else { 80 })))
}

fn is_https(url: &Uri) -> bool {
    url.scheme() == Some(&Scheme::HTTPS)
}

impl PeekSocket for TokioIo<Box<dyn Transport>> {
    fn unread(&self) -> UnreadBytes {
        let transport = self.inner();
        match peek(transport.socket()) {
            UnreadBytes::Words if !transport.is_plain() => UnreadBytes::Other,
            unread => unread,
        }
    }
}

impl PeekSocket for TokioIo<TlsStream<Box<dyn Transport>>> {
    fn unread(&self) -> UnreadBytes {
        match peek(self.inner().get_ref().0.socket()) {
            UnreadBytes::Words => UnreadBytes::Other,
            unread => unread,
        }
    }
}
