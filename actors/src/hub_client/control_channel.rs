//! Opens the control channel: a link, or SSE where the hub or the way to it allows no link (SPEC.md section 4.1).

use std::rc::Rc;

use awc::http::StatusCode;
use awc::http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use futures_util::StreamExt;
use futures_util::future::ready;
use tokio::time::Instant;
use wire::features::{FEATURES_HEADER, SESSION_HEADER};
use wire::{Features, SessionId};

use super::link::{LinkChannel, Opened};
use super::response::HubResponse;
use super::{ChannelBody, HubClient, HubError};
use crate::options::Transport;
use crate::tls_reason::connect_reason;

pub(super) const STREAM_CALL: &str = "provider-stream";

/// Statuses with which proxies answer an upgrade that they do not support.
pub(super) const BLOCKED: [u16; 6] = [400, 403, 405, 426, 501, 502];

/// The one of them with which proxies also answer while the hub restarts.
const HUB_AWAY: u16 = 502;

const NOT_UPGRADED: &str = "the hub, or a proxy before it, does not upgrade to WebSocket";

/// An open control channel.
#[derive(Debug)]
pub(crate) enum ControlChannel {
    /// SSE from a classic hub, or through a proxy that lets no WebSocket through.
    Events {
        body: ChannelBody,
        /// Why it is not a link.
        no_link: String,
    },
    /// A link, which carries answers too.
    Link(LinkChannel),
}

/// Why only the same request without an upgrade can succeed.
struct NoLink {
    reason: String,
    /// Whether a hub or a proxy that restarts is a reason as well.
    may_pass: bool,
}

impl NoLink {
    fn temporary(reason: String) -> Self {
        Self { reason, may_pass: true }
    }

    fn permanent(reason: String) -> Self {
        Self { reason, may_pass: false }
    }
}

impl HubClient {
    /// Opens a channel of `session`.
    pub(super) async fn open_transport(&self, session: SessionId) -> Result<ControlChannel, HubError> {
        let pause = match self.transport {
            Transport::Auto => self.link_policy.borrow().pause(Instant::now()),
            Transport::Link => None,
            Transport::Classic => Some("--transport is classic".to_owned()),
        };
        let mut failed = None;
        let no_link = match pause {
            Some(reason) => reason,
            None => match self.try_link(&session).await? {
                Ok(channel) => return Ok(channel),
                Err(NoLink { reason, .. })
                    if self.transport == Transport::Link || self.may_restart(&reason) =>
                {
                    return Err(HubError::Invalid { call: STREAM_CALL, reason });
                }
                Err(no_link) => failed.insert(no_link).reason.clone(),
            },
        };
        let body = self.open_events(&session).await?;
        self.links.opened().reset();
        if let Some(failed) = &failed {
            self.note(failed);
        }
        Ok(ControlChannel::Events { body, no_link })
    }

    /// Opens a link in place of an open SSE channel of `session`; `None` if there is no way for one.
    pub(super) async fn upgrade_transport(&self, session: &SessionId) -> Option<ControlChannel> {
        match self.try_link(session).await.ok()? {
            Ok(channel) => {
                if let ControlChannel::Events { no_link, .. } = &channel {
                    self.note(&NoLink::permanent(no_link.clone()));
                }
                Some(channel)
            }
            Err(no_link) => {
                if !self.may_restart(&no_link.reason) {
                    self.note(&no_link);
                }
                None
            }
        }
    }

    fn note(&self, no_link: &NoLink) {
        let (mut policy, reason) = (self.link_policy.borrow_mut(), no_link.reason.clone());
        if no_link.may_pass {
            policy.failed(reason, Instant::now());
        } else {
            policy.refused(reason, Instant::now());
        }
    }

    /// Whether `reason` may be that of a hub that restarts, or of the proxy before it.
    fn may_restart(&self, reason: &str) -> bool {
        reason != NOT_UPGRADED && self.link_policy.borrow().is_restarting(Instant::now())
    }

    /// Opens a link, or the SSE channel if the hub ignores the upgrade.
    async fn try_link(&self, session: &SessionId) -> Result<Result<ControlChannel, NoLink>, HubError> {
        let used = self.token.current();
        let mut opened = self.open_link(session).await?;
        if let Opened::Response(response) = &opened
            && self.token.read_again(response.status, &used).await
        {
            opened = self.open_link(session).await?;
        }
        Ok(match opened {
            Opened::NotUpgraded => Err(NoLink::permanent(NOT_UPGRADED.to_owned())),
            Opened::Events(_) if self.transport == Transport::Link => {
                Err(NoLink::permanent(NOT_UPGRADED.to_owned()))
            }
            Opened::Link { connection, input } => {
                let policy = Rc::clone(&self.link_policy);
                Ok(ControlChannel::Link(LinkChannel::new(self.links.opened(), connection, input, policy)))
            }
            Opened::Events(body) => {
                self.links.opened().reset();
                Ok(ControlChannel::Events { body, no_link: NOT_UPGRADED.to_owned() })
            }
            Opened::Response(response) if BLOCKED.contains(&response.status.as_u16()) => {
                let status = response.status.as_u16();
                let reason = format!("an upgrade is answered with HTTP {status}");
                Err(NoLink { reason, may_pass: status == HUB_AWAY })
            }
            Opened::Response(response) => return Err(self.refused(STREAM_CALL, &response)),
            Opened::Broken(error) => {
                Err(NoLink::temporary(format!("an upgrade breaks off: {}", connect_reason(&error))))
            }
        })
    }

    /// Opens the SSE channel.
    async fn open_events(&self, session: &SessionId) -> Result<ChannelBody, HubError> {
        let request = || {
            self.authorized(self.control.get(self.address.route("_provider-stream")))
                .insert_header((ACCEPT, "text/event-stream"))
                .insert_header((ACCEPT_ENCODING, "identity"))
                .insert_header((SESSION_HEADER, session.as_str()))
                .insert_header((FEATURES_HEADER, Features::ALL.header_value()))
                .no_decompress()
        };
        let used = self.token.current();
        let unsent = |error| self.through_proxy(HubError::unsent(STREAM_CALL, &error));
        let mut response = request().send().await.map_err(unsent)?;
        if self.token.read_again(response.status(), &used).await {
            response = request().send().await.map_err(unsent)?;
        }
        if response.status() != StatusCode::OK {
            let answer = HubResponse::read(STREAM_CALL, response).await?;
            return Err(self.refused(STREAM_CALL, &answer));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        // Ends with the connection, also if that fails.
        let body = response.scan((), |(), bytes| ready(bytes.ok()));
        ChannelBody::new(STREAM_CALL, kind.as_deref(), body)
    }
}
