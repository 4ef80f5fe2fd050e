//! Targets: the row, or the pool, to which a name leads, and who may reach which row by it (SPEC.md section 5).

use wire::row::{Status, Visibility};

use super::Registry;
use crate::model::{Agent, Caller, Llm, Role, UserId};

/// What a call is for: a row, or the rows of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// A row's name, or a pool's key.
    pub name: String,
    /// The owner of `name` when the target was resolved.
    pub owner: Option<UserId>,
    /// Whether all rows of the pool may answer, or the row alone.
    pub pool: bool,
    /// Restricts the rows to this owner's: for a call through a private row or agent.
    pub only_owner: Option<UserId>,
    /// The agent through which the call comes.
    pub through: Option<AgentRoute>,
}

/// An agent through which a call comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AgentRoute {
    pub agent: String,
    /// The owner of the agent's name when the target was resolved.
    pub owner: Option<UserId>,
    /// The agent's owner, if the agent opens private rows of this user.
    pub opens: Option<UserId>,
}

/// Reason why an agent has no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnresolvedAgent {
    /// The agent is away, or its LLM is: unknown, away or hidden.
    NoTarget,
    /// The LLM's name has another owner than when the agent was made, and the caller sees what has the name.
    OwnerChanged,
}

impl Target {
    /// The name in texts for the caller: the agent's, so that a row behind it stays hidden.
    pub fn shown_name(&self) -> &str {
        self.through.as_ref().map_or(&self.name, |route| &route.agent)
    }

    /// The owner of [`shown_name`](Self::shown_name).
    pub fn shown_owner(&self) -> Option<&UserId> {
        self.through.as_ref().map_or(&self.owner, |route| &route.owner).as_ref()
    }

    /// Whether [`Target::only_owner`] permits the row.
    pub(super) fn allows_owner(&self, llm: &Llm) -> bool {
        self.only_owner.as_ref().is_none_or(|owner| *owner == llm.owner)
    }
}

impl Registry {
    /// Resolves `name` to a row, or to a pool if the row serves the pool of its own name or no visible row has the name.
    pub fn target(&self, caller: &Caller, name: &str) -> Option<Target> {
        if let Some(llm) = self.llm(caller, name) {
            let (pool, only_owner) = (self.key_of(llm) == name, private_owner(llm));
            return Some(self.target_of(name, pool, only_owner));
        }
        let target = self.target_of(name, true, None);
        let reaches = caller.models.has(name)
            && self.pool_members(name).any(|llm| self.may_reach(caller, &target, llm));
        reaches.then_some(target)
    }

    /// The target `name`, which no agent leads to.
    fn target_of(&self, name: &str, pool: bool, only_owner: Option<UserId>) -> Target {
        let owner = self.names.owner(name).cloned();
        Target { name: name.to_owned(), owner, pool, only_owner, through: None }
    }

    /// Resolves an agent to its LLM's row, or to the pool that the row serves if both names have the same owner.
    ///
    /// Private rows of the agent's owner are reached by every caller who sees the agent, through the agent only
    /// (SPEC.md section 5, visibility and agents).
    pub fn agent_target(&self, caller: &Caller, agent: &Agent) -> Result<Target, UnresolvedAgent> {
        let pin = self.pin_of(agent);
        if self.names.owner(&agent.llm_name) != Some(pin) {
            let seen = self.visible_kind(caller, &agent.llm_name).is_some();
            return Err(if seen { UnresolvedAgent::OwnerChanged } else { UnresolvedAgent::NoTarget });
        }
        // Withdrawn or away: ends also calls that wait, and durable tasks that were accepted before.
        if agent.status == Status::Inactive {
            return Err(UnresolvedAgent::NoTarget);
        }
        let private_agent = (agent.visibility == Visibility::Private).then(|| agent.owner.clone());
        let through = |opens: bool| {
            let opens = opens.then(|| agent.owner.clone());
            let owner = self.names.owner(&agent.name).cloned();
            Some(AgentRoute { agent: agent.name.clone(), owner, opens })
        };
        let reached = |llm: &Llm| {
            llm.visibility == Visibility::Public || [&agent.owner, &caller.user].contains(&&llm.owner)
        };
        let pinned = self.llms.get(&agent.llm_name);
        if let Some(entry) = pinned.filter(|entry| reached(&entry.llm)) {
            let (key, llm) = (entry.key(), &entry.llm);
            // A row in another user's pool stands for itself: the agent's maker did not choose the pool.
            let pool = self.names.owner(key) == Some(pin);
            let only_owner = private_agent.or_else(|| private_owner(llm));
            // An agent over a public row opens no private rows of the same pool.
            let through = through(llm.visibility == Visibility::Private);
            let name = if pool { key } else { &llm.name };
            return Ok(Target { through, ..self.target_of(name, pool, only_owner) });
        }
        if self.pool_members(&agent.llm_name).inspect(|_| self.count_examined(1)).any(reached) {
            let target = self.target_of(&agent.llm_name, true, private_agent);
            return Ok(Target { through: through(true), ..target });
        }
        Err(UnresolvedAgent::NoTarget)
    }

    /// The owner that the LLM's name of an agent must have: the one to which the agent is pinned; without a pin, the agent's.
    fn pin_of<'a>(&'a self, agent: &'a Agent) -> &'a UserId {
        let pin = self.names.record(&agent.name).and_then(|record| record.pinned.as_ref());
        pin.filter(|pin| pin.name == agent.llm_name).map_or(&agent.owner, |pin| &pin.owner)
    }

    /// Whether the LLM's name of an agent has the owner that it must have.
    pub fn has_its_llm(&self, agent: &Agent) -> bool {
        self.names.owner(&agent.llm_name) == Some(self.pin_of(agent))
    }

    /// Whether a call of `caller` for `target` may be sent to the row (SPEC.md section 5, visibility).
    ///
    /// A private row serves its owner, callers who see an agent of its owner that opens it, and an admin by its own name.
    pub(super) fn may_reach(&self, caller: &Caller, target: &Target, llm: &Llm) -> bool {
        if llm.visibility == Visibility::Public || llm.owner == caller.user {
            return true;
        }
        match &target.through {
            Some(route) => {
                route.opens.as_ref() == Some(&llm.owner)
                    && self.agent(caller, &route.agent).is_some_and(|agent| agent.owner == llm.owner)
            }
            None => caller.role == Role::Admin && llm.name == target.name,
        }
    }

    /// The effective pool key of the row.
    pub(super) fn key_of<'a>(&'a self, llm: &'a Llm) -> &'a str {
        self.llms.get(&llm.name).map_or(&llm.name, |entry| entry.key())
    }
}

fn private_owner(llm: &Llm) -> Option<UserId> {
    (llm.visibility == Visibility::Private).then(|| llm.owner.clone())
}
