//! What a name can do for a caller, for lists of models: of a row what its publisher says, of a pool what all its rows can do
//! that would serve the caller.

use wire::Abilities;
use wire::row::Status;

use super::Registry;
use super::target::Target;
use crate::model::{Caller, Llm};

/// State and abilities of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    pub status: Status,
    pub abilities: Abilities,
}

impl Offer {
    /// The offer of a name with a known status and unknown abilities.
    pub const fn unknown(status: Status) -> Self {
        Self { status, abilities: Abilities::NONE }
    }
}

impl Registry {
    /// The offer of the row or the pool `name`: a function of the rows that `caller` sees. `None` if no row would serve a call.
    ///
    /// The work is that of a pick: one step for each row of the pool.
    pub fn offer(&self, caller: &Caller, name: &str) -> Option<Offer> {
        let target = self.target(caller, name)?;
        let members = target.pool.then(|| self.pool_members(&target.name));
        let row = self.llms.get(&target.name).map(|entry| &entry.llm).filter(|_| !target.pool);
        let rows = members.into_iter().flatten().chain(row);
        rows.filter(|llm| self.is_offered(caller, &target, llm)).map(Offer::of).reduce(Offer::and)
    }

    fn is_offered(&self, caller: &Caller, target: &Target, llm: &Llm) -> bool {
        llm.status != Status::Inactive && target.allows_owner(llm) && self.may_reach(caller, target, llm)
    }
}

impl Offer {
    fn of(llm: &Llm) -> Self {
        Self { status: llm.status, abilities: llm.abilities }
    }

    fn and(self, other: Self) -> Self {
        let status = if self.status == Status::Active { self.status } else { other.status };
        Self { status, abilities: self.abilities.both(other.abilities) }
    }
}
