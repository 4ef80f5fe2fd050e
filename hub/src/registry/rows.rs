//! Insertion and removal of rows and agents: the one place that keeps all indices and the usage of each user in step.

use std::sync::Arc;

use serde_json::value::RawValue;
use wire::register::{AgentEntry as RegisterAgent, ProviderEntry};
use wire::row::Visibility;

use super::Registry;
use super::entry::{AgentEntry, ExpiryKey, LlmEntry};
use super::feed::FeedKey;
use crate::clock::Now;
use crate::model::{Agent, Llm, UserId, bytes_of};
use crate::store::Change;

impl Registry {
    /// Inserts or replaces a row, and claims its name and its pool's name for its owner if they are free.
    pub(crate) fn put_llm(&mut self, llm: Llm, now: Now) {
        for name in std::iter::once(&llm.name).chain(&llm.pool_name) {
            self.claim_name(name, &llm.owner, now);
        }
        self.insert_llm(llm, now);
    }

    /// Inserts or replaces a row without claiming names.
    pub(super) fn insert_llm(&mut self, llm: Llm, now: Now) {
        let name = llm.name.clone();
        let pool = llm.pool_name.clone();
        let bytes = llm.bytes();
        self.update_usage(&llm.owner, |usage| {
            usage.llms += 1;
            usage.bytes += bytes;
        });
        self.unindex_llm(&name);
        self.visible_llms.insert(&name, llm.visibility, &llm.owner);
        if let Some(pool) = &pool {
            self.join_pool(pool, llm.visibility, &llm.owner);
        }
        let old_pool = if let Some(entry) = self.llms.get_mut(&name) {
            let old = std::mem::replace(&mut entry.llm, llm);
            entry.usage_support = Arc::default();
            if old.owner != entry.llm.owner {
                entry.cache = Arc::default();
            }
            if old.visibility == Visibility::Public && entry.llm.visibility == Visibility::Private {
                self.feed.hide(FeedKey::Llm(name.as_str().into()), old.visibility, &old.owner);
            }
            if let Some(pool) = &old.pool_name {
                self.leave_pool(pool, &name, old.visibility, &old.owner);
            }
            old.pool_name
        } else {
            self.llms.insert(name.clone(), Box::new(LlmEntry::new(llm, now)));
            None
        };
        self.mark_changed(&name);
        if old_pool != pool {
            if let Some(old_pool) = old_pool {
                self.update_name_use(&old_pool, now);
            }
            if pool.is_none()
                && let Some(entry) = self.llms.get_mut(&name)
            {
                (entry.member, entry.admitted_capacity) = (false, None);
            }
        }
        self.update_name_use(&name, now);
        if let Some(pool) = pool {
            self.place_row(&pool, &name);
            self.update_name_use(&pool, now);
        }
    }

    pub(crate) fn remove_llm(&mut self, name: &str, now: Now) -> Option<Change> {
        self.unindex_llm(name);
        let LlmEntry { llm, version, due, .. } = *self.llms.remove(name)?;
        self.feed.remove(version, llm.visibility, &llm.owner);
        self.expiry.remove(due, ExpiryKey::Llm(name.into()));
        if let Some(pool) = &llm.pool_name {
            self.leave_pool(pool, name, llm.visibility, &llm.owner);
            if self.sweeping {
                self.swept_pools.insert(pool.clone());
            } else {
                self.update_name_use(pool, now);
            }
        }
        self.update_name_use(name, now);
        if let Some(session) = llm.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.remove_llm(name);
        }
        self.expire_empty_session(llm.session.as_deref());
        Some(Change::DeleteLlm(llm.id))
    }

    /// Inserts or replaces an agent, and claims its name for its owner if it is free.
    pub(crate) fn put_agent(&mut self, agent: Agent, now: Now) {
        let name = agent.name.clone();
        self.claim_name(&name, &agent.owner, now);
        let bytes = agent.bytes();
        self.update_usage(&agent.owner, |usage| {
            usage.agents += 1;
            usage.bytes += bytes;
        });
        self.feed.touch();
        self.unindex_agent(&name);
        self.visible_agents.insert(&name, agent.visibility, &agent.owner);
        if let Some(entry) = self.agents.get_mut(&name) {
            entry.agent = agent;
        } else {
            let entry = AgentEntry { agent, inactive_at: now.mono, due: None };
            self.agents.insert(name.clone(), entry);
        }
        self.update_name_use(&name, now);
    }

    pub(crate) fn remove_agent(&mut self, name: &str, now: Now) -> Option<Change> {
        self.feed.touch();
        self.unindex_agent(name);
        let AgentEntry { agent, due, .. } = self.agents.remove(name)?;
        self.expiry.remove(due, ExpiryKey::Agent(name.into()));
        if let Some(session) = agent.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.remove_agent(name);
        }
        self.expire_empty_session(agent.session.as_deref());
        self.update_name_use(name, now);
        Some(Change::DeleteAgent(agent.id))
    }

    /// Removes the row as it is now from the list index and from its owner's usage.
    fn unindex_llm(&mut self, name: &str) {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return };
        let (bytes, owner) = (llm.bytes(), llm.owner.clone());
        self.visible_llms.remove(name, llm.visibility, &owner);
        self.update_usage(&owner, |usage| {
            usage.llms -= 1;
            usage.bytes = usage.bytes.saturating_sub(bytes);
        });
    }

    /// Removes the agent as it is now from the list index and from its owner's usage.
    fn unindex_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return };
        let (bytes, owner) = (agent.bytes(), agent.owner.clone());
        self.visible_agents.remove(name, agent.visibility, &owner);
        self.update_usage(&owner, |usage| {
            usage.agents -= 1;
            usage.bytes = usage.bytes.saturating_sub(bytes);
        });
    }

    /// Schedules the deletion checks of all inactive rows and agents.
    pub(super) fn schedule_all_expiries(&mut self) {
        for (name, entry) in &mut self.llms {
            let key = || ExpiryKey::Llm(name.as_str().into());
            entry.lifecycle().schedule_expiry(&mut self.expiry, self.retention, key);
        }
        for (name, entry) in &mut self.agents {
            let key = || ExpiryKey::Agent(name.as_str().into());
            entry.lifecycle().schedule_expiry(&mut self.expiry, self.retention, key);
        }
    }
}

/// What a user has in the table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) sessions: usize,
    pub(super) llms: usize,
    pub(super) agents: usize,
    /// Bytes of rows and agents.
    pub(super) bytes: usize,
}

impl Registry {
    /// Applies `change` to the usage of `user`. Users at zero are removed.
    pub(super) fn update_usage(&mut self, user: &str, change: impl FnOnce(&mut Usage)) {
        let usage = self.usage.entry(user.to_owned()).or_default();
        change(usage);
        if *usage == Usage::default() {
            self.usage.remove(user);
        }
    }

    pub(super) fn usage_of(&self, user: &UserId) -> Usage {
        self.usage.get(user).copied().unwrap_or_default()
    }

    /// Whether `user` may have `new` bytes in place of `old` ones. A user over the limit may still shrink.
    pub(super) fn has_bytes(&self, user: &UserId, old: usize, new: usize) -> bool {
        new <= old || self.usage_of(user).bytes.saturating_sub(old) + new <= self.limits.row_bytes
    }

    /// Bytes of the row `name`; 0 if it is not `user`'s.
    pub(super) fn bytes_of_llm(&self, user: &UserId, name: &str) -> usize {
        let llm = self.llms.get(name).map(|entry| &entry.llm);
        llm.filter(|llm| llm.owner == *user).map_or(0, Llm::bytes)
    }

    /// Bytes of the agent `name`; 0 if it is not `user`'s.
    pub(super) fn bytes_of_agent(&self, user: &UserId, name: &str) -> usize {
        let agent = self.agents.get(name).map(|entry| &entry.agent);
        agent.filter(|agent| agent.owner == *user).map_or(0, Agent::bytes)
    }
}

/// Bytes that the row of a register call will count.
pub(super) fn provider_bytes(spec: &ProviderEntry) -> usize {
    bytes_of([
        Some(&spec.name),
        Some(&spec.provider_type),
        Some(&spec.model),
        spec.description.as_deref(),
        spec.pool_name.as_deref(),
    ])
}

/// Bytes that the agent of a register call will count.
pub(super) fn agent_entry_bytes(spec: &RegisterAgent) -> usize {
    bytes_of([
        Some(&spec.name),
        Some(&spec.llm_name),
        spec.description.as_deref(),
        spec.system_prompt.as_deref(),
        spec.project.as_deref(),
        spec.default_params.as_deref().map(RawValue::get),
        spec.extras.as_deref().map(RawValue::get),
    ])
}
