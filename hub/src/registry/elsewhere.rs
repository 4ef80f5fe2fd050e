//! Sessions whose channel is at another hub, and their rows. Tasks for them go over that hub (`cluster/relay.rs`).

use std::time::Duration;

use wire::row::Status;

use super::pick::ARRIVAL;
use super::session::{ControlChannel, Session};
use super::{Registry, Target};
use crate::clock::Now;
use crate::model::Caller;
use crate::store::Change;

impl Session {
    /// Whether its channel belongs to another hub than `hub`.
    pub(super) fn is_of_other(&self, hub: Option<&str>) -> bool {
        hub.is_some() && self.record.hub.as_deref() != hub
    }
}

impl Registry {
    /// Whether the channel of the session `id` belongs to another hub.
    pub(super) fn is_elsewhere(&self, id: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.is_of_other(self.hub.as_deref()))
    }

    /// Whether the channel of the session `id` is open at this hub.
    pub fn has_channel(&self, id: &str) -> bool {
        self.sessions.get(id).is_some_and(Session::is_open)
    }

    /// The hub to which the channel of the session `id` belongs.
    pub fn hub_of(&self, id: &str) -> Option<&str> {
        self.sessions.get(id)?.record.hub.as_deref()
    }

    /// The hub to which the channel of `caller`'s session belongs.
    pub fn hub_of_session(&self, caller: &Caller, id: &str) -> Option<&str> {
        let session = self.sessions.get(id).filter(|session| session.record.owner == caller.user)?;
        session.record.hub.as_deref()
    }

    /// Whether the session `id` went to another hub, or came from one, within `grace`.
    pub fn has_moved(&self, id: &str, now: Now, grace: Duration) -> bool {
        let moved_at = self.sessions.get(id).and_then(|session| session.moved_at);
        moved_at.is_some_and(|at| now.mono.saturating_sub(at) < grace)
    }

    /// Makes this hub the one of `caller`'s session: its channel opens here.
    pub fn adopt(&mut self, caller: &Caller, id: &str, now: Now) -> Vec<Change> {
        let hub = self.hub.clone();
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        if session.record.owner != caller.user || session.record.hub == hub {
            return Vec::new();
        }
        session.record.hub = hub;
        (session.told, session.channel, session.settled) = (None, ControlChannel::None, false);
        (session.last_heartbeat, session.moved_at) = (now.mono, Some(now.mono));
        let change = Change::PutSession(session.record.clone());
        self.mark_session_changed(id);
        self.check_session_at(id, now.mono + self.heartbeat_timeout);
        // As after a registration: the channel is about to open, and callers wait for it.
        let _ = self.update_session_entries(id, |_, entry| {
            *entry.inactive_at = now.mono;
            entry.set_status(entry.restored_status, now);
            // Others, who take it for inactive meanwhile, are told of it in any case.
            true
        });
        vec![change]
    }

    /// Notes that the registrar of the session `id` is told on the channel `stream` to connect again: calls wait for its next channel.
    pub fn await_return(&mut self, id: &str, stream: &str, now: Now) {
        let is_its = |session: &&mut Session| matches!(&session.channel, ControlChannel::Open { stream: open, .. } if open == stream);
        if let Some(session) = self.sessions.get_mut(id).filter(is_its) {
            (session.is_returning, session.moved_at) = (true, Some(now.mono));
            self.mark_session_changed(id);
        }
    }

    /// Makes the rows of the other hub `hub` inactive: it is dead, or out of reach.
    pub fn hub_left(&mut self, hub: &str, now: Now) {
        let of_hub = |session: &&Session| session.record.hub.as_deref() == Some(hub);
        let left: Vec<String> =
            self.sessions.values().filter(of_hub).map(|session| session.record.id.clone()).collect();
        for id in left {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.told = None;
                // Another session may have its rows when its publisher had the time to return.
                (session.last_heartbeat, session.moved_at) = (now.mono, Some(now.mono));
            }
            self.deactivate_session(&id, now);
        }
    }

    /// Whether a call of `caller` for `target` has to wait, at most for `grace`: the channel of its publisher is about to open at
    /// some hub.
    pub fn is_moving(&self, caller: &Caller, target: &Target, now: Now, grace: Duration) -> bool {
        let since = |at: Duration| now.mono.saturating_sub(at);
        let has_moved = |session: &Session| session.moved_at.is_some_and(|at| since(at) < grace);
        let rows = self.reachable_rows(caller, target).into_iter().filter_map(|name| self.llms.get(name));
        rows.filter(|entry| entry.llm.registered)
            .filter_map(|entry| Some((entry, self.session_of(entry)?)))
            .any(|(entry, session)| match &session.told {
                Some(told) if told.is_leaving() => since(session.told_at) < grace,
                Some(told) if told.is_connected() => false,
                Some(_) if has_moved(session) => true,
                Some(_) => entry.llm.status != Status::Inactive && since(session.told_at) < ARRIVAL,
                None => !session.is_open() && has_moved(session),
            })
    }
}
