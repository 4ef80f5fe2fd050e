//! What a caller gets to see: every list, lookup and choice goes through here, so that the answer to a caller is a
//! function of the rows that this caller may see.

use wire::row::{AgentAdds, AgentRow, LlmRow, Status, Visibility};

use super::Registry;
use crate::model::{Agent, Caller, Llm, Role, UserId};

/// What an inference is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// A row's name, or a pool's key.
    pub name: String,
    /// Whether the whole pool of that key may answer, or the row alone.
    pub pool: bool,
    /// AgentRoute a private row or agent: only this user's members.
    pub only_owner: Option<UserId>,
    /// The agent through which the call comes.
    pub through: Option<AgentRoute>,
}

/// An agent as the way to an LLM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentRoute {
    /// The agent's name.
    pub agent: String,
    /// The agent's owner, where the agent stands for private rows of this user.
    pub opens: Option<UserId>,
}

/// Why an agent reaches nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedAgent {
    /// There is nothing by the name, or nothing for this caller.
    NoTarget,
    /// The name of its LLM is another user's than when the agent was made, and the caller sees what has it now.
    OwnerChanged,
}

impl Target {
    /// The name that texts for the caller use: the agent's, so that nothing is said of a row behind it.
    pub fn shown_name(&self) -> &str {
        self.through.as_ref().map_or(&self.name, |through| &through.agent)
    }
}

/// A pool as a caller sees it.
#[derive(Debug)]
pub struct PoolSummary {
    /// Its key.
    pub key: String,
    /// Whether a row names it as its `poolName`, or it is a pool of one.
    pub explicit: bool,
    /// How many members there are.
    pub size: usize,
    /// How many of them are active.
    pub active: usize,
}

impl Registry {
    /// The rows that `caller` sees, by name.
    pub fn llms<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Llm> {
        self.llms_after(caller, None)
    }

    /// The row `name`, if `caller` sees it.
    pub fn llm(&self, caller: &Caller, name: &str) -> Option<&Llm> {
        let llm = &self.llms.get(name)?.llm;
        caller.sees(llm.visibility, &llm.owner).then_some(llm)
    }

    /// The agents that `caller` sees, by name.
    pub fn agents<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Agent> {
        self.agents_after(caller, None)
    }

    /// The agent `name`, if `caller` sees it.
    pub fn agent(&self, caller: &Caller, name: &str) -> Option<&Agent> {
        let agent = &self.agents.get(name)?.agent;
        caller.sees(agent.visibility, &agent.owner).then_some(agent)
    }

    /// What `name` stands for: a row, unless its name is a pool's; then a pool. `None` for what `caller` cannot see.
    pub fn target(&self, caller: &Caller, name: &str) -> Option<Target> {
        if let Some(llm) = self.llm(caller, name) {
            let (pool, only_owner) = (self.key_of(llm) == name, private_owner(llm));
            return Some(Target { name: name.to_owned(), pool, only_owner, through: None });
        }
        let target = Target { name: name.to_owned(), pool: true, only_owner: None, through: None };
        let reaches = self.pool_members(name).any(|llm| self.may_reach(caller, &target, llm));
        reaches.then_some(target)
    }

    /// What an agent reaches: its LLM's row, and the pool that the row serves where that is whose the row's name is. A
    /// private row, or a pool with private members, that belongs to the agent's owner is reached by everybody who sees the
    /// agent, and only through it.
    pub fn agent_target(&self, caller: &Caller, agent: &Agent) -> Result<Target, UnresolvedAgent> {
        // What is called by the name must be whose it was when the agent was made; the owner's own where there was none.
        let pin = self.names.record(&agent.name).and_then(|record| record.pinned.as_ref());
        let pin = pin.filter(|pin| pin.name == agent.llm_name).map_or(&agent.owner, |pin| &pin.owner);
        if self.names.owner(&agent.llm_name) != Some(pin) {
            // Of a name that is taken by what the caller does not see nothing is told.
            let seen = self.visible_kind(caller, &agent.llm_name).is_some();
            return Err(if seen { UnresolvedAgent::OwnerChanged } else { UnresolvedAgent::NoTarget });
        }
        // Withdrawn, or its publisher is away: also for who waits, and for a task that was taken in before.
        if agent.status == Status::Inactive {
            return Err(UnresolvedAgent::NoTarget);
        }
        let private_agent = (agent.visibility == Visibility::Private).then(|| agent.owner.clone());
        let through = |opens: bool| {
            let opens = opens.then(|| agent.owner.clone());
            Some(AgentRoute { agent: agent.name.clone(), opens })
        };
        let reached = |llm: &Llm| {
            llm.visibility == Visibility::Public || [&agent.owner, &caller.user].contains(&&llm.owner)
        };
        let pinned = self.llms.get(&agent.llm_name);
        match pinned.filter(|entry| reached(&entry.llm)).map(|entry| (entry.key(), &entry.llm)) {
            // The row may have joined another user's pool since: who serves that was not the agent's maker's choice.
            Some((key, llm)) if self.names.owner(key) != Some(pin) => Ok(Target {
                name: llm.name.clone(),
                pool: false,
                only_owner: private_agent.or_else(|| private_owner(llm)),
                through: through(llm.visibility == Visibility::Private),
            }),
            Some((key, llm)) => Ok(Target {
                name: key.to_owned(),
                pool: true,
                only_owner: private_agent.or_else(|| private_owner(llm)),
                // Over a public row, the agent says nothing of its owner's private rows in the same pool.
                through: through(llm.visibility == Visibility::Private),
            }),
            None if self.pool_members(&agent.llm_name).inspect(|_| self.count_examined(1)).any(reached) => {
                Ok(Target {
                    name: agent.llm_name.clone(),
                    pool: true,
                    only_owner: private_agent,
                    through: through(true),
                })
            }
            None => Err(UnresolvedAgent::NoTarget),
        }
    }

    /// Whether a call of `caller` for `target` may go to the row. A private one serves its owner; everybody who sees an
    /// agent of its owner's that stands for it; and an admin who calls it by its own name.
    pub(super) fn may_reach(&self, caller: &Caller, target: &Target, llm: &Llm) -> bool {
        if llm.visibility == Visibility::Public || llm.owner == caller.user {
            return true;
        }
        match &target.through {
            Some(through) => {
                through.opens.as_ref() == Some(&llm.owner)
                    && self.agent(caller, &through.agent).is_some_and(|agent| agent.owner == llm.owner)
            }
            None => caller.role == Role::Admin && llm.name == target.name,
        }
    }

    fn key_of<'a>(&'a self, llm: &'a Llm) -> &'a str {
        self.llms.get(&llm.name).map_or(&llm.name, |entry| entry.key())
    }

    /// The agent as `caller` reads it: the name of its LLM only where the caller may know of that LLM.
    pub fn agent_row(&self, caller: &Caller, agent: &Agent) -> AgentRow {
        AgentRow { adds: agent.row().adds, ..self.agent_list_row(caller, agent) }
    }

    /// The same as it stands in a list.
    pub fn agent_list_row(&self, caller: &Caller, agent: &Agent) -> AgentRow {
        let own = caller.role == Role::Admin || caller.user == agent.owner;
        let known = own || self.target(caller, &agent.llm_name).is_some();
        let row = agent.list_row();
        let seen = self.seen(agent.session.as_ref(), agent.registered).or(agent.last_heartbeat_at);
        AgentRow { llm_name: row.llm_name.filter(|_| known), last_heartbeat_at: seen, ..row }
    }

    /// The row as `caller` reads it, with the last sign of life of its session.
    pub fn llm_row(&self, caller: &Caller, llm: &Llm) -> LlmRow {
        let row = LlmRow { last_heartbeat_at: self.last_heartbeat(llm), ..llm.row_for(caller) };
        self.with_pool(caller, llm, row)
    }

    /// The members of the pool `key` that `caller` sees.
    pub fn members(&self, caller: &Caller, key: &str) -> impl Iterator<Item = &Llm> {
        self.pool_members(key).filter(|llm| caller.sees(llm.visibility, &llm.owner))
    }

    /// The same behind the one of this name, in the same order.
    pub fn members_after(
        &self,
        caller: &Caller,
        key: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Llm> {
        self.pool_members_after(key, after).filter(|llm| caller.sees(llm.visibility, &llm.owner))
    }

    /// The pool that `name`, a row or a pool's key, stands for, without its members.
    pub fn pool(&self, caller: &Caller, name: &str) -> Option<PoolSummary> {
        let key = match self.llm(caller, name) {
            Some(llm) => self.key_of(llm),
            None => name,
        };
        let mut pool = PoolSummary { key: key.to_owned(), explicit: false, size: 0, active: 0 };
        for llm in self.members(caller, key) {
            pool.explicit |= self.pool_of(llm).is_some();
            pool.size += 1;
            pool.active += usize::from(llm.status == Status::Active);
        }
        (pool.size > 0).then_some(pool)
    }
}

/// Somebody who owns nothing: sees what everybody does.
fn anybody() -> Caller {
    Caller::member("")
}

impl Registry {
    /// Whether everybody may see something by this name.
    pub fn is_public_name(&self, name: &str) -> bool {
        self.target(&anybody(), name).is_some() || self.agent(&anybody(), name).is_some()
    }

    /// Whether everybody may see something of the session's.
    pub fn has_public_entries(&self, session: &str) -> bool {
        self.sessions.get(session).is_some_and(|session| {
            session.llms.iter().any(|name| self.llm(&anybody(), name).is_some())
                || session.agents.iter().any(|name| self.agent(&anybody(), name).is_some())
        })
    }

    /// How many publishers of such things have their channel open.
    pub fn open_public_sessions(&self) -> usize {
        self.sessions.iter().filter(|(id, session)| session.is_open() && self.has_public_entries(id)).count()
    }
}

fn private_owner(llm: &Llm) -> Option<UserId> {
    (llm.visibility == Visibility::Private).then(|| llm.owner.clone())
}

impl Llm {
    /// The row as callers read it.
    pub fn row(&self) -> LlmRow {
        LlmRow {
            id: self.id.clone(),
            name: self.name.clone(),
            provider_type: self.provider_type.clone(),
            model: self.model.clone(),
            tier: self.tier,
            description: self.description.clone(),
            kind: self.kind,
            status: self.status,
            last_heartbeat_at: self.last_heartbeat_at,
            inactive_since: self.inactive_since,
            pool_name: self.pool_name.clone(),
            waits_for: None,
            visibility: self.visibility,
            owner_id: Some(self.owner.clone()),
            provider_session_id: self.session.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            allow_remote_urls: self.allow_remote_urls,
            url: None,
        }
    }

    /// As above, for this caller: who may change a public row sees where it goes.
    pub fn row_for(&self, caller: &Caller) -> LlmRow {
        let shows = caller.role == Role::Admin;
        let url = self.upstream.as_ref().filter(|_| shows).map(|upstream| upstream.url.clone());
        LlmRow { url, ..self.row() }
    }
}

impl Agent {
    /// The agent as its owner and admins read it.
    pub fn row(&self) -> AgentRow {
        let adds = AgentAdds {
            system_prompt: self.system_prompt.clone(),
            default_params: self.default_params.clone(),
            extras: self.extras.clone(),
        };
        AgentRow { adds: Some(adds), ..self.list_row() }
    }

    /// As it stands in a list.
    fn list_row(&self) -> AgentRow {
        AgentRow {
            id: self.id.clone(),
            name: self.name.clone(),
            llm_name: Some(self.llm_name.clone()),
            description: self.description.clone(),
            project: self.project.clone(),
            adds: None,
            kind: self.kind,
            status: self.status,
            visibility: self.visibility,
            owner_id: Some(self.owner.clone()),
            provider_session_id: self.session.clone(),
            last_heartbeat_at: self.last_heartbeat_at,
            inactive_since: self.inactive_since,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}
