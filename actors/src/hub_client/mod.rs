//! The client of the hub (SPEC.md sections 3 and 4).
//!
//! Control calls, results and uploads have connections of their own, so that none waits for another.

mod address;
mod channel;
mod connections;
mod error;
mod response;
mod tls_reason;
mod token;
mod uplink;
mod upload;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use awc::http::header::{ACCEPT, ACCEPT_ENCODING};
use awc::http::{StatusCode, header};
use awc::{Client, ClientRequest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rustls::ClientConfig;
use tokio::time::timeout;
use wire::features::{FEATURES_HEADER, SESSION_HEADER};
use wire::register::{Heartbeat, HeartbeatAnswer, RegisterAnswer, RegisterRequest};
use wire::{Features, SessionId, TaskId};

use crate::changes::Changes;
use crate::http;
use crate::news::news;
use crate::options::Credentials;

use address::HubAddress;
pub(crate) use address::InvalidHub;
pub(crate) use channel::Channel;
use connections::Connections;
pub(crate) use error::{HubError, HubErrorKind};
use response::HubResponse;
use token::Token;

/// Limit of each call, except channel and upload (SPEC.md section 3).
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest response, in bytes. A register response lists rows of up to some 4 KiB; no other response is near it.
const MAX_RESPONSE: usize = 4 << 20;

/// The calls of the actors to the hub. Tests have another implementation.
pub(crate) trait HubApi {
    /// `POST /_provider-register` with the whole set. Returns the session id.
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'static, Result<SessionId, HubError>>;
    /// `GET /_provider-stream` with all features: opens the control channel.
    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'static, Result<Channel, HubError>>;
    /// `POST /_provider-heartbeat`.
    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'static, Result<(), HubError>>;
    /// `POST /_provider-drain` (feature `drain`).
    fn drain(&self, session: SessionId) -> LocalBoxFuture<'static, Result<(), HubError>>;
}

/// The HTTP client of the hub. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HubClient {
    inner: Rc<Inner>,
}

struct Inner {
    address: HubAddress,
    token: Token,
    tls: Option<Arc<ClientConfig>>,
    control: Client,
    results: Client,
    uploads: Connections,
    logged_warnings: RefCell<Changes>,
    logged_deletions: RefCell<Changes>,
}

impl HubClient {
    /// Checks URL, token and CA file. Reads the system's certificates for an `https` URL.
    pub(crate) fn new(credentials: &Credentials) -> Result<Self, InvalidHub> {
        let address = HubAddress::parse(&credentials.hub_url, credentials.allow_insecure)?;
        let token = Token::new(credentials)?;
        let tls =
            if address.is_https() { Some(http::tls_config(credentials.ca_file.as_deref())?) } else { None };
        let (control, results) = (http::client(tls.clone()), http::client(tls.clone()));
        let uploads = Connections::default();
        Ok(Self {
            inner: Rc::new(Inner {
                address,
                token,
                tls,
                control,
                results,
                uploads,
                logged_warnings: RefCell::default(),
                logged_deletions: RefCell::default(),
            }),
        })
    }

    pub(crate) fn url(&self) -> &str {
        self.inner.address.as_str()
    }

    async fn register_now(&self, request: RegisterRequest) -> Result<SessionId, HubError> {
        const CALL: &str = "provider-register";
        let answer = self.post(CALL, "_provider-register", json(CALL, &request)?).await?;
        if answer.status != StatusCode::CREATED {
            return Err(self.refused(CALL, &answer));
        }
        let invalid = |reason: &str| HubError::Invalid { call: CALL, reason: reason.to_owned() };
        let answer: RegisterAnswer =
            serde_json::from_slice(&answer.body).map_err(|_| invalid("the response is not that of a hub"))?;
        self.log_warnings(&answer);
        SessionId::parse(answer.provider_session_id).map_err(|_| invalid("the hub gave no valid session id"))
    }

    /// Logs the warnings of an accepted registration, once.
    fn log_warnings(&self, answer: &RegisterAnswer) {
        let redact = |text: &str| error::short(&self.inner.token.redact(text.to_owned()));
        let warnings: Vec<_> = answer.warnings().map(redact).collect();
        let mut logged = self.inner.logged_warnings.borrow_mut();
        if warnings.is_empty() {
            logged.clear();
        } else if logged.is_news(&warnings.join("\n")) {
            for warning in warnings {
                news!(warn, "warnings", "the hub", "the hub: {warning}");
            }
        }
    }

    async fn heartbeat_now(&self, beat: Heartbeat) -> Result<(), HubError> {
        const CALL: &str = "provider-heartbeat";
        let answer = self.post(CALL, "_provider-heartbeat", json(CALL, &beat)?).await?;
        if !answer.status.is_success() {
            return Err(self.refused(CALL, &answer));
        }
        // A classic hub may send any body.
        let body: HeartbeatAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        let deleted: Vec<_> = body.deleted().collect();
        let mut logged = self.inner.logged_deletions.borrow_mut();
        if deleted.is_empty() {
            logged.clear();
        } else if logged.is_news(&deleted.join(", ")) {
            let names = deleted.join(", ");
            news!(
                warn,
                "rows deleted",
                "the hub",
                "the hub: an admin has deleted {names}: no calls come there before this registrar registers again"
            );
        }
        Ok(())
    }

    async fn open_channel_now(&self, session: SessionId) -> Result<Channel, HubError> {
        const CALL: &str = "provider-stream";
        let request = || {
            self.request(self.inner.control.get(self.inner.address.route("_provider-stream")))
                .timeout(CALL_TIMEOUT)
                .insert_header((ACCEPT, "text/event-stream"))
                .insert_header((ACCEPT_ENCODING, "identity"))
                .insert_header((SESSION_HEADER, session.as_str()))
                .insert_header((FEATURES_HEADER, Features::ALL.header_value()))
                .no_decompress()
        };
        let used = self.inner.token.current();
        let mut response = request().send().await.map_err(|error| HubError::unsent(CALL, &error))?;
        if self.inner.token.read_again(response.status(), &used).await {
            response = request().send().await.map_err(|error| HubError::unsent(CALL, &error))?;
        }
        if response.status() != StatusCode::OK {
            let answer = HubResponse::read(CALL, response).await?;
            return Err(self.refused(CALL, &answer));
        }
        Channel::new(CALL, response)
    }

    async fn post_result_now(&self, task: &TaskId, body: Bytes) -> Result<(), HubError> {
        const CALL: &str = "provider-task";
        let path = format!("_provider-task/{}/result", task.encoded());
        let answer = self.post_by(&self.inner.results, CALL, &path, body).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(CALL, &answer)) }
    }

    /// A POST whose response body is ignored.
    async fn post_ignoring_body(
        &self,
        call: &'static str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<(), HubError> {
        let answer = self.post(call, path, json(call, body)?).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(call, &answer)) }
    }

    async fn post(&self, call: &'static str, path: &str, body: Bytes) -> Result<HubResponse, HubError> {
        self.post_by(&self.inner.control, call, path, body).await
    }

    /// A POST. If the hub may have refused the token, the credentials are read again and it is sent once more.
    async fn post_by(
        &self,
        client: &Client,
        call: &'static str,
        path: &str,
        body: Bytes,
    ) -> Result<HubResponse, HubError> {
        let url = self.inner.address.route(path);
        let once = || async {
            let sending = self
                .request(client.post(url.as_str()))
                .timeout(CALL_TIMEOUT)
                .insert_header((ACCEPT, "application/json"))
                .content_type("application/json")
                .send_body(body.clone());
            let response = sending.await.map_err(|error| HubError::unsent(call, &error))?;
            HubResponse::read(call, response).await
        };
        let twice = async {
            let used = self.inner.token.current();
            let answer = once().await?;
            if self.inner.token.read_again(answer.status, &used).await {
                return once().await;
            }
            Ok(answer)
        };
        timeout(CALL_TIMEOUT, twice).await.unwrap_or_else(|_| Err(HubError::silent(call)))
    }

    fn request(&self, request: ClientRequest) -> ClientRequest {
        request.insert_header((header::AUTHORIZATION, self.inner.token.bearer()))
    }

    fn refused(&self, call: &'static str, answer: &HubResponse) -> HubError {
        let redact = |text| self.inner.token.redact(text);
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

impl HubApi for HubClient {
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'static, Result<SessionId, HubError>> {
        let hub = self.clone();
        async move { hub.register_now(request).await }.boxed_local()
    }

    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'static, Result<Channel, HubError>> {
        let hub = self.clone();
        async move { hub.open_channel_now(session).await }.boxed_local()
    }

    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'static, Result<(), HubError>> {
        let hub = self.clone();
        async move { hub.heartbeat_now(beat).await }.boxed_local()
    }

    fn drain(&self, session: SessionId) -> LocalBoxFuture<'static, Result<(), HubError>> {
        let hub = self.clone();
        let body = Heartbeat { provider_session_id: session.into(), stream_id: None, providers: None };
        async move { hub.post_ignoring_body("provider-drain", "_provider-drain", &body).await }.boxed_local()
    }
}

impl std::fmt::Debug for HubClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubClient").field("url", &self.url()).finish_non_exhaustive()
    }
}

fn json(call: &'static str, body: &impl serde::Serialize) -> Result<Bytes, HubError> {
    let invalid = |error: serde_json::Error| HubError::Invalid { call, reason: error.to_string() };
    serde_json::to_vec(body).map(Bytes::from).map_err(invalid)
}
