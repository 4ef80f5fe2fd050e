//! `POST /_provider-register`: a session's whole set, atomically. First everything is decided, then applied.

mod check;
mod conflict;
mod room;

pub use check::{MAX_ENTRIES, check};
pub(super) use check::{MAX_PROMPT, MAX_PROSE, name, object, params, prose, text};

use std::collections::HashSet;

use wire::SessionId;
use wire::register::{AgentEntry as AgentSpec, ProviderEntry, RegisterRequest};
use wire::row::{Kind, Status, Visibility};

use super::expiry::ExpiryKey;
use super::feed::FeedKey;
use super::sweep::MOMENT;
use super::{ControlChannel, Registry, Session};
use crate::clock::Now;
use crate::model::{Agent, Caller, Llm, SessionRecord};
use crate::store::Change;

/// A register call that was applied.
#[derive(Debug)]
pub struct Registration {
    /// The id that the publisher uses from now on.
    pub session: String,
    /// Its rows, as named.
    pub llms: Vec<Llm>,
    /// Its agents, as named.
    pub agents: Vec<Agent>,
    /// For the publisher's owner: what was not done as asked, and to which row.
    pub warnings: Vec<String>,
    /// To be committed before the call is answered.
    pub changes: Vec<Change>,
}

/// A register call of which nothing was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterRefusal {
    /// Not what the route takes: 400.
    Invalid(String),
    /// A name or a pool is somebody else's: 409.
    Conflict(String),
    /// The caller has so many of these already: 429.
    TooMany(usize, &'static str),
    /// The caller's rows and agents are so many bytes already: 429.
    TooLarge(usize),
}

impl Registry {
    /// Registers what passed [`check`], or says why not. `ids` makes an id nobody can guess, with a prefix.
    pub fn register(
        &mut self,
        caller: &Caller,
        request: &RegisterRequest,
        ids: &dyn Fn(&str) -> String,
        now: Now,
    ) -> Result<Registration, RegisterRefusal> {
        check::named_once(request).map_err(RegisterRefusal::Invalid)?;
        let session = self.session_for(caller, request, ids)?;
        for spec in &request.providers {
            self.may_publish(caller, &session, spec, now).map_err(RegisterRefusal::Conflict)?;
            self.check_name_owner(caller, &spec.name).map_err(RegisterRefusal::Conflict)?;
            self.check_pool_name(caller, &spec.name, spec.pool_name.as_deref())
                .map_err(RegisterRefusal::Conflict)?;
        }
        for spec in &request.agents {
            self.may_publish_agent(caller, &session, spec, now).map_err(RegisterRefusal::Conflict)?;
            self.check_name_owner(caller, &spec.name).map_err(RegisterRefusal::Conflict)?;
        }
        self.has_pools_room(caller, request).map_err(RegisterRefusal::Conflict)?;
        self.has_room(caller, &session, request)?;

        let mut done = Registration {
            session: session.clone(),
            llms: Vec::with_capacity(request.providers.len()),
            agents: Vec::with_capacity(request.agents.len()),
            warnings: Vec::new(),
            changes: Vec::new(),
        };
        self.touch_session(caller, &session, now, &mut done.changes);
        self.drop_unnamed(&session, request, now, &mut done.changes);
        for spec in &request.providers {
            self.apply_llm(caller, &session, spec, ids, now, &mut done);
        }
        for spec in &request.agents {
            self.apply_agent(caller, &session, spec, ids, now, &mut done);
        }
        done.warnings.extend(self.pending_warnings(caller, &done.llms));
        done.changes.append(&mut self.names.drain_changes());
        Ok(done)
    }

    /// The session that the call is for: the one it names, unless that is another user's.
    fn session_for(
        &self,
        caller: &Caller,
        request: &RegisterRequest,
        ids: &dyn Fn(&str) -> String,
    ) -> Result<String, RegisterRefusal> {
        let Some(id) = &request.provider_session_id else { return Ok(ids("sess")) };
        let id = SessionId::parse(id.as_str())
            .map_err(|error| RegisterRefusal::Invalid(format!("providerSessionId: {error}")))?;
        match self.sessions.get(id.as_str()) {
            Some(known) if known.record.owner != caller.user => Ok(ids("sess")),
            _ => Ok(id.into()),
        }
    }

    fn touch_session(&mut self, caller: &Caller, id: &str, now: Now, changes: &mut Vec<Change>) {
        if !self.sessions.contains_key(id) {
            let record = SessionRecord {
                id: id.to_owned(),
                owner: caller.user.clone(),
                last_heartbeat_at: now.wall,
                created_at: now.wall,
            };
            self.insert_session(Session::new(record, now));
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.settled = false;
        session.deleted.clear();
        session.last_heartbeat = now.mono;
        session.record.last_heartbeat_at = now.wall;
        session.silent = false;
        session.draining = false;
        if let ControlChannel::Closed { .. } = session.channel {
            session.channel = ControlChannel::None;
        }
        let at = session.last_heartbeat + self.heartbeat_timeout + MOMENT;
        self.expiry.check_at(&mut session.due, at, || ExpiryKey::Session(id.into()));
        changes.push(Change::PutSession(session.record.clone()));
        self.mark_session_changed(id);
    }

    /// What the session had and does not name any more: inactive at once, and never revived.
    fn drop_unnamed(
        &mut self,
        session: &str,
        request: &RegisterRequest,
        now: Now,
        changes: &mut Vec<Change>,
    ) {
        let Some(held) = self.sessions.get(session) else { return };
        let (retention, seen) = (self.retention, Some(held.record.last_heartbeat_at));
        // It may hold thousands from earlier calls.
        let llms: HashSet<&String> = request.providers.iter().map(|spec| &spec.name).collect();
        let agents: HashSet<&String> = request.agents.iter().map(|spec| &spec.name).collect();
        for name in &held.llms {
            if llms.contains(name) {
                continue;
            }
            if let Some(entry) = self.llms.get_mut(name)
                && (entry.set_status(Status::Inactive, now) || entry.llm.registered)
            {
                entry.llm.registered = false;
                entry.llm.last_heartbeat_at = seen;
                changes.push(entry.put());
                let at = entry.inactive_at + retention;
                self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Llm(name.as_str().into()));
                self.feed.change(&mut entry.version, || FeedKey::Llm(name.as_str().into()));
            }
        }
        for name in &held.agents {
            if agents.contains(name) {
                continue;
            }
            if let Some(entry) = self.agents.get_mut(name)
                && (entry.set_status(Status::Inactive, now) || entry.agent.registered)
            {
                entry.agent.registered = false;
                entry.agent.last_heartbeat_at = seen;
                changes.push(entry.put());
                let at = entry.inactive_at + retention;
                self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Agent(name.as_str().into()));
            }
        }
    }

    fn apply_llm(
        &mut self,
        caller: &Caller,
        session: &str,
        spec: &ProviderEntry,
        ids: &dyn Fn(&str) -> String,
        now: Now,
        done: &mut Registration,
    ) {
        let status = match spec.initial_status {
            Status::Hibernating => Status::Hibernating,
            Status::Active | Status::Inactive => Status::Active,
        };
        let old = self.llms.get(&spec.name).map(|entry| entry.llm.clone());
        let visibility = match &old {
            Some(old) => tightened(&format!("LLM {}", old.name), old.visibility, spec.visibility, done),
            None => spec.visibility,
        };
        if let Some(id) = old.as_ref().and_then(|old| old.session.as_ref()).filter(|id| *id != session)
            && let Some(before) = self.sessions.get_mut(id)
        {
            before.llms.remove(&spec.name);
            self.expire_empty_session(Some(id));
        }
        let llm = Llm {
            id: old.as_ref().map_or_else(|| ids("llm"), |old| old.id.clone()),
            name: spec.name.clone(),
            provider_type: spec.provider_type.clone(),
            model: spec.model.clone(),
            tier: spec.tier,
            description: spec.description.clone(),
            kind: Kind::Virtual,
            status,
            declared: status,
            last_heartbeat_at: Some(now.wall),
            inactive_since: None,
            pool_name: spec.pool_name.clone(),
            visibility,
            owner: caller.user.clone(),
            session: Some(session.to_owned()),
            registered: true,
            created_at: old.as_ref().map_or(now.wall, |old| old.created_at),
            updated_at: now.wall,
            upstream: None,
            timeout_seconds: spec.timeout_seconds,
            allow_remote_urls: spec.allow_remote_urls,
        };
        done.llms.push(llm.clone());
        done.changes.push(Change::PutLlm(Box::new(llm.clone())));
        self.put_llm(llm, now);
        if let Some(entry) = self.llms.get_mut(&spec.name) {
            entry.report = None;
            entry.registered_capacity = spec.max_concurrency;
        }
        if let Some(holder) = self.sessions.get_mut(session) {
            holder.llms.insert(spec.name.clone());
        }
    }

    fn apply_agent(
        &mut self,
        caller: &Caller,
        session: &str,
        spec: &AgentSpec,
        ids: &dyn Fn(&str) -> String,
        now: Now,
        done: &mut Registration,
    ) {
        let old = self.agents.get(&spec.name).map(|entry| entry.agent.clone());
        let visibility = match &old {
            Some(old) => tightened(&format!("Agent {}", old.name), old.visibility, spec.visibility, done),
            None => spec.visibility,
        };
        if let Some(id) = old.as_ref().and_then(|old| old.session.as_ref()).filter(|id| *id != session)
            && let Some(before) = self.sessions.get_mut(id)
        {
            before.agents.remove(&spec.name);
            self.expire_empty_session(Some(id));
        }
        let agent = Agent {
            id: old.as_ref().map_or_else(|| ids("agent"), |old| old.id.clone()),
            name: spec.name.clone(),
            llm_name: spec.llm_name.clone(),
            description: spec.description.clone(),
            system_prompt: spec.system_prompt.clone(),
            project: spec.project.clone(),
            default_params: spec.default_params.clone(),
            extras: spec.extras.clone(),
            kind: Kind::Virtual,
            status: Status::Active,
            last_heartbeat_at: Some(now.wall),
            inactive_since: None,
            visibility,
            owner: caller.user.clone(),
            session: Some(session.to_owned()),
            registered: true,
            created_at: old.as_ref().map_or(now.wall, |old| old.created_at),
            updated_at: now.wall,
        };
        done.agents.push(agent.clone());
        done.changes.push(Change::PutAgent(Box::new(agent.clone())));
        self.put_agent(agent, now);
        self.pin_agent(caller, &spec.name, &spec.llm_name, false);
        if let Some(holder) = self.sessions.get_mut(session) {
            holder.agents.insert(spec.name.clone());
        }
    }
}

/// Visibility may be tightened, never loosened; a difference is a warning that names what it is about.
fn tightened(what: &str, old: Visibility, asked: Visibility, done: &mut Registration) -> Visibility {
    match (old, asked) {
        (Visibility::Private, Visibility::Public) => {
            done.warnings.push(format!("{what} stays private: a later register call cannot make it public; publish it under another name, or let an admin delete its row while it is not published"));
        }
        (Visibility::Public, Visibility::Private) => {
            done.warnings.push(format!("{what} was public and is private from now on"));
        }
        _ => return old,
    }
    Visibility::Private
}
