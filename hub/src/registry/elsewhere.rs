//! Sessions whose channel is at another hub, and their rows. A hub never sends tasks to such a row by itself.

use std::time::Duration;

use wire::row::{Kind, Status};
use wire::task::Endpoint;

use super::entry::LlmEntry;
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

    /// The hub to which the channel of `caller`'s session belongs.
    pub fn hub_of_session(&self, caller: &Caller, id: &str) -> Option<&str> {
        let session = self.sessions.get(id).filter(|session| session.record.owner == caller.user)?;
        session.record.hub.as_deref()
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
            entry.set_status(entry.restored_status, now)
        });
        vec![change]
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

    /// The hub that a call of `caller` for `target` is passed on to: one whose publisher can take it now, if none of this hub's
    /// can. `is_there` tells which hubs can be asked.
    pub fn elsewhere(
        &self,
        caller: &Caller,
        target: &Target,
        endpoint: Endpoint,
        is_there: impl Fn(&str) -> bool,
    ) -> Option<&str> {
        let mut best: Option<(&LlmEntry, &str)> = None;
        let mut is_served_here = false;
        let names = self.reachable_rows(caller, target);
        self.count_examined(names.len());
        for name in names {
            let Some(entry) = self.llms.get(name) else { continue };
            if !target.allows_owner(&entry.llm) {
                continue;
            }
            if self.is_routable(entry) {
                if !entry.is_full() {
                    return None;
                }
                is_served_here = true;
            }
            let Some(hub) = self.routable_elsewhere(entry, endpoint).filter(|hub| is_there(hub)) else {
                continue;
            };
            if best.is_none_or(|(best, _)| entry.cmp_preference(best).is_lt()) {
                best = Some((entry, hub));
            }
        }
        best.filter(|(entry, _)| !is_served_here || !entry.is_full()).map(|(_, hub)| hub)
    }

    /// Whether a call of `caller` for `target` has to wait, at most for `grace`: the channel of its publisher is about to open at
    /// some hub, or its hub is out of reach.
    pub fn is_moving(&self, caller: &Caller, target: &Target, now: Now, grace: Duration) -> bool {
        let since = |at: Duration| now.mono.saturating_sub(at);
        let rows = self.reachable_rows(caller, target).into_iter().filter_map(|name| self.llms.get(name));
        rows.filter(|entry| entry.llm.registered)
            .filter_map(|entry| Some((entry, self.session_of(entry)?)))
            .any(|(entry, session)| match &session.told {
                // Its channel was just told to be open, but its hub cannot be asked; else the call were passed on.
                Some(told) if told.is_connected() => {
                    !told.is_draining() && entry.llm.status != Status::Inactive
                }
                Some(_) => entry.llm.status != Status::Inactive && since(session.told_at) < ARRIVAL,
                None => !session.is_open() && session.moved_at.is_some_and(|at| since(at) < grace),
            })
    }

    /// Whether a publisher of this hub can take a call of `caller` for `target`.
    pub fn is_served_here(&self, caller: &Caller, target: &Target) -> bool {
        let rows = self.reachable_rows(caller, target);
        rows.into_iter().filter_map(|name| self.llms.get(name)).any(|entry| self.is_routable(entry))
    }

    /// The other hub that has a channel on which the row takes tasks.
    fn routable_elsewhere(&self, entry: &LlmEntry, endpoint: Endpoint) -> Option<&str> {
        let session = self.session_of(entry).filter(|session| session.is_of_other(self.hub.as_deref()))?;
        let told = session.told.as_ref()?;
        let is_live = entry.llm.kind == Kind::Virtual
            && entry.llm.registered
            && entry.llm.status != Status::Inactive
            && told.takes_tasks();
        let serves = endpoint == Endpoint::ChatCompletions
            || endpoint.is_count()
            || told.features().has(wire::features::Feature::Endpoints);
        session.record.hub.as_deref().filter(|_| is_live && serves)
    }
}
