//! A session's signs of life: channel, heartbeat, drain.

use std::collections::BTreeSet;

use wire::Features;
use wire::features::Feature;
use wire::register::Heartbeat;
use wire::row::Status;

use super::expiry::ExpiryKey;
use super::feed::FeedKey;
use super::sweep::MOMENT;
use super::{Availability, ControlChannel, ProviderReport, Registry, Session};
use crate::clock::Now;
use crate::model::Caller;
use crate::store::Change;

/// Most inferences at once that a row counts for: as many as the largest server of one machine is run with.
const MAX_CAPACITY: u32 = 256;

/// There is no such session for this caller: unknown, or another user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownSession;

/// Why a heartbeat does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatRefusal {
    /// As [`UnknownSession`].
    UnknownSession,
    /// It names a channel that the hub does not hold: half-open, or replaced.
    OtherStream,
}

/// A sign of life that was taken.
#[derive(Debug)]
pub struct AcceptedHeartbeat {
    /// To be written when there is time.
    pub changes: Vec<Change>,
    /// The rows that are something else for those who wait than they were: there may be room now.
    pub rows: Vec<String>,
    /// The agents that are back.
    pub agents: Vec<String>,
}

/// A channel that was opened.
#[derive(Debug)]
pub struct OpenedChannel {
    /// To be written when there is time.
    pub changes: Vec<Change>,
    /// The channel that this one replaces.
    pub replaced: Option<String>,
    /// Whether the session had a channel before.
    pub again: bool,
}

impl Registry {
    fn own_session(&mut self, caller: &Caller, id: &str) -> Result<&mut Session, UnknownSession> {
        self.sessions.get_mut(id).filter(|session| session.record.owner == caller.user).ok_or(UnknownSession)
    }

    /// Whether `caller` has the session `id`.
    pub fn owns_session(&self, caller: &Caller, id: &str) -> bool {
        self.sessions.get(id).is_some_and(|session| session.record.owner == caller.user)
    }

    /// What an admin has deleted of the session's rows and agents since it registered them.
    pub fn deleted_by_admin(&self, id: &str) -> Vec<String> {
        self.sessions.get(id).map_or(Vec::new(), |session| session.deleted.iter().cloned().collect())
    }

    /// The features that were negotiated on the session's channel.
    pub fn features(&self, id: &str) -> Features {
        self.sessions.get(id).map_or(Features::CLASSIC, Session::features)
    }

    /// The session's channel opens: counts as a heartbeat, revives its rows, replaces an older channel.
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
        Ok(OpenedChannel { changes: self.beat(id, now), replaced, again })
    }

    /// A channel closed. `None` when it was replaced before: a late close changes nothing.
    pub fn close(&mut self, id: &str, stream: &str, now: Now) -> Option<Vec<Change>> {
        let session = self.sessions.get_mut(id)?;
        match &session.channel {
            ControlChannel::Open { stream: open, .. } if open == stream => (),
            _ => return None,
        }
        session.channel = ControlChannel::Closed { at: now.mono };
        if session.llms.is_empty() && session.agents.is_empty() {
            let at = session.last_heartbeat + self.retention;
            self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        }
        Some(self.deactivate_session(id, now))
    }

    /// Whether the session is as it was when its channel closed, or it fell silent, at `since`: its grace is over.
    pub fn is_away_since(&self, id: &str, since: Now) -> bool {
        self.sessions.get(id).is_none_or(|session| match session.channel {
            ControlChannel::Closed { at } => at == since.mono,
            ControlChannel::Open { .. } | ControlChannel::None => {
                session.silent && session.last_heartbeat < since.mono
            }
        })
    }

    /// The session that speaks is alive; whether it may route depends on its channel.
    pub fn heartbeat(
        &mut self,
        caller: &Caller,
        beat: &Heartbeat,
        now: Now,
    ) -> Result<AcceptedHeartbeat, HeartbeatRefusal> {
        let id = beat.provider_session_id.as_str();
        let session =
            self.own_session(caller, id).map_err(|UnknownSession| HeartbeatRefusal::UnknownSession)?;
        let mut with_status = false;
        match &session.channel {
            ControlChannel::Open { stream, features } => {
                with_status = features.has(Feature::Status);
                if with_status && beat.stream_id.as_ref().is_some_and(|named| named != stream) {
                    return Err(HeartbeatRefusal::OtherStream);
                }
            }
            ControlChannel::None | ControlChannel::Closed { .. } if beat.stream_id.is_some() => {
                return Err(HeartbeatRefusal::OtherStream);
            }
            ControlChannel::None | ControlChannel::Closed { .. } => (),
        }
        let reported = if with_status { self.apply_reports(id, beat) } else { Vec::new() };
        let changes = self.beat(id, now);
        // A row that is as it was, but for how much room it has, serves nobody whom it did not serve before.
        let reported = reported.into_iter().filter(|(row, before)| self.availability(row) != *before);
        let mut rows: BTreeSet<String> = reported.map(|(row, _)| row).collect();
        rows.extend(changes.iter().filter_map(|change| match change {
            Change::PutLlm(llm) => Some(llm.name.clone()),
            _ => None,
        }));
        let agents = changes.iter().filter_map(|change| match change {
            Change::PutAgent(agent) => Some(agent.name.clone()),
            _ => None,
        });
        let agents = agents.collect();
        Ok(AcceptedHeartbeat { changes, rows: rows.into_iter().collect(), agents })
    }

    /// Takes what a publisher says of its rows; those of which it says something else than before, and what they were.
    fn apply_reports(&mut self, id: &str, beat: &Heartbeat) -> Vec<(String, Availability)> {
        let mut rows = Vec::new();
        let Some(session) = self.sessions.get_mut(id) else { return rows };
        let takes_tasks = session.takes_tasks();
        for status in beat.providers.iter().flatten() {
            if session.llms.contains(&status.name)
                && let Some(entry) = self.llms.get_mut(&status.name)
                && entry.llm.registered
            {
                // More room is a greater share of the callers: what was said first holds. None is no word.
                if status.max_concurrency > 0 {
                    entry.registered_capacity.get_or_insert(status.max_concurrency);
                }
                let most = entry.registered_capacity.unwrap_or(0);
                let report = ProviderReport {
                    status: status.status,
                    busy: status.in_flight.saturating_add(status.queued),
                    room: status.max_concurrency.min(most).min(MAX_CAPACITY),
                    paused: status.paused,
                    paused_until: status.paused_until,
                };
                let routable = takes_tasks && entry.llm.status != Status::Inactive;
                let before = entry.availability(routable);
                if entry.report.replace(report) != Some(report) {
                    session.settled &= entry.llm.status == report.status;
                    self.feed.change(&mut entry.version, || FeedKey::Llm(status.name.as_str().into()));
                    rows.push((status.name.clone(), before));
                }
            }
        }
        rows
    }

    /// A sign of life: rows come back to their living status, unless the channel is known to be closed.
    fn beat(&mut self, id: &str, now: Now) -> Vec<Change> {
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        session.last_heartbeat = now.mono;
        session.record.last_heartbeat_at = now.wall;
        if !std::mem::replace(&mut session.unsaved, true) {
            self.unsaved_sessions.push(id.to_owned());
        }
        let at = session.last_heartbeat + self.heartbeat_timeout + MOMENT;
        self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        let revives = !matches!(session.channel, ControlChannel::Closed { .. }) && !session.draining;
        let was_silent = std::mem::replace(&mut session.silent, false);
        let settled = std::mem::replace(&mut session.settled, revives);
        if was_silent {
            self.mark_session_changed(id);
        }
        if !revives || settled {
            return Vec::new();
        }
        let Some(session) = self.sessions.get(id) else { return Vec::new() };
        let retention = self.retention;
        let mut changes = Vec::new();
        for name in &session.llms {
            let Some(entry) = self.llms.get_mut(name).filter(|entry| entry.llm.registered) else { continue };
            entry.llm.last_heartbeat_at = Some(now.wall);
            let status = entry.living_status();
            if entry.set_status(status, now) {
                changes.push(entry.put());
                self.feed.change(&mut entry.version, || FeedKey::Llm(name.as_str().into()));
                if status == Status::Inactive {
                    let at = entry.inactive_at + retention;
                    self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Llm(name.as_str().into()));
                }
            }
        }
        for name in &session.agents {
            let Some(entry) = self.agents.get_mut(name).filter(|entry| entry.agent.registered) else {
                continue;
            };
            entry.agent.last_heartbeat_at = Some(now.wall);
            if entry.set_status(Status::Active, now) {
                changes.push(entry.put());
            }
        }
        changes
    }

    /// The session is away: its rows and agents are inactive from now on.
    pub(super) fn deactivate_session(&mut self, id: &str, now: Now) -> Vec<Change> {
        self.mark_session_changed(id);
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        session.settled = false;
        let (retention, seen) = (self.retention, session.record.last_heartbeat_at);
        let mut changes = vec![Change::PutSession(session.record.clone())];
        for name in &session.llms {
            let Some(entry) = self.llms.get_mut(name) else { continue };
            if entry.set_status(Status::Inactive, now) {
                if entry.llm.registered {
                    entry.llm.last_heartbeat_at = Some(seen);
                }
                changes.push(entry.put());
                self.feed.change(&mut entry.version, || FeedKey::Llm(name.as_str().into()));
            }
            let at = entry.inactive_at + retention;
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Llm(name.as_str().into()));
        }
        for name in &session.agents {
            let Some(entry) = self.agents.get_mut(name) else { continue };
            if entry.set_status(Status::Inactive, now) {
                if entry.agent.registered {
                    entry.agent.last_heartbeat_at = Some(seen);
                }
                changes.push(entry.put());
            }
            let at = entry.inactive_at + retention;
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Agent(name.as_str().into()));
        }
        changes
    }

    /// The session takes no more tasks; its rows become inactive when the last one is done.
    pub fn drain(&mut self, caller: &Caller, id: &str, now: Now) -> Result<Vec<Change>, UnknownSession> {
        self.own_session(caller, id)?.draining = true;
        self.mark_session_changed(id);
        Ok(self.drained(id, now))
    }

    /// The changes that follow when a draining session has nothing left to do.
    pub(super) fn drained(&mut self, id: &str, now: Now) -> Vec<Change> {
        let Some(session) = self.sessions.get(id) else { return Vec::new() };
        // Each call that ends asks this: what it costs is for those that drain.
        let is_busy =
            || session.llms.iter().any(|name| self.llms.get(name).is_some_and(|entry| entry.in_flight > 0));
        if session.draining && !is_busy() { self.deactivate_session(id, now) } else { Vec::new() }
    }

    /// A publisher woke its backend.
    pub fn mark_awake(&mut self, name: &str, now: Now) -> Vec<Change> {
        let Some(entry) = self.llms.get_mut(name) else { return Vec::new() };
        if entry.llm.status != Status::Hibernating {
            return Vec::new();
        }
        entry.llm.declared = Status::Active;
        if let Some(report) = &mut entry.report {
            report.status = Status::Active;
        }
        entry.set_status(Status::Active, now);
        let change = entry.put();
        self.mark_changed(name);
        vec![change]
    }
}
