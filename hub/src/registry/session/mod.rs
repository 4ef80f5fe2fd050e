//! Sessions of publishers: their state, their channel and what their owner reads of them (SPEC.md section 3.6).
//!
//! [`channel`] has their channel and their heartbeats, [`sweep`](super::sweep) their end.

mod channel;
mod view;

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use wire::Features;
use wire::row::{Timestamp, Visibility};

pub use channel::HeartbeatRefusal;
pub use view::SessionView;

use super::Registry;
use super::entry::ExpiryKey;
use super::entry::Lifecycle;
use super::feed::FeedKey;
use crate::clock::Now;
use crate::model::{Caller, Llm, SessionRecord};
use crate::registry::told::ToldSession;
use crate::store::Change;

/// A timeout has passed when more than its time has passed.
pub(super) const MOMENT: Duration = Duration::from_nanos(1);

/// The session does not exist, or belongs to another user: both look the same to a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSession;

/// A publisher's session.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all combinations occur")]
pub(super) struct Session {
    pub(super) record: SessionRecord,
    /// Monotonic time of the last heartbeat.
    pub(super) last_heartbeat: Duration,
    pub(super) channel: ControlChannel,
    /// Version of the last change in [`ChangeFeed`](super::feed::ChangeFeed).
    pub(super) version: u64,
    /// Next check by [`ExpiryIndex`](super::entry::ExpiryIndex).
    pub(super) due: Option<Duration>,
    /// Whether the last heartbeat waits to be stored.
    pub(super) unsaved: bool,
    /// Whether the next heartbeat changes none of its rows and agents.
    pub(super) settled: bool,
    /// Whether the heartbeat timed out: treated as a closed channel until the next heartbeat.
    pub(super) silent: bool,
    /// What the hub of its channel tells of it, if that is another one.
    pub(super) told: Option<ToldSession>,
    /// When that was told.
    pub(super) told_at: Duration,
    /// When it last moved to another hub or lost its hub, or when this hub of several learnt of it.
    pub(super) moved_at: Option<Duration>,
    /// Whether its registrar was told to connect again, and has not yet.
    pub(super) is_returning: bool,
    /// Whether it takes no more tasks (SPEC.md section 4, `drain`).
    pub(super) draining: bool,
    /// Whether a channel was open since the hub started.
    pub(super) had_channel: bool,
    /// Rows and agents that its last register call named: at most [`MAX_ENTRIES`](super::MAX_ENTRIES) each.
    pub(super) llms: BTreeSet<String>,
    pub(super) agents: BTreeSet<String>,
    /// Rows and agents that only earlier register calls named: inactive until they are deleted. There may be thousands, so
    /// no event of the session visits them.
    pub(super) dropped_llms: HashSet<String>,
    pub(super) dropped_agents: HashSet<String>,
    /// Dropped rows and agents whose time to be deleted came while the channel was open.
    pub(super) overdue: BTreeSet<ExpiryKey>,
    /// Rows and agents that an admin deleted since the session registered them.
    pub(super) deleted: BTreeSet<String>,
}

/// A session's control channel.
pub(super) enum ControlChannel {
    /// Not opened since the session registered, or since the hub started.
    None,
    /// Open: the newest one.
    Open { stream: String, features: Features },
    /// Closed at this time, which identifies the closing for the reattach grace.
    Closed { at: Duration },
}

impl Session {
    pub(super) fn new(record: SessionRecord, now: Now) -> Self {
        // A hub that has just started does not know yet where the channels are.
        let moved_at = record.hub.is_some().then_some(now.mono);
        Self {
            record,
            last_heartbeat: now.mono,
            version: 0,
            due: None,
            unsaved: false,
            settled: false,
            channel: ControlChannel::None,
            silent: false,
            told: None,
            told_at: Duration::ZERO,
            moved_at,
            is_returning: false,
            draining: false,
            had_channel: false,
            llms: BTreeSet::new(),
            agents: BTreeSet::new(),
            dropped_llms: HashSet::new(),
            dropped_agents: HashSet::new(),
            overdue: BTreeSet::new(),
            deleted: BTreeSet::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.channel, ControlChannel::Open { .. })
    }

    /// Whether tasks may be sent to it.
    pub(super) fn takes_tasks(&self) -> bool {
        match &self.told {
            // A hub that shuts down sends no new task: its publishers go to another one.
            Some(told) => told.takes_tasks() && !told.is_leaving(),
            None => self.is_open() && !self.silent && !self.draining,
        }
    }

    /// Whether it has no row and no agent, also none that it dropped.
    pub(super) fn is_empty(&self) -> bool {
        self.llms.is_empty()
            && self.agents.is_empty()
            && self.dropped_llms.is_empty()
            && self.dropped_agents.is_empty()
    }

    /// Adds the row `name`; `registered` is as in [`Llm::registered`].
    pub(super) fn insert_llm(&mut self, name: &str, registered: bool) {
        self.remove_llm(name);
        if registered {
            self.llms.insert(name.to_owned());
        } else {
            self.dropped_llms.insert(name.to_owned());
        }
    }

    /// Adds the agent `name`; `registered` is as in [`Agent::registered`](crate::model::Agent::registered).
    pub(super) fn insert_agent(&mut self, name: &str, registered: bool) {
        self.remove_agent(name);
        if registered {
            self.agents.insert(name.to_owned());
        } else {
            self.dropped_agents.insert(name.to_owned());
        }
    }

    pub(super) fn remove_llm(&mut self, name: &str) {
        self.llms.remove(name);
        if self.dropped_llms.remove(name) {
            self.overdue.remove(&ExpiryKey::Llm(name.into()));
        }
    }

    pub(super) fn remove_agent(&mut self, name: &str) {
        self.agents.remove(name);
        if self.dropped_agents.remove(name) {
            self.overdue.remove(&ExpiryKey::Agent(name.into()));
        }
    }

    /// Features negotiated on its channel; none without a channel.
    pub(super) fn features(&self) -> Features {
        match (&self.told, &self.channel) {
            (Some(told), _) => told.features(),
            (None, ControlChannel::Open { features, .. }) => *features,
            (None, ControlChannel::None | ControlChannel::Closed { .. }) => Features::CLASSIC,
        }
    }
}

impl Registry {
    pub(super) fn insert_session(&mut self, session: Session) {
        let id = session.record.id.clone();
        self.update_usage(&session.record.owner, |usage| usage.sessions += 1);
        self.sessions_by_age.insert((session.record.created_at, id.as_str().into()), &session.record.owner);
        let at = session.last_heartbeat + self.heartbeat_timeout.min(self.retention);
        self.sessions.insert(id.clone(), session);
        self.mark_session_changed(&id);
        self.check_session_at(&id, at);
    }

    pub(super) fn remove_session(&mut self, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        let owner = &session.record.owner;
        self.expiry.remove(session.due, ExpiryKey::Session(id.into()));
        self.feed.remove(session.version, Visibility::Private, owner);
        self.sessions_by_age.remove(&(session.record.created_at, id.into()), owner);
        self.update_usage(owner, |usage| usage.sessions -= 1);
    }

    /// Schedules the session's next expiry check at `at` at the latest.
    pub(super) fn check_session_at(&mut self, id: &str, at: Duration) {
        if let Some(session) = self.sessions.get_mut(id) {
            self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        }
    }

    /// Notes that the session lost a row or an agent: without any it may expire.
    pub(super) fn expire_empty_session(&mut self, session: Option<&str>) {
        let Some(id) = session else { return };
        self.mark_session_changed(id);
        if self.sessions.get(id).is_some_and(Session::is_empty) {
            self.check_session_at(id, Duration::ZERO);
        }
    }

    /// Applies `change` to the session's registered rows and agents, and returns the writes of those for which it returned true.
    /// Inactive ones are scheduled for deletion.
    pub(super) fn update_session_entries(
        &mut self,
        id: &str,
        mut change: impl FnMut(EntryName<'_>, &mut Lifecycle<'_>) -> bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let Some(session) = self.sessions.get(id) else { return changes };
        for name in &session.llms {
            let Some(entry) = self.llms.get_mut(name) else { continue };
            if change(EntryName::Llm(name), &mut entry.lifecycle()) {
                changes.push(entry.put());
                self.feed.change(&mut entry.version, || FeedKey::Llm(name.as_str().into()));
            }
            let key = || ExpiryKey::Llm(name.as_str().into());
            entry.lifecycle().schedule_expiry(&mut self.expiry, self.retention, key);
        }
        for name in &session.agents {
            let Some(entry) = self.agents.get_mut(name) else { continue };
            if change(EntryName::Agent(name), &mut entry.lifecycle()) {
                changes.push(entry.put());
            }
            let key = || ExpiryKey::Agent(name.as_str().into());
            entry.lifecycle().schedule_expiry(&mut self.expiry, self.retention, key);
        }
        changes
    }

    /// The session `id`, if it is `caller`'s.
    fn own_session(&mut self, caller: &Caller, id: &str) -> Result<&mut Session, UnknownSession> {
        self.sessions.get_mut(id).filter(|session| session.record.owner == caller.user).ok_or(UnknownSession)
    }

    /// Whether the session `id` is `caller`'s.
    pub fn owns_session(&self, caller: &Caller, id: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.record.owner == caller.user)
    }

    /// Names of the session's rows and agents that an admin deleted since it registered them.
    pub fn deleted_by_admin(&self, id: &str) -> Vec<String> {
        self.sessions.get(id).map_or(Vec::new(), |session| session.deleted.iter().cloned().collect())
    }

    /// Number of rows and agents that `caller`'s session `id` has registered; 0 without a session of `caller`.
    pub fn registered_entries(&self, caller: &Caller, id: Option<&str>) -> usize {
        let session = id.and_then(|id| self.sessions.get(id));
        let own = session.filter(|session| session.record.owner == caller.user);
        own.map_or(0, |session| session.llms.len() + session.agents.len())
    }

    /// Names of the session's registered rows.
    pub fn session_llms(&self, id: &str) -> Vec<String> {
        self.sessions.get(id).map_or(Vec::new(), |session| session.llms.iter().cloned().collect())
    }

    /// Names of the session's registered agents.
    pub fn session_agents(&self, id: &str) -> Vec<String> {
        self.sessions.get(id).map_or(Vec::new(), |session| session.agents.iter().cloned().collect())
    }

    /// Wall-clock time of the last heartbeat of a row's session; for a row that the session dropped, the last before that.
    pub fn last_heartbeat(&self, llm: &Llm) -> Option<Timestamp> {
        self.session_heartbeat(llm.session.as_ref(), llm.registered).or(llm.last_heartbeat_at)
    }

    /// Wall-clock time of the last heartbeat of `session`, for an entry that is `registered` with it.
    pub(super) fn session_heartbeat(&self, session: Option<&String>, registered: bool) -> Option<Timestamp> {
        let session = session.filter(|_| registered).and_then(|id| self.sessions.get(id))?;
        Some(session.record.last_heartbeat_at)
    }
}

/// A row or an agent of a session.
pub(super) enum EntryName<'a> {
    Llm(&'a str),
    Agent(&'a str),
}
