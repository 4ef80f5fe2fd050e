//! A session's control channel: open, close, drain.

use wire::Features;

use super::{ControlChannel, Registry, UnknownSession};
use crate::clock::Now;
use crate::model::Caller;
use crate::store::Change;

/// A channel that was opened.
#[derive(Debug)]
pub struct OpenedChannel {
    /// Changes to store without waiting for the commit.
    pub changes: Vec<Change>,
    /// Stream id of the channel that this one replaces.
    pub replaced: Option<String>,
    /// Whether the session had a channel before.
    pub again: bool,
}

impl Registry {
    /// Opens the session's channel: counts as a heartbeat, restores its rows, replaces an older channel (section 3.6).
    pub fn open(
        &mut self,
        caller: &Caller,
        id: &str,
        stream: String,
        features: Features,
        now: Now,
    ) -> Result<OpenedChannel, UnknownSession> {
        let session = self.own_session(caller, id)?;
        let replaced =
            match std::mem::replace(&mut session.channel, ControlChannel::Open { stream, features }) {
                ControlChannel::Open { stream, .. } => Some(stream),
                ControlChannel::None | ControlChannel::Closed { .. } => None,
            };
        let again = std::mem::replace(&mut session.had_channel, true);
        session.draining = false;
        session.silent = false;
        session.settled = false;
        self.mark_session_changed(id);
        Ok(OpenedChannel { changes: self.record_heartbeat(id, now), replaced, again })
    }

    /// Closes the channel `stream`: the session's rows become inactive at once (section 3.6).
    ///
    /// Returns `None` for a channel that was replaced: its late close changes nothing.
    pub fn close(&mut self, id: &str, stream: &str, now: Now) -> Option<Vec<Change>> {
        let session = self.sessions.get_mut(id)?;
        match &session.channel {
            ControlChannel::Open { stream: open, .. } if open == stream => (),
            _ => return None,
        }
        session.channel = ControlChannel::Closed { at: now.mono };
        if session.is_empty() {
            let at = session.last_heartbeat + self.retention;
            self.check_session_at(id, at);
        }
        Some(self.deactivate_session(id, now))
    }

    /// Whether the session is still away as it was at `since`, when its channel closed or its heartbeat timed out.
    pub fn is_away_since(&self, id: &str, since: Now) -> bool {
        self.sessions.get(id).is_none_or(|session| match session.channel {
            ControlChannel::Closed { at } => at == since.mono,
            ControlChannel::Open { .. } | ControlChannel::None => {
                session.silent && session.last_heartbeat < since.mono
            }
        })
    }

    /// Drains the session: it gets no new task, and its rows become inactive after the last one (section 4, `drain`).
    pub fn drain(&mut self, caller: &Caller, id: &str, now: Now) -> Result<Vec<Change>, UnknownSession> {
        self.own_session(caller, id)?.draining = true;
        self.mark_session_changed(id);
        Ok(self.finish_drain(id, now))
    }

    /// Deactivates a draining session that has no task left.
    pub(in crate::registry) fn finish_drain(&mut self, id: &str, now: Now) -> Vec<Change> {
        let Some(session) = self.sessions.get(id) else { return Vec::new() };
        // Evaluated for draining sessions only, since the end of every call comes here.
        let is_busy = || session.llms.iter().any(|name| self.in_flight(name) > 0);
        if session.draining && !is_busy() { self.deactivate_session(id, now) } else { Vec::new() }
    }
}
