//! Ownership of names (SPEC.md section 5, names): a row, a pool and an agent of one name belong to one user.
//!
//! A name belongs to its first user for as long as something has it, and for a retention time after, so that calls by the
//! name cannot reach another user's backend from one day to the next.

mod listing;
mod merge;
mod table;

use std::collections::BTreeSet;
use std::time::Duration;

use wire::row::Status;
use wire::texts;

use super::entry::ExpiryKey;
use super::listing::remove_of;
use super::{Registry, Target};
use crate::clock::Now;
use crate::model::{Caller, OwnedName, Role, UserId};
use crate::options::PoolPolicy;
use crate::store::Change;

pub use listing::NameView;
pub(super) use table::NameTable;

impl Registry {
    /// Checks whether `name` is free or `caller`'s. The text of a refusal tells no more than the caller sees.
    pub(super) fn check_name_owner(&self, caller: &Caller, name: &str) -> Result<(), String> {
        let Some(owner) = self.names.owner(name).filter(|owner| **owner != caller.user) else {
            return Ok(());
        };
        Err(match self.visible_kind(caller, name) {
            Some(kind) => format!("name '{name}' is the name of another user's {kind}"),
            None if caller.role == Role::Admin => {
                format!("name '{name}' is kept for {owner}: `virtual-llm delete name {name}` frees it")
            }
            None => texts::name_taken(name),
        })
    }

    /// The owner of `name`.
    pub fn name_owner(&self, name: &str) -> Option<&UserId> {
        self.names.owner(name)
    }

    /// Whether `name` belongs to another user than `owner`, whose it was when a call for it was accepted. A free name has
    /// not been taken over: its former owner may claim it again.
    pub fn is_taken_over(&self, name: &str, owner: Option<&UserId>) -> bool {
        self.names.owner(name).is_some_and(|current| Some(current) != owner)
    }

    /// Whether the name that was called, the agent's or that of `target`, was taken over since the target was resolved.
    pub fn is_target_taken_over(&self, target: &Target) -> bool {
        match &target.through {
            Some(route) => self.is_taken_over(&route.agent, route.owner.as_ref()),
            None => self.is_taken_over(&target.name, target.owner.as_ref()),
        }
    }

    /// Takes the names that were claimed since the last time.
    pub fn take_claimed_names(&mut self) -> Vec<String> {
        std::mem::take(&mut self.names.claimed)
    }

    /// Number of distinct `names` that are not `caller`'s.
    pub fn count_unowned<'a>(&self, caller: &Caller, names: impl IntoIterator<Item = &'a str>) -> usize {
        let names: BTreeSet<&str> = names.into_iter().collect();
        names.into_iter().filter(|name| self.names.owner(name) != Some(&caller.user)).count()
    }

    /// The kind of what has the name, if `caller` sees it.
    pub(super) fn visible_kind(&self, caller: &Caller, name: &str) -> Option<&'static str> {
        if self.llm(caller, name).is_some() {
            Some("LLM")
        } else if caller.models.has(name)
            && self.pool_rows(name).any(|llm| caller.sees(llm.visibility, &llm.owner))
        {
            Some("pool")
        } else {
            self.agent(caller, name).map(|_| "agent")
        }
    }

    /// Gives a free name to `owner`.
    pub(super) fn claim_name(&mut self, name: &str, owner: &UserId, now: Now) {
        if self.names.claim(name, owner) {
            // Rows of other users may name it as their pool already.
            self.place_all_rows(name, now);
        }
    }

    /// The kinds of what has the name.
    fn used_by(&self, name: &str) -> Vec<&'static str> {
        let Some(owner) = self.names.owner(name) else { return Vec::new() };
        let llm = self.llms.get(name).is_some_and(|entry| entry.llm.owner == *owner);
        let agent = self.agents.get(name).is_some_and(|entry| entry.agent.owner == *owner);
        let pool = self.pool_rows(name).next().is_some();
        let kinds = [(llm, "llm"), (pool, "pool"), (agent, "agent")];
        kinds.into_iter().filter_map(|(used, kind)| used.then_some(kind)).collect()
    }

    /// Whether the name's owner has a row or an agent of this name that is not inactive.
    fn is_served(&self, name: &str) -> bool {
        let Some(owner) = self.names.owner(name) else { return false };
        let is_live = |of: &UserId, status: Status| of == owner && status != Status::Inactive;
        self.llms.get(name).is_some_and(|entry| is_live(&entry.llm.owner, entry.llm.status))
            || self.agents.get(name).is_some_and(|entry| is_live(&entry.agent.owner, entry.agent.status))
    }

    /// Updates a name's record after a change of what has it: the name is in use, or its retention begins.
    pub(super) fn update_name_use(&mut self, name: &str, now: Now) {
        let used = self.used_by(name);
        let is_pool = used.contains(&"pool");
        // Of rows that expire together, the public ones may be deleted first: the pool stays as it was.
        let is_current = |row: &String| !self.is_overdue(row, now);
        let own =
            self.pools.get(name).filter(|rows| rows.owned_public.iter().chain(&rows.owned).any(is_current));
        // The owner left the pool and uses the name for something else.
        let pool_ended = own.is_none() && self.is_served(name);
        let shared = own.map(|rows| !rows.owned_public.is_empty()).or(pool_ended.then_some(false));
        let Some(entry) = self.names.entries.get(name) else { return };
        let (owner, free_at, was_shared) = (entry.record.owner.clone(), entry.free_at, entry.record.shared);
        if !used.is_empty() {
            self.names.change(name, |record| {
                record.pool = is_pool || record.pool && !pool_ended;
                record.shared = shared.unwrap_or(record.shared);
                record.left_at = None;
            });
            if let Some(free_at) = free_at {
                self.names.remove_unused(&owner, free_at, name);
                if let Some(entry) = self.names.entries.get_mut(name) {
                    entry.free_at = None;
                }
            }
        } else if free_at.is_none() {
            self.names.change(name, |record| record.left_at = Some(record.left_at.unwrap_or(now.wall)));
            self.retain_name(name, now);
        }
        let is_changed = shared.is_some_and(|shared| shared != was_shared);
        if self.policy == PoolPolicy::Members && is_changed && !self.names.is_merging {
            // Other users' rows serve a pool only while it is public.
            self.place_all_rows(name, now);
        }
    }

    /// Keeps an unused name for its owner for the retention time, which includes the hub's downtime.
    ///
    /// An owner with more unused names than the limit loses the one that would be free first.
    fn retain_name(&mut self, name: &str, now: Now) {
        let Some(entry) = self.names.entries.get_mut(name) else { return };
        let unused = entry.record.left_at.map_or(0, |left| now.wall.millis_since(left));
        let left = self.name_retention.saturating_sub(Duration::from_millis(unused));
        // After a start of the hub, the owner has at least as long to come back as a row has.
        let free_at = now.mono + left.max(self.retention.min(self.name_retention));
        entry.free_at = Some(free_at);
        self.expiry.check_at(&mut entry.due, free_at, || ExpiryKey::Name(name.into()));
        let unused = self.names.unused.entry(entry.record.owner.clone()).or_default();
        unused.insert((free_at, name.to_owned()));
        if unused.len() > self.limits.names
            && !self.names.is_merging
            && let Some((_, first)) = unused.first().cloned()
        {
            self.release_name(&first, now);
        }
    }

    /// Makes a name free.
    fn release_name(&mut self, name: &str, now: Now) {
        let Some(entry) = self.names.entries.remove(name) else { return };
        remove_of(&mut self.names.by_owner, &entry.record.owner, name);
        if let Some(free_at) = entry.free_at {
            self.names.remove_unused(&entry.record.owner, free_at, name);
        }
        self.expiry.remove(entry.due, ExpiryKey::Name(name.into()));
        if !self.names.is_merging {
            self.names.changes.push(Change::DeleteName(name.to_owned()));
        }
        // Pending rows of a pool of this name wait for no owner now.
        self.place_all_rows(name, now);
    }

    /// Makes a name free whose retention time has passed.
    pub(super) fn sweep_name(&mut self, name: &str, now: Now) {
        let Some(entry) = self.names.entries.get_mut(name) else { return };
        entry.due = None;
        match entry.free_at {
            Some(at) if at <= now.mono => self.release_name(name, now),
            Some(at) => self.expiry.check_at(&mut entry.due, at, || ExpiryKey::Name(name.into())),
            None => (),
        }
    }

    /// Pins an agent to the owner of what its maker sees by the LLM's name, else to the maker (SPEC.md section 5, agents).
    ///
    /// An existing pin to the same name stays, unless `repin` is set.
    pub(super) fn pin_agent(&mut self, maker: &Caller, agent: &str, llm: &str, repin: bool) {
        let Some(record) = self.names.record(agent) else { return };
        if !repin && record.pinned.as_ref().is_some_and(|pinned| pinned.name == llm) {
            return;
        }
        let seen = self.names.owner(llm).filter(|_| self.visible_kind(maker, llm).is_some());
        let pinned = OwnedName { name: llm.to_owned(), owner: seen.unwrap_or(&maker.user).clone() };
        self.names.change(agent, |record| record.pinned = Some(pinned));
    }
}
