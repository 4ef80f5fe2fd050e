//! An HTTP client with a pool of idle connections. It belongs to one thread, and to a `LocalSet` there.

mod pool;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tower_service::Service;

#[cfg(test)]
pub(super) use pool::MAX_DISTRUSTED;
pub(super) use pool::PoolSlot;

use super::body::Body;
use super::connection::{Connection, Socket, Writing};
use super::dial::{self, Dial};
use super::resolver::{LookupUser, Resolver};
use super::send_error::{SendError, connect_error};

/// Limit for a TCP connect, and again for the TLS handshake. It allows for two lost SYNs (1 s and 3 s).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest idle time of a pooled connection. Servers close idle connections after 5 s or more (actix-web, llama.cpp and Node:
/// 5 s), and a request sent on a closing connection fails.
pub const KEEP_ALIVE: Duration = Duration::from_secs(4);

/// HTTP client. Clones share their idle connections.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    resolver: Resolver,
    tls: Option<Arc<ClientConfig>>,
    connector: Connector,
    /// Maximum number of idle connections to all servers.
    max_idle: usize,
    idle: RefCell<HashMap<Origin, Vec<(Instant, Connection)>>>,
    /// Servers that have sent unsolicited bytes. The next time such bytes may come after another caller's request and be taken
    /// for its answer, so no connection to these servers is used twice. At most [`MAX_DISTRUSTED`](pool::MAX_DISTRUSTED), the oldest first.
    unasked: RefCell<VecDeque<Origin>>,
    /// Whether the task that closes idle connections is running.
    is_swept: Cell<bool>,
}

enum Connector {
    Plain(HttpConnector<Resolver>),
    Tls(HttpsConnector<HttpConnector<Resolver>>),
    /// The dialer's peer resolves the name.
    Dialed {
        dial: Rc<dyn Dial>,
        tls: Option<TlsConnector>,
    },
}

/// `scheme://host:port`.
type Origin = Rc<str>;

impl Client {
    /// Creates a client. Time limits are given for each request. Without `tls`, a request to `https` fails.
    pub fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self::bounded(tls, usize::MAX)
    }

    /// Like [`new`](Self::new), with at most `idle` idle connections to all servers together.
    pub fn bounded(tls: Option<Arc<ClientConfig>>, idle: usize) -> Self {
        Self::with_resolver(tls, Resolver::system(), idle)
    }

    pub(super) fn with_resolver(tls: Option<Arc<ClientConfig>>, resolver: Resolver, idle: usize) -> Self {
        let mut http = HttpConnector::new_with_resolver(resolver.clone());
        // Nagle's algorithm would delay small writes by up to 40 ms, until the peer's delayed ACK.
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.enforce_http(false);
        let connector = match &tls {
            Some(config) => Connector::Tls(HttpsConnector::from((http, Arc::clone(config)))),
            None => Connector::Plain(http),
        };
        Self::with_connector(resolver, tls, connector, idle)
    }

    /// Creates a client with the same TLS and connections of its own, which `dial` opens.
    pub fn through(&self, dial: Rc<dyn Dial>) -> Self {
        let (resolver, tls) = (self.0.resolver.clone(), self.0.tls.clone());
        let connector = Connector::Dialed { dial, tls: tls.clone().map(TlsConnector::from) };
        Self::with_connector(resolver, tls, connector, self.0.max_idle)
    }

    fn with_connector(
        resolver: Resolver,
        tls: Option<Arc<ClientConfig>>,
        connector: Connector,
        max_idle: usize,
    ) -> Self {
        Self(Rc::new(Inner {
            resolver,
            tls,
            connector,
            max_idle,
            idle: RefCell::default(),
            unasked: RefCell::default(),
            is_swept: Cell::new(false),
        }))
    }

    /// Sends `request`, which has an absolute URI, and waits at most `limit` for the head of its final answer. Interim answers
    /// (1xx) are skipped. An answer before the server has read the whole request counts.
    pub async fn send(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Body>, SendError> {
        timeout(limit, self.exchange(request)).await.map_err(|_elapsed| SendError::Silent)?
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Body>, SendError> {
        let (mut head, body) = request.into_parts();
        let url = std::mem::take(&mut head.uri);
        let LookupUser(user) = head.extensions.remove().unwrap_or_default();
        let authority = url.authority().ok_or(SendError::Invalid)?.clone();
        let origin: Origin = format!("{}://{authority}", url.scheme_str().unwrap_or("http")).into();
        let host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host);
        head.headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| SendError::Invalid)?);
        head.headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse().map_err(|_| SendError::Invalid)?;
        let (has_body, writing) = (!body.is_empty(), Writing::of(body.len()));
        let mut request = Request::from_parts(head, Full::new(body));
        loop {
            let idle = self.take(&origin, writing);
            let was_idle = idle.is_some();
            let mut connection = match idle {
                Some(connection) => connection,
                None => self.connect(&url, &user, writing).await?,
            };
            match connection.send(request).await {
                Ok(answer) => {
                    // A server that refuses a request may leave its body unread. It would read the next request as the rest of
                    // that body, and one caller's prompt would reach another caller.
                    let is_taken = !has_body || answer.status().is_success();
                    let returned = PoolSlot { client: self.clone(), origin, is_taken };
                    return Ok(answer.map(|incoming| Body::new(incoming, connection, returned)));
                }
                // The server closed an idle connection before any of the request was written.
                Err(mut error) if was_idle && error.message().is_some() => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Broken),
                },
                Err(error) if error.error().is_parse() => return Err(SendError::Malformed),
                Err(_) => return Err(SendError::Broken),
            }
        }
    }

    async fn connect(&self, url: &Uri, user: &str, writing: Writing) -> Result<Connection, SendError> {
        if let Connector::Dialed { dial, tls } = &self.0.connector {
            let socket = dial::connect(&**dial, tls.as_ref(), url).await?;
            return Connection::start(socket, writing).await.map_err(|_| SendError::Broken);
        }
        if url.scheme() == Some(&Scheme::HTTPS) && matches!(self.0.connector, Connector::Plain(_)) {
            return Err(SendError::NoTls);
        }
        // The connector then finds the addresses in the resolver's cache.
        self.0.resolver.resolve(url.host().unwrap_or_default(), user).await?;
        let socket = match &self.0.connector {
            Connector::Plain(http) => {
                let connecting = http.clone().call(url.clone());
                let socket = timeout(CONNECT_TIMEOUT, connecting).await;
                Box::new(
                    socket
                        .map_err(drop)
                        .and_then(|socket| socket.map_err(drop))
                        .map_err(|()| SendError::Unreachable)?,
                ) as Box<dyn Socket>
            }
            Connector::Tls(tls) => {
                let connecting = tls.clone().call(url.clone());
                let socket = timeout(CONNECT_TIMEOUT * 2, connecting).await;
                let socket = socket.map_err(|_elapsed| SendError::Unreachable)?;
                Box::new(socket.map_err(|error| connect_error(&*error))?)
            }
            Connector::Dialed { .. } => return Err(SendError::Proxy),
        };
        Connection::start(socket, writing).await.map_err(|_| SendError::Broken)
    }

    /// Opens a connection to the server of `url`, without its TLS, and closes it.
    pub(crate) async fn touch(&self, url: &Uri) -> Result<(), SendError> {
        let (host, port) = dial::target(url).ok_or(SendError::Invalid)?;
        if let Connector::Dialed { dial, .. } = &self.0.connector {
            return dial.dial(host, port).await.map(drop).map_err(|_named| SendError::Proxy);
        }
        let mut addresses = self.0.resolver.resolve(host, "").await?;
        for address in &mut addresses {
            address.set_port(port);
        }
        TcpStream::connect(&*addresses).await.map(drop).map_err(|_| SendError::Unreachable)
    }
}

#[cfg(test)]
impl Client {
    /// Whether `origin` is distrusted. With `speaks`, `origin` is added to the distrusted servers afterwards.
    pub(super) fn is_distrusted_by(&self, origin: &str, speaks: bool) -> bool {
        let origin = Rc::from(origin);
        let before = self.0.is_distrusted(&origin);
        if speaks {
            self.0.distrust(&origin);
        }
        before
    }

    /// Number of idle connections.
    pub(super) fn idle(&self) -> usize {
        self.0.idle.borrow().values().map(Vec::len).sum()
    }
}
