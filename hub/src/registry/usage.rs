//! Per-user usage of the table: sessions, rows, agents and their bytes.

use serde_json::value::RawValue;
use wire::register::{AgentEntry as RegisterAgent, ProviderEntry};

use super::Registry;
use crate::model::{Agent, Llm, UserId};

/// Bytes that a row or an agent counts beside its texts.
const OVERHEAD: usize = 128;

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
        llm.filter(|llm| llm.owner == *user).map_or(0, llm_bytes)
    }

    /// Bytes of the agent `name`; 0 if it is not `user`'s.
    pub(super) fn bytes_of_agent(&self, user: &UserId, name: &str) -> usize {
        let agent = self.agents.get(name).map(|entry| &entry.agent);
        agent.filter(|agent| agent.owner == *user).map_or(0, agent_bytes)
    }
}

fn sum<const N: usize>(texts: [Option<&str>; N]) -> usize {
    OVERHEAD + texts.into_iter().flatten().map(str::len).sum::<usize>()
}

/// Bytes that a row counts.
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

/// Bytes that an agent counts.
pub(crate) fn agent_bytes(agent: &Agent) -> usize {
    sum([
        Some(&agent.name),
        Some(&agent.llm_name),
        agent.description.as_deref(),
        agent.system_prompt.as_deref(),
        agent.project.as_deref(),
        agent.default_params.as_deref().map(RawValue::get),
        agent.extras.as_deref().map(RawValue::get),
    ])
}

/// Bytes that the row of a register call will count.
pub(super) fn provider_bytes(spec: &ProviderEntry) -> usize {
    sum([
        Some(&spec.name),
        Some(&spec.provider_type),
        Some(&spec.model),
        spec.description.as_deref(),
        spec.pool_name.as_deref(),
    ])
}

/// Bytes that the agent of a register call will count.
pub(super) fn agent_entry_bytes(spec: &RegisterAgent) -> usize {
    sum([
        Some(&spec.name),
        Some(&spec.llm_name),
        spec.description.as_deref(),
        spec.system_prompt.as_deref(),
        spec.project.as_deref(),
        spec.default_params.as_deref().map(RawValue::get),
        spec.extras.as_deref().map(RawValue::get),
    ])
}
