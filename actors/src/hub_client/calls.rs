//! The calls of [`HubApi`] over HTTP, and heartbeats over the link.

use std::time::Duration;

use awc::http::StatusCode;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, timeout};
use wire::SessionId;
use wire::register::{Heartbeat, HeartbeatAnswer, RegisterAnswer, RegisterRequest};

use super::response::HubResponse;
use super::{CALL_TIMEOUT, ControlChannel, HubApi, HubClient, HubError, error};
use crate::news::hub_news;
use crate::options::Transport;

impl HubApi for HubClient {
    fn register(&self, request: RegisterRequest) -> LocalBoxFuture<'_, Result<SessionId, HubError>> {
        const CALL: &str = "provider-register";
        async move {
            let answer = self.post_json(CALL, "_provider-register", &request).await?;
            if answer.status != StatusCode::CREATED {
                return Err(self.refused(CALL, &answer));
            }
            let invalid = |reason: &str| HubError::Invalid { call: CALL, reason: reason.to_owned() };
            let answer: RegisterAnswer = serde_json::from_slice(&answer.body)
                .map_err(|_| invalid("the response is not that of a hub"))?;
            self.log_warnings(&answer);
            SessionId::parse(answer.provider_session_id)
                .map_err(|_| invalid("the hub gave no valid session id"))
        }
        .boxed_local()
    }

    fn open_channel(&self, session: SessionId) -> LocalBoxFuture<'_, Result<ControlChannel, HubError>> {
        self.open_transport(session).boxed_local()
    }

    fn next_upgrade(&self) -> Option<Instant> {
        let policy = self.link_policy.borrow();
        policy.paused_until().filter(|_| self.transport == Transport::Auto)
    }

    fn upgrade(&self, session: SessionId) -> LocalBoxFuture<'_, Option<ControlChannel>> {
        async move { self.upgrade_transport(&session).await }.boxed_local()
    }

    fn heartbeat(&self, beat: Heartbeat) -> LocalBoxFuture<'_, Result<(), HubError>> {
        const CALL: &str = "provider-heartbeat";
        async move {
            let invalid =
                |error: serde_json::Error| HubError::Invalid { call: CALL, reason: error.to_string() };
            let body = Bytes::from(serde_json::to_vec(&beat).map_err(invalid)?);
            let answer = match self.beat(CALL, &body).await? {
                Some(answer) => answer,
                None => self.post(&self.control, CALL, "_provider-heartbeat", body).await?,
            };
            // A classic hub may send any body.
            self.log_deletions(&serde_json::from_slice(&answer.body).unwrap_or_default());
            Ok(())
        }
        .boxed_local()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.links.current().round_trip()
    }

    fn has_link_tasks(&self) -> bool {
        self.links.current().has_tasks()
    }

    fn drain(&self, session: SessionId) -> LocalBoxFuture<'_, Result<(), HubError>> {
        let body = Heartbeat { provider_session_id: session.into(), stream_id: None, providers: None };
        async move { self.post_json("provider-drain", "_provider-drain", &body).await.map(|_| ()) }
            .boxed_local()
    }
}

impl HubClient {
    /// Sends a heartbeat as a frame of the link. `None` if it has to be a POST: also after a 401, since only a POST can use
    /// a token that was replaced meanwhile.
    async fn beat(&self, call: &'static str, body: &Bytes) -> Result<Option<HubResponse>, HubError> {
        let Some(answer) = self.links.current().beat(body.clone()) else { return Ok(None) };
        let answer = timeout(CALL_TIMEOUT, answer).await.map_err(|_elapsed| HubError::silent(call))?;
        let beaten = answer.map_err(|_| HubError::Unreachable {
            call,
            reason: "the link broke before the hub answered".to_owned(),
            nothing_taken: false,
        })?;
        let Ok(status) = StatusCode::from_u16(beaten.status) else {
            return Err(HubError::Invalid { call, reason: "the hub gave no HTTP status".to_owned() });
        };
        if status == StatusCode::UNAUTHORIZED {
            return Ok(None);
        }
        let answer =
            HubResponse { status, body: beaten.body, retry_after: None, redirects_to: None, server: None };
        if status.is_success() { Ok(Some(answer)) } else { Err(self.refused(call, &answer)) }
    }

    /// Logs the warnings of an accepted registration, once.
    fn log_warnings(&self, answer: &RegisterAnswer) {
        let redact = |text: &str| error::short(&self.token.redact(text.to_owned()));
        let warnings: Vec<_> = answer.warnings.iter().map(redact).collect();
        let mut logged = self.logged_warnings.borrow_mut();
        if warnings.is_empty() {
            logged.clear();
        } else if logged.is_change(&warnings.join("\n")) {
            for warning in warnings {
                hub_news!(warn, "warnings", "the hub: {warning}");
            }
        }
    }

    /// Logs the rows that an admin has deleted, once.
    fn log_deletions(&self, answer: &HeartbeatAnswer) {
        let names = answer.deleted().collect::<Vec<_>>().join(", ");
        let mut logged = self.logged_deletions.borrow_mut();
        if names.is_empty() {
            logged.clear();
        } else if logged.is_change(&names) {
            hub_news!(
                warn,
                "rows deleted",
                "the hub: an admin has deleted {names}: no calls come there before this registrar registers again"
            );
        }
    }
}
