//! Whether a user has room for what a register call brings.

use wire::register::RegisterRequest;

use super::Refusal;
use crate::model::Caller;
use crate::registry::Registry;

impl Registry {
    pub(super) fn has_room(
        &self,
        caller: &Caller,
        session: &str,
        request: &RegisterRequest,
    ) -> Result<(), Refusal> {
        let limits = self.limits;
        let owned = self.owned.get(&caller.user).copied().unwrap_or_default();
        if !self.sessions.contains_key(session) {
            within(limits.sessions, owned.sessions, 1, "sessions")?;
        }
        let new = request.providers.iter().filter(|spec| !self.llms.contains_key(&spec.name)).count();
        within(limits.rows, owned.llms, new, "LLMs")?;
        let new = request.agents.iter().filter(|spec| !self.agents.contains_key(&spec.name)).count();
        within(limits.rows, self.agents_of(caller), new, "agents")
    }

    /// How many agents are the caller's.
    pub(in crate::registry) fn agents_of(&self, caller: &Caller) -> usize {
        self.owned.get(&caller.user).map_or(0, |owned| owned.agents)
    }
}

fn within(most: usize, owned: usize, new: usize, what: &'static str) -> Result<(), Refusal> {
    // One who is over it, by an older version's doing, keeps what there is.
    if new == 0 || owned + new <= most { Ok(()) } else { Err(Refusal::TooMany(most, what)) }
}
