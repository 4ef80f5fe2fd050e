//! Rows and agents of a register call: inserted, or put in place of older ones.

use wire::register::{AgentEntry as RegisterAgent, ProviderEntry};
use wire::row::{Kind, Status, Visibility};

use super::{Registering, Registration};
use crate::model::{Agent, Llm};
use crate::registry::Registry;
use crate::registry::session::Session;
use crate::store::Change;

impl Registry {
    /// Removes an entry from the session that registered it before.
    fn leave_session(&mut self, former: Option<&str>, remove: impl FnOnce(&mut Session)) {
        if let Some(id) = former
            && let Some(session) = self.sessions.get_mut(id)
        {
            remove(session);
            self.expire_empty_session(Some(id));
        }
    }

    /// Inserts or replaces the row of `spec`.
    pub(super) fn apply_llm(
        &mut self,
        call: &Registering<'_>,
        spec: &ProviderEntry,
        done: &mut Registration,
    ) {
        let status = match spec.initial_status {
            Status::Hibernating => Status::Hibernating,
            Status::Active | Status::Inactive => Status::Active,
        };
        let old = self.llms.get(&spec.name).map(|entry| entry.llm.clone());
        let visibility = match &old {
            Some(old) => tighten(&format!("LLM {}", old.name), old.visibility, spec.visibility, done),
            None => spec.visibility,
        };
        let former = old.as_ref().and_then(|old| old.session.as_deref());
        self.leave_session(former.filter(|id| *id != call.session), |session| session.remove_llm(&spec.name));
        let mut llm = Llm {
            id: old.as_ref().map_or_else(|| (call.ids)("llm"), |old| old.id.clone()),
            name: spec.name.clone(),
            provider_type: spec.provider_type.clone(),
            model: spec.model.clone(),
            tier: spec.tier,
            description: spec.description.clone(),
            kind: Kind::Virtual,
            status,
            declared: status,
            last_heartbeat_at: Some(call.now.wall),
            inactive_since: None,
            pool_name: spec.pool_name.clone(),
            visibility,
            owner: call.caller.user.clone(),
            session: Some(call.session.to_owned()),
            registered: true,
            created_at: old.as_ref().map_or(call.now.wall, |old| old.created_at),
            updated_at: call.now.wall,
            upstream: None,
            timeout_seconds: spec.timeout_seconds,
            allow_remote_urls: spec.allow_remote_urls,
            abilities: spec.abilities(),
        };
        match old.filter(|old| old.is_same(&llm)) {
            Some(old) => llm.updated_at = old.updated_at,
            None => done.changes.push(Change::PutLlm(Box::new(llm.clone()))),
        }
        done.llms.push(llm.clone());
        self.put_llm(llm, call.now);
        if let Some(entry) = self.llms.get_mut(&spec.name) {
            entry.report = None;
            entry.registered_capacity = spec.max_concurrency;
        }
        if let Some(session) = self.sessions.get_mut(call.session) {
            session.insert_llm(&spec.name, true);
        }
    }

    /// Inserts or replaces the agent of `spec`.
    pub(super) fn apply_agent(
        &mut self,
        call: &Registering<'_>,
        spec: &RegisterAgent,
        done: &mut Registration,
    ) {
        let old = self.agents.get(&spec.name).map(|entry| entry.agent.clone());
        let visibility = match &old {
            Some(old) => tighten(&format!("Agent {}", old.name), old.visibility, spec.visibility, done),
            None => spec.visibility,
        };
        let former = old.as_ref().and_then(|old| old.session.as_deref());
        self.leave_session(former.filter(|id| *id != call.session), |session| {
            session.remove_agent(&spec.name);
        });
        let mut agent = Agent {
            id: old.as_ref().map_or_else(|| (call.ids)("agent"), |old| old.id.clone()),
            name: spec.name.clone(),
            llm_name: spec.llm_name.clone(),
            description: spec.description.clone(),
            system_prompt: spec.system_prompt.clone(),
            project: spec.project.clone(),
            default_params: spec.default_params.clone(),
            extras: spec.extras.clone(),
            kind: Kind::Virtual,
            status: Status::Active,
            last_heartbeat_at: Some(call.now.wall),
            inactive_since: None,
            visibility,
            owner: call.caller.user.clone(),
            session: Some(call.session.to_owned()),
            registered: true,
            created_at: old.as_ref().map_or(call.now.wall, |old| old.created_at),
            updated_at: call.now.wall,
        };
        match old.filter(|old| old.is_same(&agent)) {
            Some(old) => agent.updated_at = old.updated_at,
            None => done.changes.push(Change::PutAgent(Box::new(agent.clone()))),
        }
        done.agents.push(agent.clone());
        self.put_agent(agent, call.now);
        self.pin_agent(call.caller, &spec.name, &spec.llm_name, false);
        if let Some(session) = self.sessions.get_mut(call.session) {
            session.insert_agent(&spec.name, true);
        }
    }
}

/// The visibility after a register call: it may become private, never public. A difference is a warning.
fn tighten(entry: &str, old: Visibility, requested: Visibility, done: &mut Registration) -> Visibility {
    match (old, requested) {
        (Visibility::Private, Visibility::Public) => {
            done.warnings.push(format!("{entry} stays private: a later register call cannot make it public; publish it under another name, or let an admin delete its row while it is not published"));
        }
        (Visibility::Public, Visibility::Private) => {
            done.warnings.push(format!("{entry} was public and is private from now on"));
        }
        _ => return old,
    }
    Visibility::Private
}
