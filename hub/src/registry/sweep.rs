//! What time does: silent sessions are lost, rows that nobody brings back are deleted.
//!
//! Only what can have timed out is looked at, and so much at once that nobody waits long for the table.

use std::time::Duration;

use wire::row::{Kind, Status, Visibility};

use super::expiry::ExpiryKey;
use super::{ControlChannel, Registry};
use crate::clock::Now;
use crate::model::UserId;
use crate::store::Change;

/// Items that are looked at while the table is held: each costs a microsecond or two.
const AT_ONCE: usize = 512;
/// Timeouts are over when more than their time has passed.
pub(super) const MOMENT: Duration = Duration::from_nanos(1);

/// What a sweep did.
#[derive(Debug, Default)]
pub struct SweepResult {
    /// To be written when there is time.
    pub changes: Vec<Change>,
    /// Sessions that fell silent, and whose they are: the grace of their tasks starts now.
    pub silent: Vec<(String, UserId)>,
    /// Sessions whose channel is open and has been silent for twice as long: nobody is at its other end.
    pub dead: Vec<(String, UserId)>,
    /// There is more to do: sweep again.
    pub more: bool,
}

impl Registry {
    /// Looks for some of what has timed out; [`SweepResult::more`] says that there is more.
    pub fn sweep(&mut self, now: Now) -> SweepResult {
        let mut swept = SweepResult::default();
        for _ in 0..AT_ONCE {
            if let Some(id) = self.unsaved_sessions.pop() {
                // One row a session and sweep, however often its heart beats.
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.unsaved = false;
                    swept.changes.push(Change::PutSession(session.record.clone()));
                }
                continue;
            }
            match self.expiry.next(now.mono) {
                Some(ExpiryKey::Session(id)) => self.sweep_session(&id, now, &mut swept),
                Some(ExpiryKey::Llm(name)) => self.sweep_llm(&name, now, &mut swept),
                Some(ExpiryKey::Agent(name)) => self.sweep_agent(&name, now, &mut swept),
                Some(ExpiryKey::Name(name)) => self.sweep_name(&name, now),
                None => {
                    swept.changes.append(&mut self.names.drain_changes());
                    return swept;
                }
            }
        }
        swept.changes.append(&mut self.names.drain_changes());
        swept.more = true;
        swept
    }

    fn sweep_session(&mut self, id: &str, now: Now, swept: &mut SweepResult) {
        let (timeout, retention) = (self.heartbeat_timeout, self.retention);
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.due = None;
        let owner = session.record.owner.clone();
        let quiet = now.mono.saturating_sub(session.last_heartbeat);
        let mut fell_silent = false;
        if quiet > timeout && !session.silent {
            session.silent = true;
            fell_silent = !matches!(session.channel, ControlChannel::Closed { .. });
        }
        if quiet > timeout * 2 && session.is_open() {
            swept.dead.push((id.to_owned(), owner.clone()));
        }
        let is_empty = session.llms.is_empty() && session.agents.is_empty();
        // A session that has nothing, and has said nothing for as long, is forgotten: its id may be taken up again.
        if is_empty && !session.is_open() && quiet >= retention {
            if fell_silent {
                swept.silent.push((id.to_owned(), owner.clone()));
            }
            swept.changes.push(Change::DeleteSession(id.to_owned()));
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
        // What has rows comes here again when the last of them goes.
        let forgotten = (is_empty && !session.is_open()).then_some(session.last_heartbeat + retention);
        if let Some(at) = next.into_iter().chain(forgotten).min() {
            self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        }
        if fell_silent {
            swept.silent.push((id.to_owned(), owner.clone()));
            swept.changes.extend(self.deactivate_session(id, now));
        }
    }

    fn sweep_llm(&mut self, name: &str, now: Now, swept: &mut SweepResult) {
        let Some(entry) = self.llms.get_mut(name) else { return };
        entry.due = None;
        if entry.llm.kind != Kind::Virtual || entry.llm.status != Status::Inactive {
            return;
        }
        let at = entry.inactive_at + self.retention;
        let session = entry.llm.session.as_ref().and_then(|id| self.sessions.get(id));
        if session.is_some_and(super::Session::is_open) {
            // Its channel's end brings it here again.
        } else if at <= now.mono {
            swept.changes.extend(self.remove_llm(name, now));
        } else {
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Llm(name.into()));
        }
    }

    fn sweep_agent(&mut self, name: &str, now: Now, swept: &mut SweepResult) {
        let Some(entry) = self.agents.get_mut(name) else { return };
        entry.due = None;
        if entry.agent.kind != Kind::Virtual || entry.agent.status != Status::Inactive {
            return;
        }
        let at = entry.inactive_at + self.retention;
        let session = entry.agent.session.as_ref().and_then(|id| self.sessions.get(id));
        if session.is_some_and(super::Session::is_open) {
            // As above.
        } else if at <= now.mono {
            swept.changes.extend(self.remove_agent(name, now));
        } else {
            self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Agent(name.into()));
        }
    }

    fn remove_session(&mut self, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        let owner = &session.record.owner;
        self.expiry.remove(session.due, ExpiryKey::Session(id.into()));
        self.feed.remove(session.version, Visibility::Private, owner);
        self.sessions_by_age.remove(&(session.record.created_at, id.into()), owner);
        self.count(owner, |owned| owned.sessions -= 1);
    }
}
