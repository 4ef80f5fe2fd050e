//! Per-user limits of a register call: sessions, rows, agents, bytes and rows per pool.

use std::collections::BTreeMap;

use wire::register::RegisterRequest;

use super::RegisterRefusal;
use crate::model::Caller;
use crate::registry::Registry;
use crate::registry::usage::{agent_entry_bytes, provider_bytes};

impl Registry {
    /// Checks that the call keeps `caller` within its limits.
    pub(super) fn check_limits(
        &self,
        caller: &Caller,
        session: &str,
        request: &RegisterRequest,
    ) -> Result<(), RegisterRefusal> {
        let limits = self.limits;
        let usage = self.usage_of(&caller.user);
        if !self.sessions.contains_key(session) {
            within(limits.sessions, usage.sessions, 1, "sessions")?;
        }
        let new = request.providers.iter().filter(|spec| !self.llms.contains_key(&spec.name)).count();
        within(limits.rows, usage.llms, new, "LLMs")?;
        let new = request.agents.iter().filter(|spec| !self.agents.contains_key(&spec.name)).count();
        within(limits.rows, usage.agents, new, "agents")?;
        let user = &caller.user;
        let (mut old, mut new) = (0, 0);
        for spec in &request.providers {
            old += self.bytes_of_llm(user, &spec.name);
            new += provider_bytes(spec);
        }
        for spec in &request.agents {
            old += self.bytes_of_agent(user, &spec.name);
            new += agent_entry_bytes(spec);
        }
        if self.has_bytes(user, old, new) { Ok(()) } else { Err(RegisterRefusal::TooLarge(limits.row_bytes)) }
    }

    /// Checks that the pools that the call's rows name have places for them.
    pub(super) fn check_pool_limits(&self, caller: &Caller, request: &RegisterRequest) -> Result<(), String> {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for spec in &request.providers {
            if let Some(pool) = spec.pool_name.as_deref().filter(|pool| !self.names_pool(&spec.name, pool)) {
                *new.entry(pool).or_default() += 1;
            }
        }
        new.into_iter().try_for_each(|(pool, new)| self.check_pool_rows(&caller.user, pool, new))
    }
}

/// Checks a limit. What exceeds it already, from an older version, stays.
fn within(most: usize, current: usize, new: usize, what: &'static str) -> Result<(), RegisterRefusal> {
    if new == 0 || current + new <= most { Ok(()) } else { Err(RegisterRefusal::TooMany(most, what)) }
}
