//! Whether a user has room for what a register call brings.

use wire::register::RegisterRequest;

use super::Refusal;
use crate::model::Caller;
use crate::registry::Registry;
use crate::registry::owned::{of_provider, of_spec};

impl Registry {
    pub(super) fn has_room(
        &self,
        caller: &Caller,
        session: &str,
        request: &RegisterRequest,
    ) -> Result<(), Refusal> {
        let limits = self.limits;
        let owned = self.owned(&caller.user);
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
            new += of_provider(spec);
        }
        for spec in &request.agents {
            old += self.bytes_of_agent(user, &spec.name);
            new += of_spec(spec);
        }
        if self.has_bytes(user, old, new) { Ok(()) } else { Err(Refusal::TooLarge(limits.row_bytes)) }
    }

    /// How many agents are the caller's.
    pub(in crate::registry) fn agents_of(&self, caller: &Caller) -> usize {
        self.owned(&caller.user).agents
    }
}

fn within(most: usize, owned: usize, new: usize, what: &'static str) -> Result<(), Refusal> {
    // One who is over it, by an older version's doing, keeps what there is.
    if new == 0 || owned + new <= most { Ok(()) } else { Err(Refusal::TooMany(most, what)) }
}
