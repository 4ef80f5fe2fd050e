//! What hubs tell each other of the sessions whose channels they have, and of their rows: what changes all the time, and is
//! not stored.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wire::Features;
use wire::row::{Status, Timestamp};

use super::Registry;
use super::entry::ProviderReport;
use super::feed::FeedKey;
use crate::clock::Now;

/// Most rows and sessions that are told at once: some 60 KB.
const MOST: usize = 256;

/// Most reports that wait for the store's news of what they are about.
const MOST_EARLY: usize = 64;
/// Time for which they wait.
const EARLY_FOR: Duration = Duration::from_secs(10);

/// A report about what is not known yet.
pub(super) struct EarlyTold {
    hub: String,
    at: Duration,
    told: Told,
}

/// What a hub tells others of the sessions whose channels it has, and of their rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub rows: Vec<ToldRow>,
    pub sessions: Vec<ToldSession>,
}

/// The state of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldRow {
    name: String,
    session: String,
    status: Status,
    inactive_since: Option<Timestamp>,
    last_heartbeat_at: Option<Timestamp>,
    busy: u32,
    capacity: Option<u32>,
    paused: bool,
    paused_until: Option<Timestamp>,
}

/// The state of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldSession {
    id: String,
    is_connected: bool,
    is_draining: bool,
    /// Whether its hub shuts down, or told the registrar to connect again: its channel is about to open, mostly at another hub.
    #[serde(default)]
    is_leaving: bool,
    features: String,
    last_heartbeat_at: Timestamp,
}

impl ToldSession {
    pub(super) fn features(&self) -> Features {
        Features::parse(&self.features)
    }

    pub(super) fn status(&self) -> &'static str {
        match (self.is_connected, self.is_draining) {
            (true, true) => "draining",
            (true, false) => "connected",
            (false, _) => "away",
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    pub(super) fn takes_tasks(&self) -> bool {
        self.is_connected && !self.is_draining
    }
}

impl Told {
    /// The names of the rows.
    pub fn rows(&self) -> impl Iterator<Item = &str> + Clone {
        self.rows.iter().map(|row| row.name.as_str())
    }

    /// The ids of the sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &str> {
        self.sessions.iter().map(|session| session.id.as_str())
    }
}

impl Registry {
    /// Notes that this hub shuts down: its sessions go to other hubs, and calls wait for that.
    pub fn leave(&mut self, now: Now) {
        self.is_leaving = true;
        let all: Vec<String> = self.sessions.keys().filter(|id| !self.is_elsewhere(id)).cloned().collect();
        for id in all {
            if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.is_open()) {
                session.moved_at = Some(now.mono);
            }
            self.mark_session_changed(&id);
        }
    }

    /// What is to be told of changes behind `cursor`, which is advanced; and whether there is more.
    pub fn tell(&self, cursor: &mut u64) -> (Told, bool) {
        let mut told = Told::default();
        let mut changed = self.feed.behind(*cursor);
        for (version, key) in changed.by_ref().take(MOST) {
            *cursor = version;
            match key {
                FeedKey::Llm(name) => told.rows.extend(self.tell_row(name)),
                FeedKey::Session(id) => told.sessions.extend(self.tell_session(id)),
            }
        }
        let more = changed.next().is_some();
        (told, more)
    }

    fn tell_row(&self, name: &str) -> Option<ToldRow> {
        let entry = self.llms.get(name)?;
        let session =
            entry.llm.session.as_ref().filter(|id| entry.llm.registered && !self.is_elsewhere(id))?;
        let (status, report) = (entry.llm.status, entry.report);
        Some(ToldRow {
            name: name.to_owned(),
            session: session.clone(),
            status,
            inactive_since: entry.llm.inactive_since,
            last_heartbeat_at: self.last_heartbeat(&entry.llm),
            busy: entry.load(),
            capacity: entry.capacity(),
            paused: report.is_some_and(|report| report.paused),
            paused_until: report.and_then(|report| report.paused_until),
        })
    }

    fn tell_session(&self, id: &str) -> Option<ToldSession> {
        let session = self.sessions.get(id).filter(|_| !self.is_elsewhere(id))?;
        Some(ToldSession {
            id: id.to_owned(),
            is_connected: session.is_open() && !session.silent,
            is_draining: session.draining,
            is_leaving: self.is_leaving || session.is_returning,
            features: session.features().header_value(),
            last_heartbeat_at: session.record.last_heartbeat_at,
        })
    }

    /// Takes over what `hub` tells. What is told of a session or row that is not known yet waits for the store's news of it.
    pub fn told(&mut self, hub: &str, told: Told, now: Now) {
        let mut early = Told::default();
        for of in told.sessions {
            match self.told_session(hub, of, now) {
                Ok(()) => {}
                Err(of) => early.sessions.push(of),
            }
        }
        for of in told.rows {
            match self.told_row(hub, of, now) {
                Ok(()) => {}
                Err(of) => early.rows.push(of),
            }
        }
        if early != Told::default() {
            self.early.push_back(EarlyTold { hub: hub.to_owned(), at: now.mono, told: early });
            if self.early.len() > MOST_EARLY {
                self.early.pop_front();
            }
        }
    }

    /// Takes over what was told before the store's news of it.
    pub(super) fn take_early(&mut self, now: Now) {
        for EarlyTold { hub, at, told } in std::mem::take(&mut self.early) {
            if now.mono.saturating_sub(at) < EARLY_FOR {
                self.told(&hub, told, Now { mono: at, ..now });
            }
        }
    }

    /// Whether the channel of the session `id` is at the other hub `hub`.
    fn is_at(&self, id: &str, hub: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.record.hub.as_deref() == Some(hub))
            && self.is_elsewhere(id)
    }

    fn told_session(&mut self, hub: &str, of: ToldSession, now: Now) -> Result<(), ToldSession> {
        if !self.is_at(&of.id, hub) {
            return Err(of);
        }
        let Some(session) = self.sessions.get_mut(&of.id) else { return Err(of) };
        session.record.last_heartbeat_at = of.last_heartbeat_at;
        if session.told.as_ref() == Some(&of) {
            return Ok(());
        }
        let (id, is_live) = (of.id.clone(), of.takes_tasks());
        let agents: Vec<String> = session.agents.iter().cloned().collect();
        (session.told, session.told_at) = (Some(of), now.mono);
        self.mark_session_changed(&id);
        for name in agents {
            if let Some(entry) = self.agents.get_mut(&name) {
                entry.lifecycle().set_status(if is_live { Status::Active } else { Status::Inactive }, now);
                self.feed.touch();
            }
        }
        Ok(())
    }

    fn told_row(&mut self, hub: &str, of: ToldRow, now: Now) -> Result<(), ToldRow> {
        let is_its = self.is_at(&of.session, hub);
        let entry =
            self.llms.get_mut(&of.name).filter(|entry| entry.llm.session.as_ref() == Some(&of.session));
        let Some(entry) = entry.filter(|_| is_its) else { return Err(of) };
        let report = of.capacity.map(|capacity| ProviderReport {
            status: of.status,
            busy: of.busy,
            capacity,
            // Its hub has the line.
            ahead: 0,
            paused: of.paused,
            paused_until: of.paused_until,
        });
        // All is told again now and then: watchers hear of what changed.
        let is_new = (entry.llm.status, entry.llm.inactive_since, entry.report)
            != (of.status, of.inactive_since, report);
        entry.lifecycle().set_status(of.status, now);
        (entry.llm.inactive_since, entry.report) = (of.inactive_since, report);
        entry.llm.last_heartbeat_at = of.last_heartbeat_at;
        if is_new {
            self.mark_changed(&of.name);
        }
        Ok(())
    }
}
