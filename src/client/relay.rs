//! Requests to the hub whose bodies stream in both directions, for `local`.
//!
//! hyper instead of awc: to awc an answer that broke off looks whole. Each connection runs in a task of its own, which is
//! aborted when the answer is dropped before its end: the hub then sees that the caller has left.

mod body;
mod connection;

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use actors::{
    Credentials,
    http::{self, CONNECT_TIMEOUT, Proxy},
};
use awc::error::{ConnectError, SendRequestError};
use futures_util::FutureExt as _;
use hyper::{
    Request, Response, Uri,
    header::{HOST, HeaderValue},
    http::uri::{PathAndQuery, Scheme},
};
use rustls::ClientConfig;
use tokio::time::timeout;

use super::CallError;
use crate::exit::Failure;
use connection::Connection;

pub(crate) use body::{HubBody, RequestBody};

/// Longest idle time of a connection, on the system's clock, which goes on while a laptop sleeps. Shorter than the 60 s
/// of many load balancers.
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// Most idle connections. Further ones are closed.
const MAX_IDLE: usize = 16;

/// Client of one hub for whole requests of others. It follows no redirect.
pub(crate) struct HubRelay {
    url: String,
    /// Host of the URL; an IPv6 address has brackets.
    host: String,
    port: u16,
    /// Value of the `Host` header.
    authority: HeaderValue,
    /// Path of the URL, without the slash at its end.
    prefix: String,
    proxy: Option<Proxy>,
    /// For an https hub, or an `https://` proxy.
    tls: Option<Arc<ClientConfig>>,
    is_https: bool,
    idle: Rc<Idle>,
}

/// Connections without a request, each with the time at which its last answer ended.
type Idle = RefCell<Vec<(SystemTime, Connection)>>;

impl HubRelay {
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, Failure> {
        let url = credentials.hub_url.clone();
        let invalid = || Failure::usage(format!("{url} is no hub's address"));
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let is_https = uri.scheme() == Some(&Scheme::HTTPS);
        let proxy = credentials.proxy_in_use().cloned();
        // Reading the system's certificates takes milliseconds: only for https.
        let needs_tls = is_https || proxy.as_ref().is_some_and(Proxy::is_tls);
        let tls = needs_tls.then(|| http::tls_config(credentials.ca_file.as_deref())).transpose();
        Ok(Self {
            host: authority.host().to_owned(),
            port: uri.port_u16().unwrap_or(if is_https { 443 } else { 80 }),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| invalid())?,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            tls: tls.map_err(Failure::usage)?,
            proxy,
            is_https,
            idle: Rc::default(),
            url,
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request whose URI is a path of the hub. Waits for the head of the answer without a time limit: the hub has
    /// its own. Dropping the future or the answer's body cancels the request.
    pub(crate) async fn send(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<HubBody>, CallError> {
        self.address(&mut request);
        let has_body = request.body().is_expected();
        loop {
            let (mut connection, was_idle) = match self.take() {
                Some(connection) => (connection, true),
                None => (self.connect().await?, false),
            };
            match connection.send(request).await {
                Ok(answer) => {
                    // A server that refuses a request may leave its body unread, and read the next request as its rest.
                    let is_reusable = !has_body || answer.status().is_success();
                    let pool = is_reusable.then(|| Rc::clone(&self.idle));
                    return Ok(answer.map(|body| HubBody::new(body, connection, pool)));
                }
                // The hub closed an idle connection before any of the request was written.
                Err((_, Some(unsent))) if was_idle => request = unsent,
                Err((error, _)) => return Err(self.unreachable(&connection::reason(&error))),
            }
        }
    }

    /// Writes the hub's path and host into the request.
    fn address<B>(&self, request: &mut Request<B>) {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        if let Ok(uri) = format!("{}{path}", self.prefix).parse() {
            *request.uri_mut() = uri;
        }
        request.headers_mut().insert(HOST, self.authority.clone());
    }

    /// Takes the connection that became idle last and is still open.
    fn take(&self) -> Option<Connection> {
        loop {
            let (since, mut connection) = self.idle.borrow_mut().pop()?;
            let is_fresh = since.elapsed().is_ok_and(|idle| idle < MAX_IDLE_TIME);
            if is_fresh && connection.ready().now_or_never() == Some(true) {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, CallError> {
        // A tunnel has three steps with limits of their own, whose errors name the step.
        let limit = if self.proxy.is_some() { CONNECT_TIMEOUT * 4 } else { CONNECT_TIMEOUT };
        let connecting = http::connect(self.proxy.as_ref(), self.tls.as_ref(), &self.host, self.port);
        let stream = within(limit, connecting).await.map_err(|error| self.unreachable(&error))?;
        connection::detect_dead_peer(&stream);
        let opened = match self.tls.as_ref().filter(|_| self.is_https) {
            Some(tls) => {
                let shaken = within(CONNECT_TIMEOUT, http::handshake(tls, &self.host, stream)).await;
                Connection::open(shaken.map_err(|error| self.unreachable(&error))?).await
            }
            None => Connection::open(stream).await,
        };
        opened.map_err(|error| self.unreachable(&connection::reason(&error)))
    }

    fn unreachable(&self, error: &SendRequestError) -> CallError {
        CallError::unreachable(&self.url, self.proxy.as_ref(), error)
    }
}

/// Limits a step of connecting.
async fn within<T>(
    limit: Duration,
    step: impl Future<Output = io::Result<T>>,
) -> Result<T, SendRequestError> {
    let done = timeout(limit, step).await.map_err(|_elapsed| ConnectError::Timeout)?;
    Ok(done.map_err(ConnectError::Io)?)
}
