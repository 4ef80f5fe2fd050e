//! The HTTP client of the hub: HTTP/1.1, no redirects, no compression, and Nagle's algorithm off.

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

/// Makes a client without a time limit: callers set `ClientRequest::timeout`, which covers everything up to the response
/// head. Without `tls`, a request to `https` fails.
///
/// The number of connections has no limit: awc's limit of 100 counts open streams, and waiting for one would count against
/// the timeout. Callers limit their own requests.
pub fn client(tls: Option<Arc<ClientConfig>>) -> Client {
    client_by(&TcpConnector::default(), tls)
}

/// Creates a client that resolves names with `tcp`.
fn client_by(tcp: &TcpConnector, tls: Option<Arc<ClientConfig>>) -> Client {
    let connector = Connector::new()
        .connector(NoDelay { tcp: tcp.service() })
        .timeout(CONNECT_TIMEOUT)
        .handshake_timeout(CONNECT_TIMEOUT)
        .conn_keep_alive(KEEP_ALIVE)
        .limit(0);
    // `max_http_version` would drop the TLS configuration, whose ALPN list has only HTTP/1.1.
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
