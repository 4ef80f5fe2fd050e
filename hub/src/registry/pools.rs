//! Pools: rows with the same effective key answer for one another (SPEC.md section 5).
//!
//! A pool is its name's owner's. Another user's row may name it, and serves it once it was let in: until then it waits,
//! and is a pool of its own.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use serde::Serialize;
use wire::row::{LlmRow, Visibility};
use wire::texts;

use super::{LlmEntry, ManageError, Registry};
use crate::clock::Now;
use crate::model::{Caller, Llm, PoolAdmission, Role, UserId};
use crate::options::PoolPolicy;
use crate::store::Change;

/// The room that a row is let in with that has said nothing of it: what a registrar has that is told nothing.
const DEFAULT_CAPACITY: u32 = 4;

/// The rows that name a pool as theirs, by name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PoolRows {
    pub(super) members: BTreeSet<String>,
    /// Other users' rows that were not let in.
    pub(super) waiting: BTreeSet<String>,
    /// Those of the members that are the pool's owner's.
    pub(super) own: BTreeSet<String>,
    /// Those of these that everybody sees.
    pub(super) shown: BTreeSet<String>,
    /// How many rows each user has here, members or not.
    pub(super) of: HashMap<UserId, usize>,
    /// How many of all of them everybody sees.
    pub(super) public: usize,
}

/// A pool as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Whose it is; `null` where the caller sees nothing that serves it.
    pub owner_id: Option<String>,
    /// The names of the rows that serve it, as far as the caller sees them.
    pub members: Vec<String>,
    /// Those that wait to be let in: all that its owner and admins see, of others their own.
    pub waiting: Vec<PendingMember>,
}

/// A row that waits to be let into a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PendingMember {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner_id: String,
}

impl Registry {
    /// Whether a row `name` of `caller`'s may name `pool` as its pool.
    pub(super) fn check_pool_name(
        &self,
        caller: &Caller,
        name: &str,
        pool: Option<&str>,
    ) -> Result<(), String> {
        let Some((pool, record)) = pool.and_then(|pool| Some((pool, self.names.record(pool)?))) else {
            return Ok(());
        };
        if record.owner == caller.user {
            return Ok(());
        }
        let refused = |text: String| match self.visible_kind(caller, pool) {
            Some(_) => Err(text),
            None => Err(texts::name_taken(pool)),
        };
        // One who was let in before knows of it, and stays so.
        let is_let_in = self.admitted(name, &caller.user, pool).is_some();
        if !record.pool && !is_let_in {
            let what = self.visible_kind(caller, pool).unwrap_or_default();
            return refused(format!("poolName '{pool}' is the name of another user's {what}"));
        }
        if self.policy == PoolPolicy::Owner {
            return refused(format!("pool '{pool}' belongs to another user"));
        }
        // A pool that nobody else knows of is nobody else's to join.
        if !record.shared && !is_let_in {
            return refused(format!("pool '{pool}' has private LLMs only: it is its owner's"));
        }
        Ok(())
    }

    /// That the row `name` of `owner`'s was let into `pool`, by who has the pool now.
    fn admitted(&self, name: &str, owner: &str, pool: &str) -> Option<&PoolAdmission> {
        let admitted = self.names.record(name).filter(|record| record.owner == owner)?.admitted.as_ref();
        admitted
            .filter(|admitted| admitted.pool == pool && self.names.owner(pool) == Some(&admitted.pool_owner))
    }

    /// Whether the row serves the pool that it names, and with how much room at most where that is limited.
    fn serves_pool(&self, llm: &Llm, pool: &str) -> (bool, Option<u32>) {
        let Some(record) = self.names.record(pool) else { return (false, None) };
        if record.owner == llm.owner {
            return (true, None);
        }
        match self.policy {
            PoolPolicy::Ask => {
                let admitted = self.admitted(&llm.name, &llm.owner, pool);
                (admitted.is_some(), admitted.and_then(|admitted| admitted.room))
            }
            PoolPolicy::Members => (record.shared, None),
            PoolPolicy::Owner => (false, None),
        }
    }

    /// Puts the row among the members of `pool`, or among those that wait.
    pub(super) fn place_row(&mut self, pool: &str, row: &str) {
        let Some(entry) = self.llms.get(row) else { return };
        let (serves, admitted_capacity) = self.serves_pool(&entry.llm, pool);
        let Some(entry) = self.llms.get_mut(row) else { return };
        (entry.member, entry.admitted_capacity) = (serves, admitted_capacity);
        let own = serves && self.names.owner(pool) == Some(&entry.llm.owner);
        let shown = own && entry.llm.visibility == Visibility::Public;
        let rows = self.pools.entry(pool.to_owned()).or_default();
        let sets = [
            (&mut rows.members, serves),
            (&mut rows.waiting, !serves),
            (&mut rows.own, own),
            (&mut rows.shown, shown),
        ];
        for (set, is_in) in sets {
            if is_in {
                set.insert(row.to_owned());
            } else {
                set.remove(row);
            }
        }
    }

    /// Places all rows that name `pool` anew: it has changed hands, or somebody was let in. Also those that stay where
    /// they are are told of: they may wait for somebody else.
    pub(super) fn place_all_rows(&mut self, pool: &str, now: Now) {
        let Some(rows) = self.pools.get(pool) else { return };
        let rows: Vec<String> = rows.members.iter().chain(&rows.waiting).cloned().collect();
        for row in rows {
            self.place_row(pool, &row);
            self.mark_changed(&row);
        }
        self.update_name_use(pool, now);
    }

    /// A row of `owner`'s names the pool from now on.
    pub(super) fn join_pool(&mut self, pool: &str, visibility: Visibility, owner: &str) {
        let rows = self.pools.entry(pool.to_owned()).or_default();
        let count = rows.of.entry(owner.to_owned()).or_default();
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

    /// The row `row` of `owner`'s names the pool no longer.
    pub(super) fn leave_pool(&mut self, pool: &str, row: &str, visibility: Visibility, owner: &str) {
        let Some(rows) = self.pools.get_mut(pool) else { return };
        for set in [&mut rows.members, &mut rows.waiting, &mut rows.own, &mut rows.shown] {
            set.remove(row);
        }
        if let Some(count) = rows.of.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                rows.of.remove(owner);
                self.visible_pools.remove(pool, Visibility::Private, owner);
            }
        }
        if visibility == Visibility::Public {
            rows.public -= 1;
            if rows.public == 0 {
                self.visible_pools.remove(pool, Visibility::Public, owner);
            }
        }
        if rows.of.is_empty() {
            self.pools.remove(pool);
        }
    }

    /// Whether `user` has room in `pool` for `new` rows that do not name it yet. One who has more, by an older version's
    /// doing, keeps them.
    pub(super) fn check_pool_rows(&self, user: &str, pool: &str, new: usize) -> Result<(), String> {
        let held = self.pools.get(pool).and_then(|rows| rows.of.get(user)).copied().unwrap_or(0);
        let most = self.limits.pool_rows;
        if new == 0 || held + new <= most {
            return Ok(());
        }
        Err(format!("poolName '{pool}': a pool has at most {most} LLMs of one user"))
    }

    /// Whether the row `name` names `pool`.
    pub(super) fn is_in_pool(&self, name: &str, pool: &str) -> bool {
        self.llms.get(name).is_some_and(|entry| entry.llm.pool_name.as_deref() == Some(pool))
    }

    /// The rows that serve `pool` because they name it.
    pub(super) fn pool_rows(&self, pool: &str) -> impl Iterator<Item = &Llm> {
        let rows = self.pools.get(pool).map(|rows| &rows.members);
        rows.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm))
    }

    /// All rows with the effective key `key`: the one of that name, then the others by name.
    pub(super) fn pool_members(&self, key: &str) -> impl Iterator<Item = &Llm> {
        self.pool_members_after(key, None)
    }

    /// The same behind the one of this name.
    pub(super) fn pool_members_after(&self, key: &str, after: Option<&str>) -> impl Iterator<Item = &Llm> {
        let own = self.llms.get(key).filter(|entry| !entry.member).map(|entry| &entry.llm);
        // It stands before all others, whatever their names are.
        let first = own.filter(|_| after.is_none());
        let after = after.filter(|after| own.is_none_or(|own| own.name != *after));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.pools.get(key).map(|rows| rows.members.range::<str, _>((from, Bound::Unbounded)));
        let rows = rows.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm));
        first.into_iter().chain(rows)
    }

    /// The pool that the row serves, if it serves one.
    pub fn pool_of(&self, llm: &Llm) -> Option<&str> {
        self.llms.get(&llm.name).filter(|entry| entry.member)?.llm.pool_name.as_deref()
    }

    /// For whom the row waits: who has the pool that it names and does not serve. For its owner, the pool's and admins.
    pub(super) fn waits_for(&self, caller: &Caller, entry: &LlmEntry) -> Option<&str> {
        let pool = entry.llm.pool_name.as_ref().filter(|_| !entry.member)?;
        let record = self.names.record(pool)?;
        let concerns = [&entry.llm.owner, &record.owner].contains(&&caller.user);
        (concerns || caller.role == Role::Admin).then_some(record.owner.as_str())
    }

    /// What the owner of rows is told of those that wait.
    pub(super) fn pending_warnings(&self, caller: &Caller, rows: &[Llm]) -> Vec<String> {
        let text = |llm: &Llm| {
            let entry = self.llms.get(&llm.name)?;
            Some(texts::waits_for(&llm.name, llm.pool_name.as_deref()?, self.waits_for(caller, entry)?))
        };
        rows.iter().filter_map(text).collect()
    }

    /// The row with its pool as `caller` reads it: one that it waits for is told to those alone whom it concerns.
    pub(super) fn with_pool(&self, caller: &Caller, llm: &Llm, row: LlmRow) -> LlmRow {
        match self.llms.get(&llm.name).filter(|entry| !entry.member) {
            Some(entry) => {
                let waits_for = self.waits_for(caller, entry).map(str::to_owned);
                let told = waits_for.is_some() || llm.owner == caller.user;
                LlmRow { waits_for, pool_name: row.pool_name.filter(|_| told), ..row }
            }
            None => row,
        }
    }

    /// The next of the pools of which `caller` sees something, by name: so many that some `most` rows name them, and the
    /// name of the last one that was looked at, if there may be more.
    pub fn pools_after(
        &self,
        caller: &Caller,
        after: Option<&str>,
        most: usize,
    ) -> (Vec<PoolView>, Option<String>) {
        let (mut views, mut looked) = (Vec::new(), 0);
        for pool in self.pool_names_after(caller, after) {
            views.extend(self.pool_view(caller, pool));
            looked += 1 + self.pools.get(pool).map_or(0, |rows| rows.members.len() + rows.waiting.len());
            if looked >= most {
                return (views, Some(pool.to_owned()));
            }
        }
        (views, None)
    }

    /// One of them.
    pub fn pool_view(&self, caller: &Caller, pool: &str) -> Option<PoolView> {
        let rows = self.pools.get(pool)?;
        let owner = self.names.owner(pool);
        let rules = caller.role == Role::Admin || owner == Some(&caller.user);
        let members: Vec<String> = self
            .pool_rows(pool)
            .filter(|llm| caller.sees(llm.visibility, &llm.owner))
            .map(|llm| llm.name.clone())
            .collect();
        let waiting: Vec<PendingMember> = rows
            .waiting
            .iter()
            .filter_map(|name| self.llm(caller, name))
            .filter(|llm| rules || llm.owner == caller.user)
            .map(|llm| PendingMember { name: llm.name.clone(), owner_id: llm.owner.clone() })
            .collect();
        if members.is_empty() && waiting.is_empty() {
            return None;
        }
        let owner_id = owner.filter(|_| rules || !members.is_empty()).cloned();
        Some(PoolView { name: pool.to_owned(), owner_id, members, waiting })
    }

    /// Lets a row that names `pool` serve it: the pool's owner does so, or an admin.
    pub fn admit_member(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> PoolUpdate {
        let owner = self.managed_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        let llm = llm.ok_or_else(|| unknown_row(row))?;
        if llm.owner != owner {
            // What it says of its room later on is no more than its owner's word.
            let said = self.llms.get(row).and_then(|entry| entry.registered_capacity);
            let room = Some(said.unwrap_or(DEFAULT_CAPACITY));
            self.names.change(row, |record| {
                record.admitted = Some(PoolAdmission { pool: pool.to_owned(), pool_owner: owner, room });
            });
        }
        Ok(self.pool_update(caller, pool, now))
    }

    /// Takes another user's row out of `pool`, also one that is not there now: it waits from then on.
    pub fn remove_member(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> PoolUpdate {
        let owner = self.managed_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        if llm.is_some_and(|llm| llm.owner == owner) {
            return Err(ManageError::Conflict(format!(
                "LLM {row} belongs to the owner of pool '{pool}': change its poolName"
            )));
        }
        let admitted = self.names.record(row).and_then(|record| record.admitted.as_ref());
        if llm.is_none() && admitted.is_none_or(|admitted| admitted.pool != pool) {
            return Err(unknown_row(row));
        }
        self.names.change(row, |record| record.admitted = None);
        Ok(self.pool_update(caller, pool, now))
    }

    /// The owner of a pool that `caller` may let rows into.
    fn managed_pool(&self, caller: &Caller, pool: &str) -> Result<String, ManageError> {
        let record = self.names.record(pool).filter(|record| record.pool);
        match record {
            Some(record) if record.owner == caller.user || caller.role == Role::Admin => match self.policy {
                PoolPolicy::Ask => Ok(record.owner.clone()),
                PoolPolicy::Members => Err(ManageError::Conflict(
                    "the hub lets every member's LLMs into a pool (--pools members)".into(),
                )),
                PoolPolicy::Owner => Err(ManageError::Conflict(
                    "the hub lets nobody's LLMs into another user's pool (--pools owner)".into(),
                )),
            },
            Some(_) if self.pool_view(caller, pool).is_some() => Err(ManageError::Forbidden),
            _ => Err(ManageError::Unknown),
        }
    }

    /// What comes of a word of who rules the pool.
    fn pool_update(&mut self, caller: &Caller, pool: &str, now: Now) -> (PoolView, Vec<Change>) {
        self.place_all_rows(pool, now);
        let owner_id = self.names.owner(pool).cloned();
        let nothing = PoolView { name: pool.into(), owner_id, members: Vec::new(), waiting: Vec::new() };
        (self.pool_view(caller, pool).unwrap_or(nothing), self.names.drain_changes())
    }
}

/// What came of letting a row into a pool, or of taking it out.
type PoolUpdate = Result<(PoolView, Vec<Change>), ManageError>;

fn unknown_row(row: &str) -> ManageError {
    ManageError::UnknownRow(row.to_owned())
}

impl LlmEntry {
    /// The key by which the row is pooled.
    pub(super) fn key(&self) -> &str {
        self.llm.pool_name.as_deref().filter(|_| self.member).unwrap_or(&self.llm.name)
    }

    /// Tasks that may run there at once, where its publisher says so: no more than it was let into its pool with, also
    /// where nothing is said any more.
    pub(super) fn capacity(&self) -> Option<u32> {
        let said = self.report.map(|report| report.room);
        [said, self.admitted_capacity].into_iter().flatten().min()
    }
}
