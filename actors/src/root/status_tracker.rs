//! The state of the connection, for the `status` command. Pure.

use std::time::Duration;

use wire::row::Timestamp;
use wire::{Features, SessionId};

use crate::session::RESTART;
use crate::status::{ChannelState, ChannelStatus, ChannelTransport, LastError, Pause};
use crate::stream::messages::{ChannelLost, ChannelOpened};

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
    /// Since when the channel is open.
    open_since: Option<Timestamp>,
    /// When the hub told that it shuts down. It is taken to restart.
    restarts_since: Option<Timestamp>,
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
            open_since: None,
            restarts_since: None,
        }
    }

    /// Records that the channel is open, or, with `hello`, that its features are known.
    pub(super) fn opened(&mut self, channel: ChannelOpened, now: Timestamp) {
        self.features = channel.features;
        self.transport = Some(channel.transport);
        self.restarts_since = None;
        if !channel.hello {
            self.opened += 1;
            self.open_since = Some(now);
        }
        self.become_state(ChannelState::Connected, now);
    }

    /// Records that the hub shuts down. The channel stays open for its tasks.
    pub(super) fn restarts(&mut self, now: Timestamp) {
        self.restarts_since = Some(now);
        self.become_state(ChannelState::Restarting, now);
    }

    /// Records that the channel was lost, or did not open. While the hub restarts that is no failure.
    pub(super) fn lost(&mut self, lost: ChannelLost, now: Timestamp) {
        self.open_since = None;
        if lost.restart.is_some() {
            self.restarts_since = Some(now);
        }
        let limit = u64::try_from(RESTART.as_millis()).unwrap_or(u64::MAX);
        let restarts = self.restarts_since.is_some_and(|since| now.millis_since(since) < limit);
        if lost.refused || !restarts {
            self.restarts_since = None;
            self.failed(lost.reason, lost.refused, now);
        }
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

    /// The channel, with the last round trip of its link.
    pub(super) fn channel(&self, round_trip: Option<Duration>) -> ChannelStatus {
        ChannelStatus {
            state: self.state,
            since: self.since,
            features: self.features.names().map(str::to_owned).collect(),
            opened: self.opened,
            transport: self.transport.clone(),
            open_since: self.open_since,
            round_trip_ms: round_trip.map(|took| took.as_secs_f64() * 1000.0),
        }
    }
}
