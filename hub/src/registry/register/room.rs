//! Whether a user has room for what a register call brings.

use std::collections::BTreeMap;

use wire::register::RegisterRequest;

use super::RegisterRefusal;
use crate::model::Caller;
use crate::registry::Registry;
use crate::registry::usage::{agent_entry_bytes, provider_bytes};

impl Registry {
    pub(super) fn has_room(
        &self,
        caller: &Caller,
        session: &str,
        request: &RegisterRequest,
    ) -> Result<(), RegisterRefusal> {
        let limits = self.limits;
        let owned = self.usage_of(&caller.user);
        if !self.sessions.contains_key(session) {
            within(limits.sessions, owned.sessions, 1, "sessions")?;
        }
        let new = request.providers.iter().filter(|spec| !self.llms.contains_key(&spec.name)).count();
        within(limits.rows, owned.llms, new, "LLMs")?;
        let new = request.agents.iter().filter(|spec| !self.agents.contains_key(&spec.name)).count();
        within(limits.rows, self.agents_of(caller), new, "agents")?;
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

    /// The same for the pools that its rows name.
    pub(super) fn has_pools_room(&self, caller: &Caller, request: &RegisterRequest) -> Result<(), String> {
        let mut new: BTreeMap<&str, usize> = BTreeMap::new();
        for spec in &request.providers {
            if let Some(pool) = spec.pool_name.as_deref().filter(|pool| !self.is_in_pool(&spec.name, pool)) {
                *new.entry(pool).or_default() += 1;
            }
        }
        new.into_iter().try_for_each(|(pool, new)| self.check_pool_rows(&caller.user, pool, new))
    }

    /// How many agents are the caller's.
    pub(in crate::registry) fn agents_of(&self, caller: &Caller) -> usize {
        self.usage_of(&caller.user).agents
    }
}

fn within(most: usize, owned: usize, new: usize, what: &'static str) -> Result<(), RegisterRefusal> {
    // One who is over it, by an older version's doing, keeps what there is.
    if new == 0 || owned + new <= most { Ok(()) } else { Err(RegisterRefusal::TooMany(most, what)) }
}
