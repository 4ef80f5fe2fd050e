//! The state of the connection, for the `status` command. Pure.

use wire::row::Timestamp;
use wire::{Features, SessionId};

use crate::status::{ChannelState, ChannelStatus, ChannelTransport, LastError, Pause};
use crate::stream::messages::ChannelOpened;

#[derive(Debug)]
pub(super) struct StatusTracker {
    pub(super) session: Option<SessionId>,
    pub(super) features: Features,
    pub(super) last_heartbeat_at: Option<Timestamp>,
    pub(super) last_error: Option<LastError>,
    pub(super) pause: Option<Pause>,
    pub(super) started_at: Timestamp,
    state: ChannelState,
    since: Timestamp,
    opened: u64,
    transport: Option<ChannelTransport>,
}

impl StatusTracker {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            session: None,
            features: Features::CLASSIC,
            last_heartbeat_at: None,
            last_error: None,
            pause: None,
            started_at: now,
            state: ChannelState::Connecting,
            since: now,
            opened: 0,
            transport: None,
        }
    }

    /// Records that the channel is open, or, with `hello`, that its features are known.
    pub(super) fn opened(&mut self, channel: ChannelOpened, now: Timestamp) {
        self.features = channel.features;
        self.transport = Some(channel.transport);
        if !channel.hello {
            self.opened += 1;
        }
        self.become_state(ChannelState::Connected, now);
    }

    /// Records that the channel or the registration failed.
    pub(super) fn failed(&mut self, reason: String, refused: bool, now: Timestamp) {
        self.features = Features::CLASSIC;
        self.become_state(if refused { ChannelState::Refused } else { ChannelState::Connecting }, now);
        self.error(reason, now);
    }

    /// Records an error, unless it repeats the last one.
    pub(super) fn error(&mut self, message: String, now: Timestamp) {
        if self.last_error.as_ref().is_none_or(|last| last.message != message) {
            self.last_error = Some(LastError { message, at: now });
        }
    }

    /// Changes the state, unless the registrar drains.
    pub(super) fn become_state(&mut self, state: ChannelState, now: Timestamp) {
        if self.state != state && self.state != ChannelState::Draining {
            self.state = state;
            self.since = now;
        }
    }

    pub(super) fn leave_idle(&mut self, now: Timestamp) {
        if self.state == ChannelState::Idle {
            self.become_state(ChannelState::Connecting, now);
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.state == ChannelState::Connected
    }

    pub(super) fn channel(&self) -> ChannelStatus {
        ChannelStatus {
            state: self.state,
            since: self.since,
            features: self.features.names().map(str::to_owned).collect(),
            opened: self.opened,
            transport: self.transport.clone(),
        }
    }
}
