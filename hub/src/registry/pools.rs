//! Pools: rows with the same effective key answer for one another (SPEC.md section 5).

use wire::register::ProviderEntry;
use wire::texts;

use super::Registry;
use crate::model::{Caller, Llm};
use crate::options::PoolPolicy;

impl Registry {
    /// Whether a row with this name and pool may be `caller`'s: no name is another user's pool, nor the reverse.
    pub(super) fn may_join(&self, caller: &Caller, spec: &ProviderEntry) -> Result<(), String> {
        self.may_have_pool(caller, &spec.name, spec.pool_name.as_deref())
    }

    /// As above, for a row from any route.
    pub(crate) fn may_have_pool(
        &self,
        caller: &Caller,
        name: &str,
        pool: Option<&str>,
    ) -> Result<(), String> {
        let foreign = |llm: &&Llm| llm.owner != caller.user && llm.name != name;
        let refuse = |holder: &Llm, taken: &str, text: String| {
            if caller.sees(holder.visibility, &holder.owner) {
                Err(text)
            } else {
                Err(texts::name_taken(taken))
            }
        };
        if let Some(holder) = seen_first(caller, self.pool_rows(name).filter(foreign)) {
            return refuse(holder, name, format!("name '{name}' is the name of another user's pool"));
        }
        let Some(pool) = pool else { return Ok(()) };
        if let Some(holder) = self.llms.get(pool).map(|entry| &entry.llm).filter(foreign) {
            return refuse(holder, pool, format!("poolName '{pool}' is the name of another user's LLM"));
        }
        if self.policy == PoolPolicy::Owner {
            let first = self.pool_rows(pool).filter(|llm| llm.name != name).min_by_key(|llm| llm.created_at);
            if let Some(first) = first.filter(foreign) {
                return refuse(first, pool, format!("pool '{pool}' belongs to another user"));
            }
        }
        Ok(())
    }

    /// The rows that name `pool` as theirs.
    pub(super) fn pool_rows(&self, pool: &str) -> impl Iterator<Item = &Llm> {
        let names = self.pools.get(pool);
        names.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm))
    }

    /// All rows with the effective key `key`.
    pub(super) fn keyed(&self, key: &str) -> impl Iterator<Item = &Llm> {
        let own = self.llms.get(key).map(|entry| &entry.llm).filter(|llm| llm.pool_name.is_none());
        own.into_iter().chain(self.pool_rows(key))
    }
}

/// The key by which a row is pooled.
pub(super) fn effective_key(llm: &Llm) -> &str {
    llm.pool_name.as_deref().unwrap_or(&llm.name)
}

/// One that the caller sees, if there is one: a text about it gives nothing away.
fn seen_first<'a>(caller: &Caller, rows: impl Iterator<Item = &'a Llm>) -> Option<&'a Llm> {
    let mut hidden = None;
    for llm in rows {
        if caller.sees(llm.visibility, &llm.owner) {
            return Some(llm);
        }
        hidden = Some(llm);
    }
    hidden
}
