//! Insertion and removal of rows and agents: the one place that keeps all indices in step.

use wire::row::Visibility;

use super::entry::{AgentEntry, LlmEntry};
use super::expiry::ExpiryKey;
use super::feed::FeedKey;
use super::{Registry, usage};
use crate::clock::Now;
use crate::model::{Agent, Llm};
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
        let bytes = usage::llm_bytes(&llm);
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
            self.update_name_use(pool, now);
        }
        self.update_name_use(name, now);
        if let Some(session) = llm.session.as_ref().and_then(|id| self.sessions.get_mut(id)) {
            session.llms.remove(name);
        }
        self.expire_empty_session(llm.session.as_deref());
        Some(Change::DeleteLlm(llm.id))
    }

    /// Inserts or replaces an agent, and claims its name for its owner if it is free.
    pub(crate) fn put_agent(&mut self, agent: Agent, now: Now) {
        let name = agent.name.clone();
        self.claim_name(&name, &agent.owner, now);
        let bytes = usage::agent_bytes(&agent);
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
            session.agents.remove(name);
        }
        self.expire_empty_session(agent.session.as_deref());
        self.update_name_use(name, now);
        Some(Change::DeleteAgent(agent.id))
    }

    /// Removes the row as it is now from the list index and from its owner's usage.
    fn unindex_llm(&mut self, name: &str) {
        let Some(llm) = self.llms.get(name).map(|entry| &entry.llm) else { return };
        let (bytes, owner) = (usage::llm_bytes(llm), llm.owner.clone());
        self.visible_llms.remove(name, llm.visibility, &owner);
        self.update_usage(&owner, |usage| {
            usage.llms -= 1;
            usage.bytes = usage.bytes.saturating_sub(bytes);
        });
    }

    /// Removes the agent as it is now from the list index and from its owner's usage.
    fn unindex_agent(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name).map(|entry| &entry.agent) else { return };
        let (bytes, owner) = (usage::agent_bytes(agent), agent.owner.clone());
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
