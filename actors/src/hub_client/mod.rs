//! What the registrar says to the hub (SPEC.md sections 3 and 4), as calls.
//!
//! Three clients, so that none waits for another's connections: one for the control channel and what belongs to
//! it, one for results, and the backends have their own elsewhere.

mod address;
mod channel;
mod connections;
mod error;
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

use awc::http::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use awc::http::{StatusCode, header};
use awc::{Client, ClientRequest, ClientResponse};
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
pub use address::InvalidHub;
pub use channel::Channel;
use connections::Connections;
pub use error::{HubError, HubErrorKind};
use token::Token;

/// Each call but channel and upload, from the first byte out to the last one in (SPEC.md section 3).
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest answer that is read. A register answer lists rows, each under 4 KiB or so; nothing else is near it.
const MAX_ANSWER: usize = 4 << 20;

/// What the actors ask of a hub; a test can stand in for one.
pub trait HubApi {
    /// `POST /_provider-register`: the whole set. Answers the id to use from now on.
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'static, Result<SessionId, HubError>>;
    /// `GET /_provider-stream`: opens the control channel and names all features that we have.
    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'static, Result<Channel, HubError>>;
    /// `POST /_provider-heartbeat`.
    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'static, Result<(), HubError>>;
    /// `POST /_provider-drain` (feature `drain`).
    fn drain(&self, session: SessionId) -> LocalBoxFuture<'static, Result<(), HubError>>;
}

/// Calls the hub. Cheap to clone; stays on its arbiter, as awc's clients do.
#[derive(Clone)]
pub struct HubClient {
    inner: Rc<Inner>,
}

struct Inner {
    address: HubAddress,
    token: Token,
    tls: Option<Arc<ClientConfig>>,
    control: Client,
    results: Client,
    uploads: Connections,
    /// The warnings that were logged last.
    told: RefCell<Changes>,
    /// What the hub said last that an admin has deleted.
    deleted: RefCell<Changes>,
}

/// A status and what came with it.
struct Answer {
    status: StatusCode,
    body: Bytes,
    retry_after: Option<Duration>,
    /// Where a redirect leads, without path and query: they are not ours to log.
    redirects_to: Option<String>,
}

impl HubClient {
    /// Checks URL, token and CA file. Reads the system's certificates when the hub is called by `https`.
    pub fn new(credentials: &Credentials) -> Result<Self, InvalidHub> {
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
                told: RefCell::default(),
                deleted: RefCell::default(),
            }),
        })
    }

    /// The hub's URL, for people.
    pub fn url(&self) -> &str {
        self.inner.address.as_str()
    }

    async fn register_now(&self, request: RegisterRequest) -> Result<SessionId, HubError> {
        const CALL: &str = "provider-register";
        let answer = self.post(CALL, "_provider-register", json(CALL, &request)?).await?;
        if answer.status != StatusCode::CREATED {
            return Err(self.refused(CALL, &answer));
        }
        let odd = |reason: &str| HubError::Odd { call: CALL, reason: reason.to_owned() };
        let answer: RegisterAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| odd("the hub's answer is not what a hub says"))?;
        self.pass_on(&answer);
        SessionId::parse(answer.provider_session_id).map_err(|_| odd("the hub gave no legal session id"))
    }

    /// Logs what the hub has to say about a call that it took: once, however often we register.
    fn pass_on(&self, answer: &RegisterAnswer) {
        let redact = |said: &str| error::short(&self.inner.token.redact(said.to_owned()));
        let warnings: Vec<_> = answer.warnings().map(redact).collect();
        let mut told = self.inner.told.borrow_mut();
        if warnings.is_empty() {
            told.clear();
        } else if told.is_news(&warnings.join("\n")) {
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
        // A classic hub may say anything.
        let said: HeartbeatAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
        let deleted: Vec<_> = said.deleted().collect();
        let mut deleted_before = self.inner.deleted.borrow_mut();
        if deleted.is_empty() {
            deleted_before.clear();
        } else if deleted_before.is_news(&deleted.join(", ")) {
            let names = deleted.join(", ");
            news!(
                warn,
                "rows deleted",
                "the hub",
                "the hub: an admin has deleted {names}: nobody is sent there before this registrar registers again"
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
            let answer = read(CALL, response).await?;
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

    /// A POST of which the status is all that counts.
    async fn accepted(
        &self,
        call: &'static str,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<(), HubError> {
        let answer = self.post(call, path, json(call, body)?).await?;
        if answer.status.is_success() { Ok(()) } else { Err(self.refused(call, &answer)) }
    }

    async fn post(&self, call: &'static str, path: &str, body: Bytes) -> Result<Answer, HubError> {
        self.post_by(&self.inner.control, call, path, body).await
    }

    /// One POST; a refusal that may be about the token reads the credentials again and tries once more.
    async fn post_by(
        &self,
        client: &Client,
        call: &'static str,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, HubError> {
        let url = self.inner.address.route(path);
        let once = || async {
            let sending = self
                .request(client.post(url.as_str()))
                .timeout(CALL_TIMEOUT)
                .insert_header((ACCEPT, "application/json"))
                .content_type("application/json")
                .send_body(body.clone());
            let response = sending.await.map_err(|error| HubError::unsent(call, &error))?;
            read(call, response).await
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

    fn refused(&self, call: &'static str, answer: &Answer) -> HubError {
        let redact = |said| self.inner.token.redact(said);
        let reason = error::message(&answer.body, redact);
        let said = match &answer.redirects_to {
            Some(place) if error::says_something(&answer.body) => {
                format!("{reason}; it redirects to {place}; is that the hub's address?")
            }
            Some(place) => format!("it redirects to {place}; is that the hub's address?"),
            None => reason,
        };
        let (status, retry_after) = (answer.status.as_u16(), answer.retry_after);
        HubError::Status { call, status, message: redact(said), retry_after }
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
        async move { hub.accepted("provider-drain", "_provider-drain", &body).await }.boxed_local()
    }
}

impl std::fmt::Debug for HubClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubClient").field("url", &self.url()).finish_non_exhaustive()
    }
}

fn json(call: &'static str, body: &impl serde::Serialize) -> Result<Bytes, HubError> {
    let odd = |error: serde_json::Error| HubError::Odd { call, reason: error.to_string() };
    serde_json::to_vec(body).map(Bytes::from).map_err(odd)
}

/// Reads an answer to its end, `{}` too: one that is not read costs the connection.
async fn read<S>(call: &'static str, mut response: ClientResponse<S>) -> Result<Answer, HubError>
where
    S: futures_util::Stream<Item = Result<Bytes, awc::error::PayloadError>> + Unpin,
{
    let now = jiff::Timestamp::now();
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| http::retry_after(value, now));
    let status = response.status();
    let redirects_to = status.is_redirection().then(|| error::place(response.headers())).flatten();
    match http::read_body(&mut response, MAX_ANSWER, CALL_TIMEOUT).await {
        Ok(body) => Ok(Answer { status, body, retry_after, redirects_to }),
        // The status says all that a refusal needs; its text is for people.
        Err(_) if !status.is_success() => {
            Ok(Answer { status, body: Bytes::new(), retry_after, redirects_to })
        }
        Err(error) => Err(HubError::Odd { call, reason: error.to_string() }),
    }
}
