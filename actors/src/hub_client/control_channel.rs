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

impl HubClient {
    /// Opens a channel of `session`.
    pub(super) async fn open_transport(&self, session: SessionId) -> Result<ControlChannel, HubError> {
        let pause = match self.transport {
            Transport::Auto => self.link_policy.borrow().pause(Instant::now()),
            Transport::Link => None,
            Transport::Classic => Some("--transport is classic".to_owned()),
        };
        let no_link = match pause {
            Some(reason) => reason,
            None => match self.try_link(&session).await? {
                Ok(channel) => return Ok(channel),
                Err(reason) if self.transport == Transport::Link || self.may_restart(&reason) => {
                    return Err(HubError::Invalid { call: STREAM_CALL, reason });
                }
                Err(reason) => reason,
            },
        };
        let body = self.open_events(&session).await?;
        self.links.opened().reset();
        self.link_policy.borrow_mut().refused(no_link.clone(), Instant::now());
        Ok(ControlChannel::Events { body, no_link })
    }

    /// Whether `reason` may be that of a hub that restarts, or of the proxy before it.
    fn may_restart(&self, reason: &str) -> bool {
        reason != NOT_UPGRADED && self.link_policy.borrow().is_restarting(Instant::now())
    }

    /// Opens a link, or the SSE channel if the hub ignores the upgrade. `Err` has the reason why only the same request
    /// without an upgrade can succeed.
    async fn try_link(&self, session: &SessionId) -> Result<Result<ControlChannel, String>, HubError> {
        let used = self.token.current();
        let mut opened = self.open_link(session).await?;
        if let Opened::Response(response) = &opened
            && self.token.read_again(response.status, &used).await
        {
            opened = self.open_link(session).await?;
        }
        Ok(match opened {
            Opened::NotUpgraded => Err(NOT_UPGRADED.to_owned()),
            Opened::Events(_) if self.transport == Transport::Link => Err(NOT_UPGRADED.to_owned()),
            Opened::Link { connection, input } => {
                let policy = Rc::clone(&self.link_policy);
                Ok(ControlChannel::Link(LinkChannel::new(self.links.opened(), connection, input, policy)))
            }
            Opened::Events(body) => {
                self.links.opened().reset();
                Ok(ControlChannel::Events { body, no_link: NOT_UPGRADED.to_owned() })
            }
            Opened::Response(response) if BLOCKED.contains(&response.status.as_u16()) => {
                Err(format!("an upgrade is answered with HTTP {}", response.status.as_u16()))
            }
            Opened::Response(response) => return Err(self.refused(STREAM_CALL, &response)),
            Opened::Broken(error) => Err(format!("an upgrade breaks off: {}", connect_reason(&error))),
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
