//! Pools as callers read them.

use schemars::JsonSchema;
use serde::Serialize;
use wire::openai::PromptCache;
use wire::row::{LlmRow, Status};
use wire::texts;

use crate::model::{Caller, Llm, Role};
use crate::registry::Registry;
use crate::registry::entry::LlmEntry;
use crate::telemetry::total;

/// A pool as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    pub name: String,
    /// The owner's user id; `null` for a caller who sees no member.
    pub owner_id: Option<String>,
    /// Names of the members that the caller sees.
    pub members: Vec<String>,
    /// Pending rows: for the pool's owner and admins all that they see, for others their own.
    pub waiting: Vec<PendingMember>,
}

/// A row that waits to be admitted to a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingMember {
    pub name: String,
    pub owner_id: String,
}

/// A pool as a caller sees it, without its members.
#[derive(Debug)]
pub struct PoolSummary {
    pub key: String,
    /// Whether a row names it as its `poolName`; otherwise it is a pool of one.
    pub explicit: bool,
    pub size: usize,
    pub active: usize,
    /// Prompt tokens of the visible members.
    pub cache: PromptCache,
}

impl Registry {
    /// The members of the pool `key` that `caller` sees.
    pub fn members(&self, caller: &Caller, key: &str) -> impl Iterator<Item = &Llm> {
        self.members_after(caller, key, None)
    }

    /// The members of the pool `key` behind the one named `after` that `caller` sees.
    pub fn members_after(
        &self,
        caller: &Caller,
        key: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &Llm> {
        // Who may use a pool sees its members.
        let has_pool = caller.models.has(key);
        self.pool_members_after(key, after).filter(move |llm| {
            caller.sees(llm.visibility, &llm.owner) && (has_pool || caller.models.has(&llm.name))
        })
    }

    /// The pool of `name`, a row's name or a pool's key, if `caller` sees a member.
    pub fn pool(&self, caller: &Caller, name: &str) -> Option<PoolSummary> {
        let key = match self.llm(caller, name) {
            Some(llm) => self.key_of(llm),
            None => name,
        };
        let mut pool = PoolSummary {
            key: key.to_owned(),
            explicit: false,
            size: 0,
            active: 0,
            cache: PromptCache::default(),
        };
        for llm in self.members(caller, key) {
            pool.explicit |= self.pool_of(llm).is_some();
            pool.size += 1;
            pool.active += usize::from(llm.status == Status::Active);
            if let Some(entry) = self.llms.get(&llm.name) {
                pool.cache = total(pool.cache, entry.cache.read());
            }
        }
        (pool.size > 0).then_some(pool)
    }

    /// The owner of the pool for whose admission the row waits: told to that owner, to the row's and to admins.
    fn waits_for(&self, caller: &Caller, entry: &LlmEntry) -> Option<&str> {
        let pool = entry.llm.pool_name.as_ref().filter(|_| !entry.member)?;
        let record = self.names.record(pool)?;
        let concerns = [&entry.llm.owner, &record.owner].contains(&&caller.user);
        (concerns || caller.role == Role::Admin).then_some(record.owner.as_str())
    }

    /// Warnings for the owner of `rows` about those that wait for an admission.
    pub(in crate::registry) fn pending_warnings(&self, caller: &Caller, rows: &[Llm]) -> Vec<String> {
        let text = |llm: &Llm| {
            let entry = self.llms.get(&llm.name)?;
            Some(texts::waits_for(&llm.name, llm.pool_name.as_deref()?, self.waits_for(caller, entry)?))
        };
        rows.iter().filter_map(text).collect()
    }

    /// Adds to `row` its pool as `caller` reads it: only the owners of a pending row and of its pool read that pool.
    pub(in crate::registry) fn with_pool(&self, caller: &Caller, llm: &Llm, row: LlmRow) -> LlmRow {
        match self.llms.get(&llm.name).filter(|entry| !entry.member) {
            Some(entry) => {
                let waits_for = self.waits_for(caller, entry).map(str::to_owned);
                let told = waits_for.is_some() || llm.owner == caller.user;
                LlmRow { waits_for, pool_name: row.pool_name.filter(|_| told), ..row }
            }
            None => row,
        }
    }

    /// The pools behind `after` of which `caller` sees something, and the last name examined if more may follow.
    ///
    /// A page ends when about `most` rows name its pools.
    pub fn pools_after(
        &self,
        caller: &Caller,
        after: Option<&str>,
        most: usize,
    ) -> (Vec<PoolView>, Option<String>) {
        let (mut views, mut examined) = (Vec::new(), 0);
        for pool in self.pool_names_after(caller, after) {
            views.extend(self.pool_view(caller, pool));
            examined += 1 + self.pools.get(pool).map_or(0, |rows| rows.members.len() + rows.pending.len());
            if examined >= most {
                return (views, Some(pool.to_owned()));
            }
        }
        (views, None)
    }

    /// The pool, if `caller` sees something of it.
    pub fn pool_view(&self, caller: &Caller, pool: &str) -> Option<PoolView> {
        let rows = self.pools.get(pool).filter(|_| caller.models.has(pool))?;
        let owner = self.names.owner(pool);
        let manages = caller.role == Role::Admin || owner == Some(&caller.user);
        let members: Vec<String> = self
            .pool_rows(pool)
            .filter(|llm| caller.sees(llm.visibility, &llm.owner))
            .map(|llm| llm.name.clone())
            .collect();
        let waiting: Vec<PendingMember> = rows
            .pending
            .iter()
            .filter_map(|name| self.llm(caller, name))
            .filter(|llm| manages || llm.owner == caller.user)
            .map(|llm| PendingMember { name: llm.name.clone(), owner_id: llm.owner.clone() })
            .collect();
        if members.is_empty() && waiting.is_empty() {
            return None;
        }
        let owner_id = owner.filter(|_| manages || !members.is_empty()).cloned();
        Some(PoolView { name: pool.to_owned(), owner_id, members, waiting })
    }
}
