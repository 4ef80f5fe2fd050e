//! Digests of the table, equal at hubs that have the same: sums of those of its records, so that they can be added up in pages.

use std::ops::Bound;

use sha2::{Digest, Sha256};

use super::Registry;
use crate::model::{Agent, Alias, Llm};

impl Registry {
    /// The digest of `most` rows behind `after`. Returns the name of the last one, if more may follow.
    pub fn digest_of_rows(&self, after: Option<&str>, most: usize) -> (u64, Option<String>) {
        let (mut sum, mut seen, mut last) = (0_u64, 0, None);
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        for (name, entry) in self.llms.range::<str, _>(behind).take(most) {
            sum = sum.wrapping_add(of_row(&entry.llm));
            (seen, last) = (seen + 1, Some(name));
        }
        (sum, last.filter(|_| seen == most).cloned())
    }

    /// The digest of agents and aliases.
    pub fn digest_of_rest(&self) -> u64 {
        let agents = self.agents.values().map(|entry| of_agent(&entry.agent));
        agents.chain(self.aliases.all().map(of_alias)).fold(0, u64::wrapping_add)
    }
}

// What changes all the time is left out: hubs tell each other.

fn of_row(llm: &Llm) -> u64 {
    of_texts([
        "llm",
        &llm.id,
        &llm.name,
        &llm.provider_type,
        &llm.model,
        llm.pool_name.as_deref().unwrap_or_default(),
        &llm.owner,
        llm.session.as_deref().unwrap_or_default(),
        &format!("{:?} {} {}", llm.visibility, llm.registered, llm.created_at.0),
    ])
}

fn of_agent(agent: &Agent) -> u64 {
    of_texts([
        "agent",
        &agent.id,
        &agent.name,
        &agent.llm_name,
        agent.system_prompt.as_deref().unwrap_or_default(),
        &agent.owner,
        agent.session.as_deref().unwrap_or_default(),
        &format!("{:?} {} {}", agent.visibility, agent.registered, agent.created_at.0),
    ])
}

fn of_alias(alias: &Alias) -> u64 {
    let user = alias.scope.user().map_or("", String::as_str);
    of_texts(["alias", user, &alias.name, &alias.target.name, &alias.target.owner])
}

fn of_texts<const N: usize>(texts: [&str; N]) -> u64 {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text);
        hash.update([0]);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.first_chunk().map_or(0, |first| u64::from_be_bytes(*first))
}
