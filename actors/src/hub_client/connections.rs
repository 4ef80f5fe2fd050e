//! The connections of uploads. awc does not give access to its connections.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use futures_util::FutureExt;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout};

use super::address::HubAddress;
use crate::http::{self, CONNECT_TIMEOUT, KEEP_ALIVE, Proxy};

/// Most idle connections in the pool: enough for a burst of answers.
const MAX_IDLE: usize = 16;

/// A plain or TLS connection.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// A pool of connections to the hub.
#[derive(Default)]
pub(super) struct Connections {
    idle: RefCell<Vec<(Instant, Box<dyn Io>)>>,
}

impl Connections {
    /// Takes an idle connection that is still open, or opens one.
    pub(super) async fn get(
        &self,
        hub: &HubAddress,
        tls: Option<&Arc<ClientConfig>>,
        proxy: Option<&Proxy>,
    ) -> io::Result<Box<dyn Io>> {
        match self.take_idle() {
            Some(connection) => Ok(connection),
            None => connect(hub, tls, proxy).await,
        }
    }

    /// Puts back a connection that has no request under way.
    pub(super) fn put(&self, connection: Box<dyn Io>) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(since, _)| since.elapsed() < KEEP_ALIVE);
        if idle.len() < MAX_IDLE {
            idle.push((Instant::now(), connection));
        }
    }

    fn take_idle(&self) -> Option<Box<dyn Io>> {
        loop {
            // The newest one is most likely to be open.
            let (since, mut connection) = self.idle.borrow_mut().pop()?;
            // A connection with something to read was closed by the hub, or has an answer without a request.
            let is_quiet = connection.read(&mut [0]).now_or_never().is_none();
            if is_quiet && since.elapsed() < KEEP_ALIVE {
                return Some(connection);
            }
        }
    }
}

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
