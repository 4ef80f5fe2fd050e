//! Pools: rows with the same effective key answer for one another (SPEC.md section 5, pools).
//!
//! Here is the index of the rows that name each pool. Who may serve a pool is decided in [`membership`].

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use wire::row::Visibility;

use super::Registry;
use crate::clock::Now;
use crate::model::{Llm, UserId};

mod membership;
mod views;

pub use views::PoolView;

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
