//! Pools: rows with the same effective key answer for one another (SPEC.md section 5, pools).
//!
//! Here are the index of the rows that name each pool, and pools as callers read them. Who may serve a pool is decided in
//! [`membership`].

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use schemars::JsonSchema;
use serde::Serialize;
use wire::openai::PromptCache;
use wire::row::{LlmRow, Status, Visibility};
use wire::texts;

use super::Registry;
use super::entry::LlmEntry;
use crate::clock::Now;
use crate::model::{Caller, Llm, Role, UserId};
use crate::telemetry::total;

mod membership;

/// The rows that name a pool as their `poolName`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PoolRows {
    /// Rows that serve the pool.
    pub(super) members: BTreeSet<String>,
    /// Other users' rows that are not admitted.
    pub(super) pending: BTreeSet<String>,
    /// Members that belong to the pool's owner.
    pub(super) owned: BTreeSet<String>,
    /// The public ones of these.
    pub(super) owned_public: BTreeSet<String>,
    /// Number of rows per user, members or not.
    pub(super) per_user: HashMap<UserId, usize>,
    /// Number of public rows, members or not.
    pub(super) public: usize,
}

impl Registry {
    /// Counts a row of `owner` that names the pool from now on.
    pub(super) fn join_pool(&mut self, pool: &str, visibility: Visibility, owner: &str) {
        let rows = self.pools.entry(pool.to_owned()).or_default();
        let count = rows.per_user.entry(owner.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            self.visible_pools.insert(pool, Visibility::Private, owner);
        }
        if visibility == Visibility::Public {
            rows.public += 1;
            if rows.public == 1 {
                self.visible_pools.insert(pool, Visibility::Public, owner);
            }
        }
    }

    /// Removes the row `row` of `owner`, which no longer names the pool.
    pub(super) fn leave_pool(&mut self, pool: &str, row: &str, visibility: Visibility, owner: &str) {
        let Some(rows) = self.pools.get_mut(pool) else { return };
        for set in [&mut rows.members, &mut rows.pending, &mut rows.owned, &mut rows.owned_public] {
            set.remove(row);
        }
        if let Some(count) = rows.per_user.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                rows.per_user.remove(owner);
                self.visible_pools.remove(pool, Visibility::Private, owner);
            }
        }
        if visibility == Visibility::Public {
            rows.public -= 1;
            if rows.public == 0 {
                self.visible_pools.remove(pool, Visibility::Public, owner);
            }
        }
        if rows.per_user.is_empty() {
            self.pools.remove(pool);
        }
    }

    /// Puts the row among the pool's members or among the pending rows.
    pub(super) fn place_row(&mut self, pool: &str, row: &str) {
        let Some(entry) = self.llms.get(row) else { return };
        let (member, capacity) = self.membership(&entry.llm, pool);
        let owned = member && self.names.owner(pool) == Some(&entry.llm.owner);
        let owned_public = owned && entry.llm.visibility == Visibility::Public;
        if let Some(entry) = self.llms.get_mut(row) {
            (entry.member, entry.admitted_capacity) = (member, capacity);
        }
        let rows = self.pools.entry(pool.to_owned()).or_default();
        let sets = [
            (&mut rows.members, member),
            (&mut rows.pending, !member),
            (&mut rows.owned, owned),
            (&mut rows.owned_public, owned_public),
        ];
        for (set, is_in) in sets {
            if is_in {
                set.insert(row.to_owned());
            } else {
                set.remove(row);
            }
        }
    }

    /// Places all rows that name the pool again, after a change of its owner or of an admission.
    ///
    /// All of them count as changed, since a pending row may wait for another owner now.
    pub(super) fn place_all_rows(&mut self, pool: &str, now: Now) {
        let Some(rows) = self.pools.get(pool) else { return };
        let rows: Vec<String> = rows.members.iter().chain(&rows.pending).cloned().collect();
        for row in rows {
            self.place_row(pool, &row);
            self.mark_changed(&row);
        }
        self.update_name_use(pool, now);
    }

    /// Whether the row `name` names `pool`.
    pub(super) fn names_pool(&self, name: &str, pool: &str) -> bool {
        self.llms.get(name).is_some_and(|entry| entry.llm.pool_name.as_deref() == Some(pool))
    }

    /// The rows that name `pool` and serve it.
    pub(super) fn pool_rows(&self, pool: &str) -> impl Iterator<Item = &Llm> {
        let rows = self.pools.get(pool).map(|rows| &rows.members);
        rows.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm))
    }

    /// The rows with the effective key `key`: the row of that name first, then the others by name.
    pub(super) fn pool_members(&self, key: &str) -> impl Iterator<Item = &Llm> {
        self.pool_members_after(key, None)
    }

    /// The rows with the effective key `key` behind the one named `after`.
    fn pool_members_after(&self, key: &str, after: Option<&str>) -> impl Iterator<Item = &Llm> {
        let own = self.llms.get(key).filter(|entry| !entry.member).map(|entry| &entry.llm);
        // The row of that name is first in the order, whatever the other names are.
        let first = own.filter(|_| after.is_none());
        let after = after.filter(|after| own.is_none_or(|own| own.name != *after));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.pools.get(key).map(|rows| rows.members.range::<str, _>((from, Bound::Unbounded)));
        let rows = rows.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm));
        first.into_iter().chain(rows)
    }

    /// The pool that the row names and serves.
    pub fn pool_of(&self, llm: &Llm) -> Option<&str> {
        self.llms.get(&llm.name).filter(|entry| entry.member)?.llm.pool_name.as_deref()
    }
}

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
