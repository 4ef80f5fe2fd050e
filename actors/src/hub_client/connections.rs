//! The connections of uploads. awc does not give access to its connections.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use actix_service::Service;
use actix_tls::connect::Connection;
use actix_tls::connect::rustls_0_23::TlsConnector;
use futures_util::FutureExt;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::address::HubAddress;
use crate::http::{CONNECT_TIMEOUT, KEEP_ALIVE};

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
    ) -> io::Result<Box<dyn Io>> {
        match self.take_idle() {
            Some(connection) => Ok(connection),
            None => match timeout(CONNECT_TIMEOUT, connect(hub, tls)).await {
                Ok(connected) => connected,
                Err(_elapsed) => Err(io::Error::new(io::ErrorKind::TimedOut, "timeout")),
            },
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

async fn connect(hub: &HubAddress, tls: Option<&Arc<ClientConfig>>) -> io::Result<Box<dyn Io>> {
    let socket = TcpStream::connect((hub.host(), hub.port())).await?;
    // Nagle's algorithm would delay each token until the delayed ACK of the peer, 40 ms.
    let _ = socket.set_nodelay(true);
    match tls {
        Some(config) => {
            let connector = TlsConnector::service(Arc::clone(config));
            let connected = connector.call(Connection::new(hub.host().to_owned(), socket)).await?;
            Ok(Box::new(connected.into_parts().0))
        }
        None => Ok(Box::new(socket)),
    }
}
