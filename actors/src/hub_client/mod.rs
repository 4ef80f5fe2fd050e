//! The client of the hub (SPEC.md sections 3 and 4).
//!
//! Control calls and results have connections of their own, so that none waits for another.

mod address;
mod calls;
mod channel_body;
mod connection;
mod control_channel;
mod echo;
mod error;
mod link;
mod response;
mod results;
mod token;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::error::{ConnectError, SendRequestError};
use awc::http::header;
use awc::http::header::ACCEPT;
use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout};
use wire::SessionId;
use wire::register::{Heartbeat, RegisterRequest};

use crate::changes::Changes;
use crate::http::{self, Proxy};
use crate::options::{Credentials, Transport};

pub(crate) use address::{HubAddress, InvalidHub};
pub(crate) use channel_body::ChannelBody;
pub(crate) use control_channel::ControlChannel;
use control_channel::STREAM_CALL;
pub(crate) use echo::{Echo, EchoChannel};
pub(crate) use error::{HubError, HubErrorKind};
pub(crate) use link::LinkEvent;
use link::{LinkPolicy, Links};
use response::HubResponse;
use token::Token;

/// Limit of each call, except the channel (SPEC.md section 3).
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest response, in bytes. A register response lists rows of up to some 4 KiB; no other response is near it.
const MAX_RESPONSE: usize = 4 << 20;

/// The calls of the actors to the hub.
pub(crate) trait HubApi {
    /// `POST /_provider-register` with the whole set. Returns the session id.
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'_, Result<SessionId, HubError>>;
    /// `GET /_provider-stream` with all features: opens the control channel.
    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'_, Result<ControlChannel, HubError>>;
    /// When a link may be tried in place of an open SSE channel; `None` if it is not.
    fn next_upgrade(&self) -> Option<Instant> {
        None
    }
    /// Opens a link in place of an open SSE channel; `None` if there is none, and the open channel stays.
    fn upgrade(&self, _session: SessionId) -> LocalBoxFuture<'_, Option<ControlChannel>> {
        async { None }.boxed_local()
    }
    /// Sends a heartbeat: as a frame of the link, else by `POST /_provider-heartbeat`.
    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'_, Result<(), HubError>>;
    /// `POST /_provider-drain` (feature `drain`).
    fn drain(&self, session: SessionId) -> LocalBoxFuture<'_, Result<(), HubError>>;
    /// Last round trip of the open link, if one was measured within a minute.
    fn round_trip(&self) -> Option<Duration> {
        None
    }
    /// Whether tasks run that came on the link.
    fn has_link_tasks(&self) -> bool {
        false
    }
}

/// The HTTP client of the hub.
pub(crate) struct HubClient {
    address: HubAddress,
    token: Token,
    /// For an https hub, and for an `https://` proxy.
    tls: Option<Arc<ClientConfig>>,
    proxy: Option<Proxy>,
    control: Client,
    results: Client,
    transport: Transport,
    links: Links,
    link_policy: Rc<RefCell<LinkPolicy>>,
    logged_warnings: RefCell<Changes>,
    logged_deletions: RefCell<Changes>,
}

impl HubClient {
    /// Checks URL, token and CA file. Reads the system's certificates for an `https` URL.
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, InvalidHub> {
        let address = HubAddress::parse(&credentials.hub_url, credentials.allow_insecure)?;
        let token = Token::new(credentials)?;
        let proxy = credentials.proxy_in_use().cloned();
        let needs_tls = address.is_https() || proxy.as_ref().is_some_and(Proxy::is_tls);
        let tls = if needs_tls { Some(http::tls_config(credentials.ca_file.as_deref())?) } else { None };
        Ok(Self {
            address,
            token,
            control: http::client(tls.clone(), proxy.as_ref()),
            results: http::client(tls.clone(), proxy.as_ref()),
            tls,
            proxy,
            transport: Transport::Auto,
            links: Links::default(),
            link_policy: Rc::default(),
            logged_warnings: RefCell::default(),
            logged_deletions: RefCell::default(),
        })
    }

    /// Talks to the hub by `transport`.
    pub(crate) fn with(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    pub(crate) fn url(&self) -> &str {
        self.address.as_str()
    }

    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref()
    }

    /// A POST that succeeds with a 2xx. If the hub may have refused the token, the credentials are read again and it is sent
    /// once more.
    async fn post(
        &self,
        client: &Client,
        call: &'static str,
        path: &str,
        body: Bytes,
    ) -> Result<HubResponse, HubError> {
        let url = self.address.route(path);
        let once = || async {
            let sending = self
                .authorized(client.post(url.as_str()))
                .insert_header((ACCEPT, "application/json"))
                .content_type("application/json")
                .send_body(body.clone());
            let response = sending.await.map_err(|error| {
                if let SendRequestError::Connect(ConnectError::Io(error)) = &error {
                    self.note_unconnected(error.kind());
                }
                HubError::unsent(call, &error)
            })?;
            HubResponse::read(call, response).await
        };
        let twice = async {
            let used = self.token.current();
            let answer = once().await?;
            if self.token.read_again(answer.status, &used).await {
                return once().await;
            }
            Ok(answer)
        };
        let answer = timeout(CALL_TIMEOUT, twice).await.unwrap_or_else(|_| Err(HubError::silent(call)));
        let answer = answer.map_err(|error| self.through_proxy(error))?;
        if answer.status.is_success() { Ok(answer) } else { Err(self.refused(call, &answer)) }
    }

    /// Takes in why there is no connection to the hub.
    fn note_unconnected(&self, kind: io::ErrorKind) {
        // A proxy that refuses says nothing about the hub.
        if kind == io::ErrorKind::ConnectionRefused && self.proxy.is_none() {
            self.links.current().note_refused();
        }
    }

    /// A POST of JSON on the connections of control calls.
    async fn post_json(
        &self,
        call: &'static str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<HubResponse, HubError> {
        let invalid = |error: serde_json::Error| HubError::Invalid { call, reason: error.to_string() };
        let body = serde_json::to_vec(body).map_err(invalid)?;
        self.post(&self.control, call, path, body.into()).await
    }

    fn authorized(&self, request: ClientRequest) -> ClientRequest {
        request.timeout(CALL_TIMEOUT).insert_header((header::AUTHORIZATION, self.token.bearer()))
    }

    /// Names the proxy, if there is one, in an error on the way.
    fn through_proxy(&self, error: HubError) -> HubError {
        error.through(self.proxy.as_ref())
    }

    fn refused(&self, call: &'static str, answer: &HubResponse) -> HubError {
        let redact = |text| self.token.redact(text);
        let reason = error::message(&answer.body, redact);
        let message = match &answer.redirects_to {
            Some(target) if error::has_text(&answer.body) => {
                format!("{reason}; it redirects to {target}; is that the hub's address?")
            }
            Some(target) => format!("it redirects to {target}; is that the hub's address?"),
            None => reason,
        };
        let (status, retry_after) = (answer.status.as_u16(), answer.retry_after);
        HubError::Status { call, status, message: redact(message), retry_after }
    }
}
