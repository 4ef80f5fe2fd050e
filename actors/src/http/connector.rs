//! awc's TCP connector with two fixes and a proxy.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection, Host};
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;

use super::proxy::is_exempt;
use super::{Proxy, Stream};

/// Connects through `proxy`, except to loopback hosts, or with `tcp`. Turns Nagle's algorithm off, which delays a small write
/// until the delayed ACK of the peer, 40 ms, and connects to IPv6 literals, which awc passes to the resolver with their
/// brackets.
#[derive(Clone)]
pub(super) struct HubConnector<S> {
    pub(super) tcp: S,
    pub(super) proxy: Option<Rc<Proxy>>,
    /// For an `https://` proxy.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl<S, R> Service<ConnectInfo<R>> for HubConnector<S>
where
    R: Host + Clone,
    S: Service<ConnectInfo<R>, Response = Connection<R, TcpStream>, Error = ConnectError>,
    S::Future: 'static,
{
    type Response = Connection<R, Stream>;
    type Error = ConnectError;
    type Future = LocalBoxFuture<'static, Result<Self::Response, Self::Error>>;

    actix_service::forward_ready!(tcp);

    fn call(&self, target: ConnectInfo<R>) -> Self::Future {
        let Some(proxy) = self.proxy.clone().filter(|_| !is_exempt(target.hostname())) else {
            let literal = target.hostname().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let target = match literal.and_then(|host| host.parse::<IpAddr>().ok()) {
                Some(ip) => {
                    let address = SocketAddr::new(ip, target.port());
                    target.set_addr(address)
                }
                None => target,
            };
            let connecting = self.tcp.call(target);
            return Box::pin(async move {
                let (socket, request) = connecting.await?.into_parts();
                // Without the option the connection works, only slower.
                let _ = socket.set_nodelay(true);
                Ok(Connection::new(request, Stream::Tcp(socket)))
            });
        };
        let tls = self.tls.clone();
        Box::pin(async move {
            let tunnel = proxy.tunnel(tls.as_ref(), target.hostname(), target.port()).await;
            let stream = tunnel.map_err(|error| ConnectError::Io(error.into()))?;
            Ok(Connection::new(target.request().clone(), stream))
        })
    }
}
