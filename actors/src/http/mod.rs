//! The HTTP client of the hub: HTTP/1.1, no redirects, no compression, and Nagle's algorithm off.

mod connector;
pub mod proxy;
mod stream;

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::net::{ActixStream, TcpStream};
use actix_service::Service as _;
use actix_tls::connect::rustls_0_23::TlsConnector;
use actix_tls::connect::rustls_0_23::reexports::AsyncTlsStream;
use actix_tls::connect::{Connection, Connector as TcpConnector};
use awc::{Client, Connector};
use rustls::ClientConfig;

pub use backend::http::{
    BodyError, CONNECT_TIMEOUT, KEEP_ALIVE, TlsError, USER_AGENT, is_loopback, read_body, retry_after,
    tls_config,
};
use connector::HubConnector;
pub use proxy::{Proxy, ProxyError};
pub use stream::Stream;

/// Creates a client without a time limit: callers set `ClientRequest::timeout`, which covers everything up to the response
/// head. Without `tls`, a request to `https` or through an `https://` proxy fails. Each connection goes through `proxy`,
/// except to loopback hosts.
///
/// The number of connections has no limit: awc's limit of 100 counts open streams, and waiting for one would count against
/// the timeout. Callers limit their own requests.
pub fn client(tls: Option<Arc<ClientConfig>>, proxy: Option<&Proxy>) -> Client {
    client_by(&TcpConnector::default(), tls, proxy)
}

/// Creates a client that resolves names with `tcp`.
fn client_by(tcp: &TcpConnector, tls: Option<Arc<ClientConfig>>, proxy: Option<&Proxy>) -> Client {
    let proxy = proxy.cloned().map(Rc::new);
    // The three steps of a tunnel have their own limits, whose errors name the step.
    let limit = if proxy.is_some() { CONNECT_TIMEOUT * 4 } else { CONNECT_TIMEOUT };
    let tcp = tcp.service();
    let connector = Connector::new()
        .connector(HubConnector { tcp, proxy, tls: tls.clone() })
        .timeout(limit)
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

/// Connects to `host:port`, through `proxy` unless the host is loopback. `tls` is for an `https://` proxy.
pub async fn connect(
    proxy: Option<&Proxy>,
    tls: Option<&Arc<ClientConfig>>,
    host: &str,
    port: u16,
) -> io::Result<Stream> {
    if let Some(proxy) = proxy.filter(|_| !proxy::is_exempt(host)) {
        return Ok(proxy.tunnel(tls, host, port).await?);
    }
    let socket = TcpStream::connect((proxy::unbracketed(host), port)).await?;
    // Nagle's algorithm would delay each token until the delayed ACK of the peer, 40 ms.
    let _ = socket.set_nodelay(true);
    Ok(Stream::Tcp(socket))
}

/// Performs the TLS handshake with `host` on a connected stream.
pub async fn handshake<S: ActixStream + 'static>(
    tls: &Arc<ClientConfig>,
    host: &str,
    stream: S,
) -> io::Result<AsyncTlsStream<S>> {
    let connector = TlsConnector::service(Arc::clone(tls));
    // A certificate names an IPv6 address without brackets.
    let host = proxy::unbracketed(host).to_owned();
    let connected = connector.call(Connection::new(host, stream)).await?;
    Ok(connected.into_parts().0)
}
