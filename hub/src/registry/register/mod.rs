//! `POST /_provider-register`: a session's whole set, applied atomically (SPEC.md sections 3.1 and 3.6).
//!
//! First everything is checked, then everything is applied.

mod check;
mod entries;

pub use check::{MAX_ENTRIES, Malformed, check};
pub(super) use check::{MAX_PROMPT, MAX_PROSE, abilities, name, object, params, prose, text};

use std::collections::HashSet;

use wire::SessionId;
use wire::register::RegisterRequest;
use wire::row::{Status, Visibility};

use super::Registry;
use super::session::{ControlChannel, EntryName, MOMENT, Session};
use crate::clock::Now;
use crate::model::{Agent, Caller, Llm, SessionRecord};
use crate::store::Change;
use crate::telemetry::Limit;

/// A register call that was applied.
#[derive(Debug, Default)]
pub struct Registration {
    /// The session id that the publisher uses from now on.
    pub session: String,
    /// The rows of the call, in its order.
    pub llms: Vec<Llm>,
    /// The agents of the call, in its order.
    pub agents: Vec<Agent>,
    /// Rows of the session that the previous call named and this one does not.
    pub dropped_llms: Vec<String>,
    /// Agents of the session that the previous call named and this one does not.
    pub dropped_agents: Vec<String>,
    /// Warnings for the publisher's owner, each naming its row or agent.
    pub warnings: Vec<String>,
    /// Changes to commit before the call is answered: of rows and agents, those that differ from the stored ones.
    pub changes: Vec<Change>,
}

/// Reason why a register call was refused: nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterRefusal {
    /// The call is malformed: 400.
    Invalid(Malformed),
    /// A name or a pool belongs to another user or session: 409.
    Conflict(String),
    /// A pool has as many of the caller's rows as it may have: 409.
    PoolFull(String),
    /// The caller has this many of these already: 429.
    TooMany(usize, &'static str, Limit),
    /// The caller's rows and agents have this many bytes already: 429.
    TooLarge(usize),
}

/// A register call in progress.
struct Registering<'a> {
    caller: &'a Caller,
    session: &'a str,
    ids: &'a dyn Fn(&str) -> String,
    now: Now,
}

impl Registry {
    /// Registers a request that passed [`check`]. `ids` makes random ids with a prefix.
    pub fn register(
        &mut self,
        caller: &Caller,
        request: &RegisterRequest,
        ids: &dyn Fn(&str) -> String,
        now: Now,
    ) -> Result<Registration, RegisterRefusal> {
        check::check_names_unique(request).map_err(RegisterRefusal::Invalid)?;
        let session = self.session_for(caller, request, ids)?;
        let call = Registering { caller, session: &session, ids, now };
        self.check_names(&call, request).map_err(RegisterRefusal::Conflict)?;
        self.check_pool_limits(caller, request).map_err(RegisterRefusal::PoolFull)?;
        self.check_limits(caller, &session, request)?;

        let mut done = Registration { session: session.clone(), ..Registration::default() };
        done.changes.extend(self.touch_session(caller, &session, now));
        self.drop_unnamed(&session, request, now, &mut done);
        for spec in &request.providers {
            self.apply_llm(&call, spec, &mut done);
        }
        for spec in &request.agents {
            self.apply_agent(&call, spec, &mut done);
        }
        done.warnings.extend(self.pending_warnings(caller, &done.llms));
        let llms = done.llms.iter().map(|llm| (llm.visibility, llm.name.as_str()));
        let agents = done.agents.iter().map(|agent| (agent.visibility, agent.name.as_str()));
        let published = llms.chain(agents).filter(|(visibility, _)| *visibility == Visibility::Public);
        done.warnings.extend(self.alias_warnings(caller, published.map(|(_, name)| name)));
        done.changes.append(&mut self.names.drain_changes());
        Ok(done)
    }

    /// Checks that the caller may have all names and name all pools of the call.
    fn check_names(&self, call: &Registering<'_>, request: &RegisterRequest) -> Result<(), String> {
        for spec in &request.providers {
            self.check_llm_free(call, &spec.name)?;
            self.check_name_owner(call.caller, &spec.name)?;
            self.check_pool_name(call.caller, &spec.name, spec.pool_name.as_deref())?;
        }
        for spec in &request.agents {
            self.check_agent_free(call, &spec.name)?;
            self.check_name_owner(call.caller, &spec.name)?;
        }
        Ok(())
    }

    /// The id of the call's session: the one that it names, unless it is missing or another user's.
    fn session_for(
        &self,
        caller: &Caller,
        request: &RegisterRequest,
        ids: &dyn Fn(&str) -> String,
    ) -> Result<String, RegisterRefusal> {
        let Some(id) = &request.provider_session_id else { return Ok(ids("sess")) };
        let id = SessionId::parse(id.as_str())
            .map_err(|error| RegisterRefusal::Invalid(format!("providerSessionId: {error}").into()))?;
        match self.sessions.get(id.as_str()) {
            Some(known) if known.record.owner != caller.user => Ok(ids("sess")),
            _ => Ok(id.into()),
        }
    }

    /// Creates the session, or starts it anew: the call counts as a heartbeat, and its channel is about to open.
    /// Returns the write of a new session; the heartbeat of a known one is stored by the next sweep.
    fn touch_session(&mut self, caller: &Caller, id: &str, now: Now) -> Option<Change> {
        let record = SessionRecord {
            id: id.to_owned(),
            owner: caller.user.clone(),
            last_heartbeat_at: now.wall,
            created_at: now.wall,
            hub: self.hub.clone(),
        };
        let is_new = !self.sessions.contains_key(id);
        if is_new {
            self.insert_session(Session::new(record.clone(), now));
        }
        let session = self.sessions.get_mut(id)?;
        let is_moved = session.record.hub != record.hub;
        if is_moved {
            session.record.hub.clone_from(&record.hub);
            (session.told, session.channel) = (None, ControlChannel::None);
            session.moved_at = Some(now.mono);
        }
        session.settled = false;
        session.deleted.clear();
        session.last_heartbeat = now.mono;
        session.record.last_heartbeat_at = now.wall;
        session.silent = false;
        session.draining = false;
        if let ControlChannel::Closed { .. } = session.channel {
            session.channel = ControlChannel::None;
        }
        if !is_new && !std::mem::replace(&mut session.unsaved, true) {
            self.unsaved_sessions.push(id.to_owned());
        }
        self.check_session_at(id, now.mono + self.heartbeat_timeout + MOMENT);
        self.mark_session_changed(id);
        let session = self.sessions.get(id)?;
        (is_new || is_moved).then(|| Change::PutSession(session.record.clone()))
    }

    /// Makes what the session no longer names inactive at once; heartbeats do not restore it.
    fn drop_unnamed(&mut self, session: &str, request: &RegisterRequest, now: Now, done: &mut Registration) {
        let Some(known) = self.sessions.get(session) else { return };
        let last_heartbeat = known.record.last_heartbeat_at;
        let llms: HashSet<&str> = request.providers.iter().map(|spec| spec.name.as_str()).collect();
        let agents: HashSet<&str> = request.agents.iter().map(|spec| spec.name.as_str()).collect();
        let changes = self.update_session_entries(session, |name, entry| {
            let (named, name, dropped) = match name {
                EntryName::Llm(name) => (llms.contains(name), name, &mut done.dropped_llms),
                EntryName::Agent(name) => (agents.contains(name), name, &mut done.dropped_agents),
            };
            if named {
                return false;
            }
            entry.set_status(Status::Inactive, now);
            *entry.registered = false;
            *entry.last_heartbeat_at = Some(last_heartbeat);
            dropped.push(name.to_owned());
            true
        });
        done.changes.extend(changes);
        if let Some(session) = self.sessions.get_mut(session) {
            done.dropped_llms.iter().for_each(|name| session.insert_llm(name, false));
            done.dropped_agents.iter().for_each(|name| session.insert_agent(name, false));
        }
    }
}
