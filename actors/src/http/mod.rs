//! HTTP clients as this crate needs them: HTTP/1.1, no redirects, no compression, and Nagle's algorithm off.

mod connector;
mod pinned;
mod retry_after;
mod tls;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use actix_tls::connect::Connector as TcpConnector;
use awc::{Client, Connector};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use rustls::ClientConfig;
use tokio::time::timeout;

use connector::NoDelay;
pub use retry_after::retry_after;
pub use tls::{TlsError, tls_config};

/// Longest time for name look-up and TCP connect, and again for the TLS handshake. Two lost SYNs (1 s and 3 s)
/// fit in; a peer that needs longer is away.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A pooled connection idle for longer is not used again. Servers close theirs after 5 s and more (actix-web and
/// Node: 5 s); a request sent on one that is just closing fails.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// Who calls.
pub(crate) const USER_AGENT: &str = concat!("virtual-llm/", env!("CARGO_PKG_VERSION"));

/// A client whose requests have no time limit of their own: each caller sets one with `ClientRequest::timeout`,
/// which covers waiting for a connection, connecting and everything up to the response head.
///
/// awc's limit of 100 connections counts open streams, and waiting for one counts against the timeout, so there
/// is none here: who calls knows how much it runs at once. Without `tls` a request to `https` fails.
pub fn client(tls: Option<Arc<ClientConfig>>) -> Client {
    client_by(&TcpConnector::default(), tls)
}

/// The same; names are looked up by this connector.
fn client_by(tcp: &TcpConnector, tls: Option<Arc<ClientConfig>>) -> Client {
    let connector = Connector::new()
        .connector(NoDelay { tcp: tcp.service() })
        .timeout(CONNECT_TIMEOUT)
        .handshake_timeout(CONNECT_TIMEOUT)
        .conn_keep_alive(KEEP_ALIVE)
        .limit(0);
    // `max_http_version` would throw the TLS configuration away; its ALPN list says HTTP/1.1 already.
    let connector = match tls {
        Some(config) => connector.rustls_0_23(config),
        None => connector,
    };
    Client::builder()
        .connector(connector)
        .disable_timeout()
        .disable_redirects()
        .add_default_header(("user-agent", USER_AGENT))
        .finish()
}

/// Why a body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More than the caller wants to keep.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke.
    #[error("the connection broke in the middle of the answer")]
    Broken,
    /// Nothing came for the given time.
    #[error("the answer stopped coming")]
    Silent,
}

/// Reads a body to its end, which also gives its connection back to the pool. At most `limit` bytes, and never
/// more than `silence` between two pieces.
///
/// A truncated body is not noticed here (awc hides it): who parses it must prove that it is whole.
pub async fn read_body<S, E>(mut body: S, limit: usize, silence: Duration) -> Result<Bytes, BodyError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    let mut whole = BytesMut::new();
    loop {
        match timeout(silence, body.next()).await {
            Err(_elapsed) => return Err(BodyError::Silent),
            Ok(None) => return Ok(whole.freeze()),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Ok(Some(Ok(piece))) if whole.len() + piece.len() > limit => {
                return Err(BodyError::TooLarge(limit));
            }
            Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
        }
    }
}
