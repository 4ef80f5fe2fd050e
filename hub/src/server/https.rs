//! The hub over its own TLS, HTTP/1.1 only.
//!
//! actix-web's own way to bind TLS offers h2 to clients as soon as any crate of the build has turned that feature on,
//! and awc does, without a choice. Then everybody could reach code that we neither want nor test, an h2 with known
//! floods. So the service is put together here, from its HTTP/1 half alone.

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::{HttpService, Request, Response};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, map_config};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{AppConfig, Server};
use rustls::ServerConfig;
use tokio::net::TcpSocket;

use super::stalled::on_connect;
use super::{BACKLOG, HEAD, KEEP_ALIVE, LAST_WORDS, MAX_CONNECTIONS};

/// A connection that is to be closed has so long to take part in that, as in actix-web.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Starts to listen.
pub(super) fn serve<F, I, S, B>(
    listen: SocketAddr,
    mut config: ServerConfig,
    app: F,
) -> io::Result<(Server, SocketAddr)>
where
    F: Fn() -> I + Send + Clone + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Future: 'static,
    S::Service: 'static,
    S::Error: Into<Error> + 'static,
    S::InitError: Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let listener = listener(listen)?;
    let addr = listener.local_addr()?;
    let service = move || {
        let app = app().into_factory().map_err(|error| error.into().error_response());
        HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD)
            .client_disconnect_timeout(DISCONNECT)
            .h1_allow_half_closed(false)
            .tcp_nodelay(true)
            .local_addr(addr)
            .on_connect_ext(|io: &_, extensions: &mut _| on_connect(io as &dyn Any, extensions))
            .h1(map_config(app, |()| AppConfig::default()))
            .rustls_0_23(config.clone())
    };
    let server = Server::build()
        .workers(1)
        .backlog(BACKLOG)
        .max_concurrent_connections(MAX_CONNECTIONS)
        .shutdown_timeout(LAST_WORDS)
        .disable_signals()
        .listen("https", listener, service)?;
    Ok((server.run(), addr))
}

fn listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As actix-web does: a hub that starts again finds its port in the state of the last one's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)?.into_std()
}
