//! What time does: silent sessions are lost, rows that nobody brings back are deleted.

use wire::row::{Kind, Status};

use super::{Link, Registry};
use crate::clock::Now;
use crate::store::Change;

/// What a sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// To be written when there is time.
    pub changes: Vec<Change>,
    /// Sessions that fell silent: the grace of their tasks starts now.
    pub silent: Vec<String>,
    /// Sessions whose channel is open and has been silent for twice as long: nobody is at its other end.
    pub dead: Vec<String>,
}

impl Registry {
    /// Looks for what has timed out.
    pub fn sweep(&mut self, now: Now) -> Swept {
        let mut swept = Swept::default();
        for (id, session) in &mut self.sessions {
            if session.beat > self.swept {
                // One row a session and sweep, however often its heart beats.
                swept.changes.push(Change::PutSession(session.record.clone()));
            }
            let quiet = now.mono.saturating_sub(session.beat);
            if quiet > self.heartbeat_timeout && !session.silent {
                session.silent = true;
                if !matches!(session.link, Link::Closed { .. }) {
                    swept.silent.push(id.clone());
                }
            }
            if quiet > self.heartbeat_timeout * 2 && session.is_open() {
                swept.dead.push(id.clone());
            }
        }
        self.swept = now.mono;
        for id in &swept.silent {
            swept.changes.extend(self.silence(id, now));
        }
        self.delete_forgotten(now, &mut swept.changes);
        swept
    }

    fn delete_forgotten(&mut self, now: Now, changes: &mut Vec<Change>) {
        let expired = |inactive_at: std::time::Duration, session: Option<&String>| {
            let open = session.and_then(|id| self.sessions.get(id)).is_some_and(super::Session::is_open);
            !open && now.mono.saturating_sub(inactive_at) >= self.retention
        };
        let llms: Vec<String> = self
            .llms
            .values()
            .filter(|entry| entry.llm.kind == Kind::Virtual && entry.llm.status == Status::Inactive)
            .filter(|entry| expired(entry.inactive_at, entry.llm.session.as_ref()))
            .map(|entry| entry.llm.name.clone())
            .collect();
        let agents: Vec<String> = self
            .agents
            .values()
            .filter(|entry| entry.agent.kind == Kind::Virtual && entry.agent.status == Status::Inactive)
            .filter(|entry| expired(entry.inactive_at, entry.agent.session.as_ref()))
            .map(|entry| entry.agent.name.clone())
            .collect();
        changes.extend(llms.iter().filter_map(|name| self.remove_llm(name)));
        changes.extend(agents.iter().filter_map(|name| self.remove_agent(name)));
        // A session that has nothing, and has said nothing for as long, is forgotten: its id may be taken up again.
        let retention = self.retention;
        self.sessions.retain(|id, session| {
            let keep = !session.llms.is_empty()
                || !session.agents.is_empty()
                || session.is_open()
                || now.mono.saturating_sub(session.beat) < retention;
            if !keep {
                changes.push(Change::DeleteSession(id.clone()));
            }
            keep
        });
    }
}
