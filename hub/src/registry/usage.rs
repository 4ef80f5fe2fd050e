//! How much of the table is each user's.

use wire::register::{AgentEntry as AgentSpec, ProviderEntry};

use super::Registry;
use crate::model::{Agent, Llm, UserId};

/// What a row or an agent counts for beside its texts.
const EACH: usize = 128;

/// How much a user has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) sessions: usize,
    pub(super) llms: usize,
    pub(super) agents: usize,
    /// Of rows and agents.
    pub(super) bytes: usize,
}

impl Registry {
    /// Changes how much `user` has. A user who has nothing is not in the table.
    pub(super) fn count(&mut self, user: &str, change: impl FnOnce(&mut Usage)) {
        let owned = self.usage.entry(user.to_owned()).or_default();
        change(owned);
        if *owned == Usage::default() {
            self.usage.remove(user);
        }
    }

    /// How much `user` has.
    pub(super) fn usage_of(&self, user: &UserId) -> Usage {
        self.usage.get(user).copied().unwrap_or_default()
    }

    /// Whether `user` has room for `new` bytes in place of `old` ones. One who is over the limit, by an older version's
    /// doing, may have less.
    pub(super) fn has_bytes(&self, user: &UserId, old: usize, new: usize) -> bool {
        new <= old || self.usage_of(user).bytes.saturating_sub(old) + new <= self.limits.row_bytes
    }

    /// The bytes of the row `name`, if it is `user`'s.
    pub(super) fn bytes_of_llm(&self, user: &UserId, name: &str) -> usize {
        let llm = self.llms.get(name).map(|entry| &entry.llm);
        llm.filter(|llm| llm.owner == *user).map_or(0, llm_bytes)
    }

    /// The bytes of the agent `name`, if it is `user`'s.
    pub(super) fn bytes_of_agent(&self, user: &UserId, name: &str) -> usize {
        let agent = self.agents.get(name).map(|entry| &entry.agent);
        agent.filter(|agent| agent.owner == *user).map_or(0, agent_bytes)
    }
}

fn sum<const N: usize>(texts: [Option<&str>; N]) -> usize {
    EACH + texts.into_iter().flatten().map(str::len).sum::<usize>()
}

/// What a row counts for.
pub(crate) fn llm_bytes(llm: &Llm) -> usize {
    let upstream = llm.upstream.as_ref();
    sum([
        Some(&llm.name),
        Some(&llm.provider_type),
        Some(&llm.model),
        llm.description.as_deref(),
        llm.pool_name.as_deref(),
        upstream.map(|upstream| upstream.url.as_str()),
        upstream.and_then(|upstream| upstream.api_key.as_deref()),
    ])
}

/// What an agent counts for.
pub(crate) fn agent_bytes(agent: &Agent) -> usize {
    sum([
        Some(&agent.name),
        Some(&agent.llm_name),
        agent.description.as_deref(),
        agent.system_prompt.as_deref(),
        agent.project.as_deref(),
        agent.default_params.as_deref().map(serde_json::value::RawValue::get),
        agent.extras.as_deref().map(serde_json::value::RawValue::get),
    ])
}

/// What the row of a register call will count for.
pub(super) fn provider_bytes(spec: &ProviderEntry) -> usize {
    sum([
        Some(&spec.name),
        Some(&spec.provider_type),
        Some(&spec.model),
        spec.description.as_deref(),
        spec.pool_name.as_deref(),
    ])
}

/// What the agent of a register call will count for.
pub(super) fn agent_entry_bytes(spec: &AgentSpec) -> usize {
    sum([
        Some(&spec.name),
        Some(&spec.llm_name),
        spec.description.as_deref(),
        spec.system_prompt.as_deref(),
        spec.project.as_deref(),
        spec.default_params.as_deref().map(serde_json::value::RawValue::get),
        spec.extras.as_deref().map(serde_json::value::RawValue::get),
    ])
}
