//! The server: HTTP/1.1 over TCP or TLS, each connection behind a gate and in the scheduler.
//!
//! actix-web's own TLS binding offers h2 as soon as any crate of the build turns that feature on, and awc always does. That
//! h2 has known floods and is not tested here. The binding also shares 256 handshakes among all addresses. So this module
//! builds the service from the HTTP/1 half of actix-http.

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::{DispatchError, ParseError};
use actix_http::{ConnectionType, HttpService, Request, Response};
use actix_rt::net::TcpStream;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_factory, map_config,
};
use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{AppConfig, Server};
use bytes::Bytes;
use futures_util::future::{Either, LocalBoxFuture, poll_fn, select};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::connection::{Connection, OpenCall};
use super::gate::Gate;
use super::limits::ConnectionLimits;
use super::maybe_tls::{HANDSHAKE_TOO_LARGE, HandshakeStream, MaybeTlsStream};
use super::scheduled::Scheduled;
use super::send_queue::bound_send_queue;
use super::table::{ConnectionPermit, ConnectionTable};
use super::user_timeout::set_user_timeout;
use crate::address::Proxies;
use crate::telemetry::{Limit, Machine};

/// Seconds that connections have to write the rest of their responses at shutdown.
const SHUTDOWN_SECONDS: u64 = 2;
/// Time in which a request's head has to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that an idle connection is kept: longer than the 30 s between a registrar's heartbeats.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Time that a client has to take part in closing a connection, as in actix-web.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time in which a TLS handshake has to complete.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted: a fleet of 1,000 registrars after a restart.
const BACKLOG: u32 = 2048;
/// Connections beyond the limit that are accepted, so that the table can close others with a response.
const BEYOND_LIMIT: usize = 16;

/// The configuration of the listener.
#[derive(Clone)]
pub(crate) struct ListenerConfig {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) proxies: Proxies,
    pub(crate) machine: Machine,
}

/// Binds `listen` and serves `app` on it. Returns the server, which has to be polled, and its address.
pub(crate) fn serve<F, I, S, B>(
    listen: SocketAddr,
    config: ListenerConfig,
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
    B: MessageBody + Unpin + 'static,
{
    let listener = listener(listen)?;
    let addr = listener.local_addr()?;
    let server = Server::build()
        // One thread serves all: a result on another thread than its caller's would cost a wake-up across threads.
        .workers(1)
        .backlog(BACKLOG)
        .max_concurrent_connections(config.limits.total + BEYOND_LIMIT)
        .shutdown_timeout(SHUTDOWN_SECONDS)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let service = move || {
        let stopping = stopping.clone();
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = map_config(app, |()| AppConfig::default());
        let app = apply_fn_factory(app, |mut req: Request, service: &_| {
            let connection = req.conn_data::<Rc<Connection>>().cloned();
            let call = connection.map(|connection| connection.begin(&mut req));
            let response = Service::call(service, req);
            async move {
                let mut response: Response<B> = response.await?.into();
                if call.as_ref().is_some_and(OpenCall::is_last) {
                    response.head_mut().set_connection_type(ConnectionType::Close);
                }
                Ok(response.map_body(|_, body| CallBody { body, _call: call }))
            }
        });
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let signal = stopping.clone();
                async move { signal.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            // A client that closes its half has left.
            .h1_allow_half_closed(false)
            .local_addr(addr)
            .on_connect_ext(|gate: &Gate, extensions| {
                extensions.insert(gate.connection().clone());
            })
            .h1(app);
        let config = config.clone();
        fn_factory(move || {
            let (http, config) = (http.new_service(()), config.clone());
            async move {
                let table = ConnectionTable::new(config.limits, config.machine.clone());
                Ok::<_, ()>(ConnectionService { http: Rc::new(http.await?), config, table })
            }
        })
    };
    Ok((server.listen("hub", listener, service)?.run(), addr))
}

fn listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As in actix-web: connections of a stopped hub may still occupy the port.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Admits a new connection, shakes hands, and passes it to the HTTP service.
struct ConnectionService<H> {
    http: Rc<H>,
    config: ListenerConfig,
    table: Rc<ConnectionTable>,
}

impl<H> Service<TcpStream> for ConnectionService<H>
where
    H: Service<(Gate, Option<SocketAddr>), Response = (), Error = DispatchError> + 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Future = LocalBoxFuture<'static, Result<(), DispatchError>>;

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), DispatchError>> {
        self.http.poll_ready(cx)
    }

    fn call(&self, stream: TcpStream) -> Self::Future {
        // A connection that is closed already has no peer.
        let Ok(peer) = stream.peer_addr() else { return Box::pin(async { Ok(()) }) };
        let _ = stream.set_nodelay(true);
        set_user_timeout(&stream);
        bound_send_queue(&stream);
        let permit = self.table.admit(peer.ip(), self.config.proxies.contains(peer.ip()));
        let (http, tls, table) = (self.http.clone(), self.config.tls.clone(), self.table.clone());
        Box::pin(Scheduled::new(permit.connection.slot.clone(), async move {
            let stream = match tls {
                None => MaybeTlsStream::Plain(stream),
                Some(tls) => {
                    let handshake = timeout(HANDSHAKE_TIMEOUT, shake_hands(&permit, &tls, stream));
                    let closed = std::pin::pin!(permit.connection.closed());
                    match select(std::pin::pin!(handshake), closed).await {
                        Either::Left((Ok(Ok(stream)), _)) => MaybeTlsStream::Tls(stream),
                        Either::Left((Err(_), _)) => {
                            table.machine.refused_by(Limit::TlsHandshake);
                            return Ok(());
                        }
                        Either::Left((Ok(Err(error)), _)) => {
                            if error.kind() == HANDSHAKE_TOO_LARGE {
                                table.machine.refused_by(Limit::TlsHandshake);
                            }
                            return Ok(());
                        }
                        Either::Right(_) => return Ok(()),
                    }
                }
            };
            let connection = permit.connection.clone();
            let mut serving = std::pin::pin!(http.call((Gate::new(stream, permit), Some(peer))));
            let served = poll_fn(|cx| {
                let served = serving.as_mut().poll(cx);
                connection.poll_companion(cx);
                served
            })
            .await;
            if matches!(served, Err(DispatchError::Parse(ParseError::TooLarge))) {
                // The server has answered 431.
                table.machine.refused_by(Limit::RequestHead);
            }
            served
        }))
    }
}

/// Performs a TLS handshake. The client's hello costs nothing; the answer is a signature, and needs a permit.
async fn shake_hands(
    permit: &ConnectionPermit,
    tls: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<Box<TlsStream<HandshakeStream>>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), HandshakeStream::new(stream)).await?;
    if !permit.take_handshake() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut stream = Box::new(hello.into_stream(tls.config().clone()).await?);
    stream.get_mut().0.set_complete();
    Ok(stream)
}

/// A response body that keeps its call open until dropped.
struct CallBody<B> {
    body: B,
    _call: Option<OpenCall>,
}

impl<B: MessageBody + Unpin> MessageBody for CallBody<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

#[cfg(test)]
mod tests;
