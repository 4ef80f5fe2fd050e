//! What other hubs have changed: records are taken over as they are stored, and what runs here goes on.
//!
//! The hub that changed them has stored what follows from it, so that nothing here is stored again.

use std::collections::HashSet;

use wire::row::{Kind, Status};

use super::Registry;
use super::entry::ExpiryKey;
use super::session::{ControlChannel, MOMENT, Session};
use crate::clock::Now;
use crate::model::{Agent, Llm, SessionRecord};
use crate::registry::told::ToldSession;
use crate::store::Merge;

/// Keys of one kind of records.
type Keys<'a> = HashSet<&'a str>;

impl Registry {
    /// The records that are here and not among `records`, which are all there are.
    pub fn missing(&self, records: &[Merge]) -> Vec<Merge> {
        let (mut sessions, mut llms, mut agents, mut names) =
            <(Keys<'_>, Keys<'_>, Keys<'_>, Keys<'_>)>::default();
        let mut aliases = HashSet::new();
        for record in records {
            match record {
                Merge::Session(id, _) => drop(sessions.insert(id)),
                Merge::Llm(name, _) => drop(llms.insert(name)),
                Merge::Agent(name, _) => drop(agents.insert(name)),
                Merge::Name(name, _) => drop(names.insert(name)),
                Merge::Alias(scope, name, _) => drop(aliases.insert((scope, name.as_str()))),
                Merge::Token(_) | Merge::Limits(..) => {}
            }
        }
        let gone =
            |known: &String, found: &Keys<'_>| (!found.contains(known.as_str())).then(|| known.clone());
        let llms = self.llms.keys().filter_map(|name| Some(Merge::Llm(gone(name, &llms)?, None)));
        let agents = self.agents.keys().filter_map(|name| Some(Merge::Agent(gone(name, &agents)?, None)));
        let sessions = self.sessions.keys().filter_map(|id| Some(Merge::Session(gone(id, &sessions)?, None)));
        let aliases =
            self.aliases.all().filter(|alias| !aliases.contains(&(&alias.scope, alias.name.as_str())));
        let aliases = aliases.map(|alias| Merge::Alias(alias.scope.clone(), alias.name.clone(), None));
        let gone_names = self.names.beginning_with("").filter(|name| !names.contains(name));
        let gone_names = gone_names.map(|name| Merge::Name(name.to_owned(), None));
        llms.chain(agents).chain(sessions).chain(aliases).chain(gone_names).collect()
    }

    /// Takes over `records`. Returns the sessions whose channel was here and belongs to another hub now, or that are gone.
    pub fn merge(&mut self, records: Vec<Merge>, now: Now) -> Vec<String> {
        self.names.set_merging(true);
        let mut lost = Vec::new();
        for record in records {
            match record {
                Merge::Session(id, Some(record)) => lost.extend(self.merge_session(id, record, now)),
                // Its rows are gone, too, or are another session's.
                Merge::Session(id, None) => {
                    let was_here = self.sessions.contains_key(&id) && !self.is_elsewhere(&id);
                    self.remove_session(&id);
                    lost.extend(was_here.then_some(id));
                }
                Merge::Llm(_, Some(llm)) => self.merge_llm(*llm, now),
                Merge::Llm(name, None) => {
                    let session = self.llms.get(&name).filter(|entry| entry.llm.registered);
                    let session = session.and_then(|entry| entry.llm.session.clone());
                    self.report_deleted(session, &name);
                    self.remove_llm(&name, now);
                }
                Merge::Agent(_, Some(agent)) => self.merge_agent(*agent, now),
                Merge::Agent(name, None) => {
                    let session = self.agents.get(&name).filter(|entry| entry.agent.registered);
                    let session = session.and_then(|entry| entry.agent.session.clone());
                    self.report_deleted(session, &name);
                    self.remove_agent(&name, now);
                }
                Merge::Alias(_, _, Some(alias)) => self.aliases.insert(alias),
                Merge::Alias(scope, name, None) => drop(self.aliases.remove(&scope, &name)),
                Merge::Name(name, record) => self.merge_name(&name, record, now),
                Merge::Token(_) | Merge::Limits(..) => {}
            }
        }
        self.feed.touch();
        self.names.set_merging(false);
        self.take_early(now);
        lost
    }

    fn merge_session(&mut self, id: String, record: SessionRecord, now: Now) -> Option<String> {
        let is_another = |known: &Session| {
            (&known.record.owner, known.record.created_at) != (&record.owner, record.created_at)
        };
        if self.sessions.get(&id).is_some_and(is_another) {
            // It was deleted, and its id was registered again.
            self.remove_session(&id);
        }
        let Some(known) = self.sessions.get_mut(&id) else {
            self.insert_session(Session::new(record, now));
            return None;
        };
        if known.record.hub == record.hub {
            return None;
        }
        let was_here = self.hub.is_some() && known.record.hub == self.hub;
        let had_channel = known.is_open();
        known.record.hub = record.hub;
        (known.told, known.last_heartbeat, known.moved_at) = (None, now.mono, Some(now.mono));
        known.is_returning = false;
        if had_channel {
            known.channel = ControlChannel::Closed { at: now.mono };
        }
        self.mark_session_changed(&id);
        // Its new hub tells which of its rows are live.
        self.deactivate_session(&id, now);
        // It may be this hub's now, which expires it.
        self.check_session_at(&id, now.mono + self.heartbeat_timeout + MOMENT);
        // Also if its channel has closed: tasks that were sent there go on at the other hub.
        was_here.then_some(id)
    }

    fn merge_llm(&mut self, mut llm: Llm, now: Now) {
        let name = llm.name.clone();
        let old = self.llms.get(&name).map(|entry| &entry.llm);
        let known = old.filter(|old| (&old.session, old.registered) == (&llm.session, llm.registered));
        let is_new = known.is_none();
        let is_live = |session: &Session| session.told.is_some() || session.takes_tasks();
        if llm.kind == Kind::Virtual {
            match known {
                // What changes all the time is known here, or told by the row's hub.
                Some(old) => {
                    (llm.status, llm.declared, llm.inactive_since) =
                        (old.status, old.declared, old.inactive_since);
                    llm.last_heartbeat_at = old.last_heartbeat_at;
                }
                None if llm.session.as_ref().and_then(|id| self.sessions.get(id)).is_some_and(is_live) => {}
                None => (llm.status, llm.inactive_since) = (Status::Inactive, Some(now.wall)),
            }
        }
        if let Some(former) =
            old.and_then(|old| old.session.clone()).filter(|id| Some(id) != llm.session.as_ref())
            && let Some(session) = self.sessions.get_mut(&former)
        {
            session.remove_llm(&name);
            self.expire_empty_session(Some(&former));
        }
        let (session, registered) = (llm.session.clone(), llm.registered);
        self.insert_llm(llm, now);
        if let Some(entry) = self.llms.get_mut(&name).filter(|_| is_new) {
            entry.inactive_at = now.mono;
        }
        self.schedule_expiry_of(&ExpiryKey::Llm(name.as_str().into()));
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            session.insert_llm(&name, registered);
        }
    }

    fn merge_agent(&mut self, mut agent: Agent, now: Now) {
        let name = agent.name.clone();
        let old = self.agents.get(&name).map(|entry| &entry.agent);
        let known = old.filter(|old| (&old.session, old.registered) == (&agent.session, agent.registered));
        let is_new = known.is_none();
        let is_live =
            |session: &Session| session.told.as_ref().map_or(session.takes_tasks(), ToldSession::takes_tasks);
        if agent.kind == Kind::Virtual {
            match known {
                Some(old) => {
                    (agent.status, agent.inactive_since) = (old.status, old.inactive_since);
                    agent.last_heartbeat_at = old.last_heartbeat_at;
                }
                None if agent.session.as_ref().and_then(|id| self.sessions.get(id)).is_some_and(is_live) => {}
                None => (agent.status, agent.inactive_since) = (Status::Inactive, Some(now.wall)),
            }
        }
        if let Some(former) =
            old.and_then(|old| old.session.clone()).filter(|id| Some(id) != agent.session.as_ref())
            && let Some(session) = self.sessions.get_mut(&former)
        {
            session.remove_agent(&name);
            self.expire_empty_session(Some(&former));
        }
        let (session, registered) = (agent.session.clone(), agent.registered);
        self.put_agent(agent, now);
        if let Some(entry) = self.agents.get_mut(&name).filter(|_| is_new) {
            entry.inactive_at = now.mono;
        }
        self.schedule_expiry_of(&ExpiryKey::Agent(name.as_str().into()));
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            session.insert_agent(&name, registered);
        }
    }
}
