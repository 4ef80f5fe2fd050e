//! The connection of a link. awc does not give access to its connections.

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::address::HubAddress;
use crate::http::{self, CONNECT_TIMEOUT, Proxy};

/// A plain or TLS connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// Opens a connection to the hub.
pub(super) async fn connect(
    hub: &HubAddress,
    tls: Option<&Arc<ClientConfig>>,
    proxy: Option<&Proxy>,
) -> io::Result<Box<dyn Io>> {
    // The steps of a tunnel have their own limits, whose errors name the step.
    let limit = if proxy.is_some() { CONNECT_TIMEOUT * 4 } else { CONNECT_TIMEOUT };
    let connecting = async {
        let stream = http::connect(proxy, tls, hub.host(), hub.port()).await?;
        Ok(match tls.filter(|_| hub.is_https()) {
            Some(tls) => Box::new(http::handshake(tls, hub.host(), stream).await?) as Box<dyn Io>,
            None => Box::new(stream),
        })
    };
    timeout(limit, connecting)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "timeout")))
}
