//! Whose a name is (SPEC.md section 5, names): a row, a pool and an agent of one name are one user's.
//!
//! It is the user's who had it first, for as long as something has it and for a while after: what is called by a name
//! must not become another user's overnight.

mod given;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use wire::row::Status;
use wire::texts;

use super::Registry;
use super::expiry::ExpiryKey;
use crate::clock::Now;
use crate::model::{Caller, NameRecord, OwnedName, Role, UserId};
use crate::options::PoolPolicy;
use crate::store::Change;

pub use given::NameView;

/// All names that are somebody's.
#[derive(Default)]
pub(super) struct NameTable {
    entries: BTreeMap<String, NameEntry>,
    /// The names of each user; one who has none is not in it.
    by_owner: HashMap<UserId, BTreeSet<String>>,
    /// The names that a user has nothing of, by the time at which they become free; a user without is not in it.
    unused: HashMap<UserId, BTreeSet<(Duration, String)>>,
    /// Not given to the store yet.
    changes: Vec<Change>,
}

struct NameEntry {
    record: NameRecord,
    /// When it becomes free; `None` while something has it.
    free_at: Option<Duration>,
    /// When it is looked at in [`super::expiry`].
    due: Option<Duration>,
}

impl NameTable {
    /// The name as it was stored.
    pub(super) fn load(&mut self, record: NameRecord) {
        let name = record.name.clone();
        self.by_owner.entry(record.owner.clone()).or_default().insert(name.clone());
        self.entries.insert(name, NameEntry { record, free_at: None, due: None });
    }

    /// All is loaded: of what became of it on the way only the outcome is written, where it is not what was stored.
    pub(super) fn loaded(&mut self, stored: &[NameRecord]) {
        let stored: HashMap<&str, &NameRecord> =
            stored.iter().map(|record| (record.name.as_str(), record)).collect();
        self.changes.retain(|change| matches!(change, Change::DeleteName(_)));
        let records = self.entries.values().map(|held| &held.record);
        let others = records.filter(|record| stored.get(record.name.as_str()) != Some(record));
        self.changes.extend(others.cloned().map(Change::PutName));
    }

    /// Whose the name is.
    pub(super) fn owner(&self, name: &str) -> Option<&UserId> {
        self.entries.get(name).map(|held| &held.record.owner)
    }

    pub(super) fn record(&self, name: &str) -> Option<&NameRecord> {
        self.entries.get(name).map(|held| &held.record)
    }

    /// The name is `owner`'s from now on, unless it is somebody's already; whether it was nobody's.
    fn claim(&mut self, name: &str, owner: &UserId) -> bool {
        if self.entries.contains_key(name) {
            return false;
        }
        let record = NameRecord {
            name: name.to_owned(),
            owner: owner.clone(),
            pool: false,
            shared: false,
            left_at: None,
            admitted: None,
            pinned: None,
        };
        self.changes.push(Change::PutName(record.clone()));
        self.load(record);
        true
    }

    /// Changes what is known of a name.
    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut NameRecord)) {
        let Some(held) = self.entries.get_mut(name) else { return };
        let before = held.record.clone();
        change(&mut held.record);
        if held.record != before {
            self.changes.push(Change::PutName(held.record.clone()));
        }
    }

    /// What is to be written, which nobody has been told of yet.
    pub(super) fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn remove_unused(&mut self, owner: &str, free_at: Duration, name: &str) {
        if let Some(kept) = self.unused.get_mut(owner) {
            kept.remove(&(free_at, name.to_owned()));
            if kept.is_empty() {
                self.unused.remove(owner);
            }
        }
    }
}

impl Registry {
    /// Whether `name` may be `caller`'s; the text says no more of whose it is than the caller sees.
    pub(super) fn check_name_owner(&self, caller: &Caller, name: &str) -> Result<(), String> {
        if self.names.owner(name).is_none_or(|owner| *owner == caller.user) {
            return Ok(());
        }
        Err(match self.visible_kind(caller, name) {
            Some(what) => format!("name '{name}' is the name of another user's {what}"),
            None if caller.role == Role::Admin => {
                let owner = self.names.owner(name).map_or("", String::as_str);
                format!("name '{name}' is kept for {owner}: `virtual-llm delete name {name}` frees it")
            }
            None => texts::name_taken(name),
        })
    }

    /// How many of `names` are not `caller`'s.
    pub fn count_unowned<'a>(&self, caller: &Caller, names: impl IntoIterator<Item = &'a str>) -> usize {
        let names: BTreeSet<&str> = names.into_iter().collect();
        names.into_iter().filter(|name| self.names.owner(name) != Some(&caller.user)).count()
    }

    /// What has the name, as far as the caller sees it.
    pub(super) fn visible_kind(&self, caller: &Caller, name: &str) -> Option<&'static str> {
        if self.llm(caller, name).is_some() {
            Some("LLM")
        } else if self.pool_rows(name).any(|llm| caller.sees(llm.visibility, &llm.owner)) {
            Some("pool")
        } else {
            self.agent(caller, name).map(|_| "agent")
        }
    }

    /// The name is `owner`'s from now on, unless it is somebody's already.
    pub(super) fn claim_name(&mut self, name: &str, owner: &UserId, now: Now) {
        if self.names.claim(name, owner) {
            // Rows may name it as their pool already: they waited for one who had it before.
            self.place_all_rows(name, now);
        }
    }

    /// What has the name of its owner's.
    fn used_by(&self, name: &str) -> Vec<&'static str> {
        let Some(owner) = self.names.owner(name) else { return Vec::new() };
        let llm = self.llms.get(name).is_some_and(|entry| entry.llm.owner == *owner);
        let agent = self.agents.get(name).is_some_and(|entry| entry.agent.owner == *owner);
        let pool = self.pool_rows(name).next().is_some();
        [(llm, "llm"), (pool, "pool"), (agent, "agent")]
            .into_iter()
            .filter_map(|(used, what)| used.then_some(what))
            .collect()
    }

    /// Whether its owner has a row or an agent of this name that is not away.
    fn is_served(&self, name: &str) -> bool {
        let Some(owner) = self.names.owner(name) else { return false };
        let is_there = |of: &UserId, status: Status| of == owner && status != Status::Inactive;
        self.llms.get(name).is_some_and(|entry| is_there(&entry.llm.owner, entry.llm.status))
            || self.agents.get(name).is_some_and(|entry| is_there(&entry.agent.owner, entry.agent.status))
    }

    /// Something came to the name or left it: it is in use, or kept from now on.
    pub(super) fn update_name_use(&mut self, name: &str, now: Now) {
        let used = self.used_by(name);
        let pool = used.contains(&"pool");
        let own = self.pools.get(name).filter(|rows| !rows.own.is_empty());
        let leads_elsewhere = own.is_none() && self.is_served(name);
        let shared = own.map(|rows| !rows.shown.is_empty()).or(leads_elsewhere.then_some(false));
        let Some(held) = self.names.entries.get(name) else { return };
        let (owner, free_at, was_shared) = (held.record.owner.clone(), held.free_at, held.record.shared);
        if !used.is_empty() {
            self.names.change(name, |record| {
                // Its owner left the pool, and has the name for something else.
                record.pool = pool || record.pool && !leads_elsewhere;
                record.shared = shared.unwrap_or(record.shared);
                record.left_at = None;
            });
            if let Some(free_at) = free_at {
                self.names.remove_unused(&owner, free_at, name);
                if let Some(held) = self.names.entries.get_mut(name) {
                    held.free_at = None;
                }
            }
        } else if free_at.is_none() {
            self.names.change(name, |record| record.left_at = Some(record.left_at.unwrap_or(now.wall)));
            self.keep(name, now);
        }
        if self.policy == PoolPolicy::Members && shared.is_some_and(|shared| shared != was_shared) {
            // Others serve it only while everybody may.
            self.place_all_rows(name, now);
        }
    }

    /// Nothing has the name: it becomes free after a while, which the hub's own absence is part of.
    fn keep(&mut self, name: &str, now: Now) {
        let Some(held) = self.names.entries.get_mut(name) else { return };
        let away = held.record.left_at.map_or(0, |left| now.wall.millis_since(left));
        let left = self.name_retention.saturating_sub(Duration::from_millis(away));
        // After a start of the hub its owner has at least as long to come back as a row has.
        let free_at = now.mono + left.max(self.retention.min(self.name_retention));
        held.free_at = Some(free_at);
        self.expiry.check_at(&mut held.due, free_at, || ExpiryKey::Name(name.into()));
        let kept = self.names.unused.entry(held.record.owner.clone()).or_default();
        kept.insert((free_at, name.to_owned()));
        if kept.len() > self.limits.names
            && let Some((_, first)) = kept.first().cloned()
        {
            self.free(&first, now);
        }
    }

    /// The name is nobody's.
    fn free(&mut self, name: &str, now: Now) {
        let Some(held) = self.names.entries.remove(name) else { return };
        if let Some(names) = self.names.by_owner.get_mut(&held.record.owner) {
            names.remove(name);
            if names.is_empty() {
                self.names.by_owner.remove(&held.record.owner);
            }
        }
        if let Some(free_at) = held.free_at {
            self.names.remove_unused(&held.record.owner, free_at, name);
        }
        self.expiry.remove(held.due, ExpiryKey::Name(name.into()));
        self.names.changes.push(Change::DeleteName(name.to_owned()));
        // Rows that waited for its owner wait for nobody.
        self.place_all_rows(name, now);
    }

    pub(super) fn sweep_name(&mut self, name: &str, now: Now) {
        let Some(held) = self.names.entries.get_mut(name) else { return };
        held.due = None;
        match held.free_at {
            Some(at) if at <= now.mono => self.free(name, now),
            Some(at) => self.expiry.check_at(&mut held.due, at, || ExpiryKey::Name(name.into())),
            None => (),
        }
    }

    /// The agent's LLM is the one that its owner, who makes it, means: what it sees by that name now, else its own. One
    /// that was pinned to the same name before stays so, unless it is to be pinned `anew`.
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
