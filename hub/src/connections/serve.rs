//! The server: HTTP/1.1 behind gates, over TLS or not.
//!
//! actix-web's own way to bind TLS offers h2 to clients as soon as any crate of the build has turned that feature on,
//! and awc does, without a choice. Then everybody could reach code that we neither want nor test, an h2 with known
//! floods. And it shares 256 places for handshakes among all addresses. So the service is put together here, from its
//! HTTP/1 half alone.

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::error::{DispatchError, PayloadError};
use actix_http::{ConnectionType, HttpService, Payload, Request, Response};
use actix_rt::net::TcpStream;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, apply_fn_factory, fn_factory, map_config,
};
use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{AppConfig, Server};
use bytes::Bytes;
use futures_util::future::{Either, LocalBoxFuture, select};
use futures_util::{Stream, StreamExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;
use tokio_rustls::rustls::server::Acceptor;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use super::flow::{Flow, Open};
use super::gate::Gate;
use super::limits::ConnectionLimits;
use super::share::Fair;
use super::table::{Place, Table};
use super::wire::{Shaking, Wire};
use crate::address::Proxies;
use crate::telemetry::Machine;

/// A connection has so long to write what is left when its stream has ended.
const LAST_WORDS: u64 = 2;
/// A request's head has so long to come.
const HEAD: Duration = Duration::from_secs(5);
/// An idle connection is kept so long: a registrar's heartbeats, every 30 s, find theirs again.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection that is to be closed has so long to take part in that, as in actix-web.
const DISCONNECT: Duration = Duration::from_secs(1);
/// A handshake has so long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait to be accepted: a herd of 1,000 registrars after a restart.
const BACKLOG: u32 = 2048;
/// Connections beyond the limit, which are told that they are.
const BEYOND: usize = 16;

/// What connections go through.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) proxies: Proxies,
    pub(crate) machine: Machine,
}

/// Starts to listen.
pub(crate) fn serve<F, I, S, B>(listen: SocketAddr, doors: Doors, app: F) -> io::Result<(Server, SocketAddr)>
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
    let all = doors.limits.all;
    let server = Server::build()
        // One thread owns all of it: a result that lands on another thread than its caller costs a wake-up across
        // them.
        .workers(1)
        .backlog(BACKLOG)
        .max_concurrent_connections(all + BEYOND)
        .shutdown_timeout(LAST_WORDS)
        .disable_signals();
    let stopping = server.graceful_shutdown_signal();
    let service = move || {
        let stopping = stopping.clone();
        let app = app().into_factory().map_err(|error| error.into().error_response());
        let app = map_config(app, |()| AppConfig::default());
        let app = apply_fn_factory(app, |mut req: Request, service: &_| {
            let open = req.conn_data::<Rc<Flow>>().cloned().map(|flow| flow.begin(&mut req));
            let answer = Service::call(service, req);
            async move {
                let mut response: Response<B> = answer.await?.into();
                if open.as_ref().is_some_and(Open::is_last) {
                    response.head_mut().set_connection_type(ConnectionType::Close);
                }
                Ok(response.map_body(|_, body| Answer { body, _open: open }))
            }
        });
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let signal = stopping.clone();
                async move { signal.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD)
            .client_disconnect_timeout(DISCONNECT)
            // A caller who left is noticed by the end of its half; nobody closes one half and still wants an answer.
            .h1_allow_half_closed(false)
            .local_addr(addr)
            .on_connect_ext(|gate: &Gate, extensions| {
                extensions.insert(gate.flow().clone());
            })
            .h1(app);
        let doors = doors.clone();
        fn_factory(move || {
            let (http, doors) = (http.new_service(()), doors.clone());
            async move {
                let table = Table::new(doors.limits, doors.machine.clone());
                Ok::<_, ()>(Door { http: Rc::new(http.await?), doors, table })
            }
        })
    };
    Ok((server.listen("hub", listener, service)?.run(), addr))
}

fn listener(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = if listen.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As actix-web does: a hub that starts again finds its port in the state of the last one's connections.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)?.into_std()
}

/// Takes a new connection to the server.
struct Door<H> {
    http: Rc<H>,
    doors: Doors,
    table: Rc<Table>,
}

impl<H> Service<TcpStream> for Door<H>
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
        // One that is gone already has no peer.
        let Ok(peer) = stream.peer_addr() else { return Box::pin(async { Ok(()) }) };
        let _ = stream.set_nodelay(true);
        super::write_timeout::cut_when_stalled(&stream);
        let place = self.table.admit(peer.ip(), self.doors.proxies.contains(peer.ip()));
        let (http, tls) = (self.http.clone(), self.doors.tls.clone());
        let flow = place.flow.clone();
        Box::pin(Fair::new(flow, async move {
            let wire = match tls {
                None => Wire::Plain(stream),
                Some(tls) => {
                    let handshake = timeout(HANDSHAKE, shake_hands(&place, &tls, stream));
                    let cut = std::pin::pin!(place.flow.told_to_end());
                    match select(std::pin::pin!(handshake), cut).await {
                        Either::Left((Ok(Ok(stream)), _)) => Wire::Tls(stream),
                        _ => return Ok(()),
                    }
                }
            };
            http.call((Gate::new(wire, place), Some(peer))).await
        }))
    }
}

/// A handshake. Its first word costs nothing; what is answered does, and that has to be let in.
async fn shake_hands(
    place: &Place,
    tls: &TlsAcceptor,
    stream: TcpStream,
) -> io::Result<Box<TlsStream<Shaking>>> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), Shaking::new(stream)).await?;
    if !place.may_shake_hands() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let mut stream = Box::new(hello.into_stream(tls.config().clone()).await?);
    stream.get_mut().0.is_done();
    Ok(stream)
}

/// An answer's body: its call is under way until it is dropped.
struct Answer<B> {
    body: B,
    _open: Option<Open>,
}

impl<B: MessageBody + Unpin> MessageBody for Answer<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}

/// A body of unknown length: more of it is read when what came is used up.
pub(super) struct Watched {
    payload: Payload,
    flow: Rc<Flow>,
}

impl Watched {
    pub(super) fn new(payload: Payload, flow: Rc<Flow>) -> Self {
        Self { payload, flow }
    }
}

impl Stream for Watched {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.payload.poll_next_unpin(cx);
        self.flow.waits(next.is_pending());
        next
    }
}

#[cfg(test)]
mod tests;
