//! Expiry (SPEC.md section 3.6): sessions without heartbeats become inactive; what stays inactive is deleted.
//!
//! A sweep looks only at what is due, and at a bounded number of items while it holds the table's lock.

use std::time::Duration;

use wire::row::{Kind, Status};

use super::Registry;
use super::entry::{AgentEntry, ExpiryKey};
use super::session::{ControlChannel, MOMENT, Session};
use crate::clock::Now;
use crate::model::UserId;
use crate::store::Change;

/// Items per sweep: each costs 1 to 2 µs.
const BATCH: usize = 512;

/// Result of a sweep.
#[derive(Debug, Default)]
pub struct SweepResult {
    /// Changes to store without waiting for the commit.
    pub changes: Vec<Change>,
    /// Sessions whose heartbeat timed out, with their owners: the grace of their tasks starts now.
    pub silent: Vec<(String, UserId)>,
    /// Sessions whose open channel got no heartbeat for twice the timeout: the channel is half-open.
    pub dead: Vec<(String, UserId)>,
    /// Whether another sweep is needed.
    pub more: bool,
    /// Whether there is something that only a sweep which may write does.
    pub must_write: bool,
}

impl Registry {
    /// Stores pending heartbeats and expires what is due; [`SweepResult::more`] asks for another sweep. Unless it `may_write`, it
    /// only finds sessions that are silent: they get no tasks, also while nothing can be stored.
    pub fn sweep(&mut self, now: Now, may_write: bool) -> SweepResult {
        let mut result = SweepResult { more: true, ..SweepResult::default() };
        result.must_write = !may_write && !self.unsaved_sessions.is_empty();
        self.sweeping = may_write;
        for _ in 0..BATCH {
            if may_write && let Some(id) = self.unsaved_sessions.pop() {
                // One write per session and sweep, however many heartbeats came.
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.unsaved = false;
                    result.changes.push(Change::PutSession(session.record.clone()));
                }
                continue;
            }
            match self.expiry.next(now.mono) {
                Some(ExpiryKey::Session(id)) => self.sweep_session(&id, now, may_write, &mut result),
                Some(key) if !may_write => {
                    self.check_later(key, now);
                    result.must_write = true;
                }
                Some(ExpiryKey::Name(name)) => self.sweep_name(&name, now),
                Some(key) => result.changes.extend(self.sweep_entry(&key, now)),
                None => {
                    result.more = false;
                    break;
                }
            }
        }
        // Once for each pool, since this looks at all of its rows that are overdue.
        for pool in std::mem::take(&mut self.swept_pools) {
            self.update_name_use(&pool, now);
        }
        self.sweeping = false;
        if may_write {
            result.changes.append(&mut self.names.drain_changes());
        }
        result
    }

    /// Leaves what is due to the next sweep.
    fn check_later(&mut self, key: ExpiryKey, now: Now) {
        let due = match &key {
            ExpiryKey::Llm(name) => self.llms.get_mut(&**name).map(|entry| &mut entry.due),
            ExpiryKey::Agent(name) => self.agents.get_mut(&**name).map(|entry| &mut entry.due),
            ExpiryKey::Name(name) => self.names.due(name),
            ExpiryKey::Session(id) => self.sessions.get_mut(&**id).map(|session| &mut session.due),
        };
        if let Some(due) = due {
            *due = None;
            self.expiry.check_at(due, now.mono + MOMENT, || key);
        }
    }

    /// Deactivates a session without heartbeats, and deletes one without rows and agents after the retention time.
    fn sweep_session(&mut self, id: &str, now: Now, may_write: bool, result: &mut SweepResult) {
        let (timeout, retention) = (self.heartbeat_timeout, self.retention);
        let is_elsewhere = self.is_elsewhere(id);
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.due = None;
        if is_elsewhere {
            // Its hub expires it, and this one if it takes the session over.
            return self.check_session_at(id, now.mono + retention);
        }
        if !session.is_open()
            && let Some(key) = session.overdue.pop_first()
        {
            let more = !session.overdue.is_empty();
            self.schedule_expiry_of(&key);
            if more {
                // One at a time, since there may be thousands.
                self.check_session_at(id, Duration::ZERO);
                return;
            }
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        let owner = session.record.owner.clone();
        let quiet = now.mono.saturating_sub(session.last_heartbeat);
        let mut fell_silent = false;
        if quiet > timeout && !session.silent {
            session.silent = true;
            fell_silent = !matches!(session.channel, ControlChannel::Closed { .. });
        }
        if quiet > timeout * 2 && session.is_open() {
            result.dead.push((id.to_owned(), owner.clone()));
        }
        if fell_silent {
            result.silent.push((id.to_owned(), owner));
        }
        // The id of a deleted session may be registered again.
        let may_expire = session.is_empty() && !session.is_open();
        let is_over = may_expire && quiet >= retention;
        result.must_write |= is_over && !may_write;
        if is_over && may_write {
            result.changes.push(Change::DeleteSession(id.to_owned()));
            self.remove_session(id);
            return;
        }
        let next = if !session.silent {
            Some(session.last_heartbeat + timeout + MOMENT)
        } else if session.is_open() {
            let dead = session.last_heartbeat + timeout * 2 + MOMENT;
            Some(if dead > now.mono { dead } else { now.mono + timeout })
        } else {
            None
        };
        // A session with rows or agents is checked again when the last of them is removed.
        let expires = may_expire.then_some((session.last_heartbeat + retention).max(now.mono + MOMENT));
        if let Some(at) = next.into_iter().chain(expires).min() {
            self.check_session_at(id, at);
        }
        if fell_silent {
            result.changes.extend(self.deactivate_session(id, now));
        }
    }

    /// Whether a sweep runs that deletes the row, which was inactive for the retention time. Outside a sweep the row stays:
    /// its session's channel may open before the next one.
    pub(super) fn is_overdue(&self, row: &str, now: Now) -> bool {
        #[cfg(test)]
        self.overdue_checks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.sweeping
            && self.llms.get(row).is_some_and(|entry| {
                let session = entry.llm.session.as_ref().and_then(|id| self.sessions.get(id));
                entry.llm.kind == Kind::Virtual
                    && entry.llm.status == Status::Inactive
                    && entry.inactive_at + self.retention <= now.mono
                    && !session.is_some_and(Session::is_open)
            })
    }

    /// Schedules the deletion check of a row or an agent.
    pub(super) fn schedule_expiry_of(&mut self, key: &ExpiryKey) {
        let entry = match key {
            ExpiryKey::Llm(name) => self.llms.get_mut(&**name).map(|entry| entry.lifecycle()),
            ExpiryKey::Agent(name) => self.agents.get_mut(&**name).map(AgentEntry::lifecycle),
            ExpiryKey::Session(_) | ExpiryKey::Name(_) => None,
        };
        if let Some(mut entry) = entry {
            entry.schedule_expiry(&mut self.expiry, self.retention, || key.clone());
        }
    }

    /// Deletes a virtual row or agent that was inactive for the retention time, unless its session's channel is open.
    fn sweep_entry(&mut self, key: &ExpiryKey, now: Now) -> Option<Change> {
        let mut entry = match key {
            ExpiryKey::Llm(name) => self.llms.get_mut(&**name)?.lifecycle(),
            ExpiryKey::Agent(name) => self.agents.get_mut(&**name)?.lifecycle(),
            ExpiryKey::Session(_) | ExpiryKey::Name(_) => return None,
        };
        *entry.due = None;
        if entry.kind != Kind::Virtual || *entry.status != Status::Inactive {
            return None;
        }
        // Its hub deletes it, and this one if it takes the session over.
        if entry
            .session
            .and_then(|id| self.sessions.get(id))
            .is_some_and(|session| session.is_of_other(self.hub.as_deref()))
        {
            self.expiry.check_at(entry.due, now.mono + self.retention, || key.clone());
            return None;
        }
        // The end of an open channel schedules the next check.
        let session = entry.session.and_then(|id| self.sessions.get_mut(id));
        if let Some(session) = session.filter(|session| session.is_open()) {
            if !*entry.registered {
                session.overdue.insert(key.clone());
            }
            return None;
        }
        if *entry.inactive_at + self.retention > now.mono {
            entry.schedule_expiry(&mut self.expiry, self.retention, || key.clone());
            return None;
        }
        match key {
            ExpiryKey::Llm(name) => self.remove_llm(name, now),
            ExpiryKey::Agent(name) => self.remove_agent(name, now),
            ExpiryKey::Session(_) | ExpiryKey::Name(_) => None,
        }
    }
}
