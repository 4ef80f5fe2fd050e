//! A session's control channel and its heartbeats, which keep it alive, restore its rows and carry reports of its providers
//! (sections 3.6 and 4).

use std::collections::BTreeSet;
use std::time::Duration;

use wire::Features;
use wire::features::Feature;
use wire::register::Heartbeat;
use wire::row::Status;

use super::{ControlChannel, MOMENT, Registry, UnknownSession};
use crate::clock::Now;
use crate::model::Caller;
use crate::registry::Availability;
use crate::registry::entry::ProviderReport;
use crate::registry::feed::FeedKey;
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
        session.is_returning = false;
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
        } else if !session.overdue.is_empty() {
            self.check_session_at(id, Duration::ZERO);
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

/// Upper bound on a row's capacity: the largest servers of one machine run that many inferences at once.
const MAX_CAPACITY: u32 = 256;

/// Reason why a heartbeat was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatRefusal {
    /// As [`UnknownSession`].
    UnknownSession,
    /// It names a channel that the hub does not hold: half-open, or replaced.
    OtherStream,
}

/// A heartbeat that was accepted.
#[derive(Debug)]
pub struct AcceptedHeartbeat {
    /// Changes to store without waiting for the commit.
    pub changes: Vec<Change>,
    /// Rows whose [`Availability`] changed: they may have capacity now.
    pub rows: Vec<String>,
    /// Agents that are active again.
    pub agents: Vec<String>,
}

impl Registry {
    /// Takes a session's heartbeat: it is alive; whether it is routable depends on its channel.
    pub fn heartbeat(
        &mut self,
        caller: &Caller,
        beat: &Heartbeat,
        now: Now,
    ) -> Result<AcceptedHeartbeat, HeartbeatRefusal> {
        let id = beat.provider_session_id.as_str();
        let session =
            self.own_session(caller, id).map_err(|UnknownSession| HeartbeatRefusal::UnknownSession)?;
        let with_status = match &session.channel {
            ControlChannel::Open { stream, features } => {
                let with_status = features.has(Feature::Status);
                if with_status && beat.stream_id.as_ref().is_some_and(|named| named != stream) {
                    return Err(HeartbeatRefusal::OtherStream);
                }
                with_status
            }
            ControlChannel::None | ControlChannel::Closed { .. } if beat.stream_id.is_some() => {
                return Err(HeartbeatRefusal::OtherStream);
            }
            ControlChannel::None | ControlChannel::Closed { .. } => false,
        };
        let reported = if with_status { self.apply_reports(id, beat) } else { Vec::new() };
        let changes = self.record_heartbeat(id, now);
        // A row with unchanged availability can serve no further callers.
        let reported = reported.into_iter().filter(|(row, before)| self.availability(row) != *before);
        let mut rows: BTreeSet<String> = reported.map(|(row, _)| row).collect();
        let mut agents = Vec::new();
        for change in &changes {
            match change {
                Change::PutLlm(llm) => {
                    rows.insert(llm.name.clone());
                }
                Change::PutAgent(agent) => agents.push(agent.name.clone()),
                _ => (),
            }
        }
        Ok(AcceptedHeartbeat { changes, rows: rows.into_iter().collect(), agents })
    }

    /// Stores the reports of a heartbeat. Returns the rows whose report changed, with their previous availability.
    fn apply_reports(&mut self, id: &str, beat: &Heartbeat) -> Vec<(String, Availability)> {
        let mut changed = Vec::new();
        let Some(session) = self.sessions.get_mut(id) else { return changed };
        let takes_tasks = session.takes_tasks();
        for status in beat.providers.iter().flatten() {
            if session.llms.contains(&status.name)
                && let Some(entry) = self.llms.get_mut(&status.name)
            {
                // The first capacity that is not 0 is the bound of later ones, because a row with more capacity gets more of the
                // calls.
                if status.max_concurrency > 0 {
                    entry.registered_capacity.get_or_insert(status.max_concurrency);
                }
                let bound = entry.registered_capacity.unwrap_or(0);
                let report = ProviderReport {
                    status: status.status,
                    busy: status.in_flight.saturating_add(status.queued),
                    capacity: status.max_concurrency.min(bound).min(MAX_CAPACITY),
                    ahead: status.ahead.min(bound).min(MAX_CAPACITY),
                    paused: status.paused,
                    paused_until: status.paused_until,
                };
                let before = entry.availability(takes_tasks && entry.llm.status != Status::Inactive);
                if entry.report.replace(report) != Some(report) {
                    session.settled &= entry.llm.status == report.status;
                    self.feed.change(&mut entry.version, || FeedKey::Llm(status.name.as_str().into()));
                    changed.push((status.name.clone(), before));
                }
            }
        }
        changed
    }

    /// Records a heartbeat: rows and agents get their status back, unless the channel is closed or draining.
    fn record_heartbeat(&mut self, id: &str, now: Now) -> Vec<Change> {
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        session.last_heartbeat = now.mono;
        session.record.last_heartbeat_at = now.wall;
        if !std::mem::replace(&mut session.unsaved, true) {
            self.unsaved_sessions.push(id.to_owned());
        }
        let restores = !matches!(session.channel, ControlChannel::Closed { .. }) && !session.draining;
        let was_silent = std::mem::replace(&mut session.silent, false);
        let settled = std::mem::replace(&mut session.settled, restores);
        self.check_session_at(id, now.mono + self.heartbeat_timeout + MOMENT);
        if was_silent {
            self.mark_session_changed(id);
        }
        if !restores || settled {
            return Vec::new();
        }
        self.update_session_entries(id, |_, entry| {
            *entry.last_heartbeat_at = Some(now.wall);
            entry.set_status(entry.restored_status, now)
        })
    }

    /// Makes the rows and agents of a session inactive: its channel closed, its heartbeat timed out, or it is drained.
    pub(in crate::registry) fn deactivate_session(&mut self, id: &str, now: Now) -> Vec<Change> {
        self.mark_session_changed(id);
        let Some(session) = self.sessions.get_mut(id) else { return Vec::new() };
        session.settled = false;
        let last_heartbeat = session.record.last_heartbeat_at;
        let mut changes = vec![Change::PutSession(session.record.clone())];
        changes.extend(self.update_session_entries(id, |_, entry| {
            let was_live = entry.set_status(Status::Inactive, now);
            if was_live {
                *entry.last_heartbeat_at = Some(last_heartbeat);
            }
            was_live
        }));
        changes
    }

    /// Notes that a publisher woke the row's backend.
    pub fn mark_awake(&mut self, name: &str, now: Now) -> Vec<Change> {
        let Some(entry) = self.llms.get_mut(name) else { return Vec::new() };
        if entry.llm.status != Status::Hibernating {
            return Vec::new();
        }
        entry.llm.declared = Status::Active;
        if let Some(report) = &mut entry.report {
            report.status = Status::Active;
        }
        entry.lifecycle().set_status(Status::Active, now);
        let change = entry.put();
        self.mark_changed(name);
        vec![change]
    }
}
