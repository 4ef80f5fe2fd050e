//! The HTTP client that speaks to the hub: HTTP/1.1, no redirects, no compression, and Nagle's algorithm off.

mod connector;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix_tls::connect::Connector as TcpConnector;
use awc::{Client, Connector};
use rustls::ClientConfig;

pub use backend::http::{
    BodyError, CONNECT_TIMEOUT, KEEP_ALIVE, TlsError, USER_AGENT, read_body, retry_after, tls_config,
};
use connector::NoDelay;

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
