//! The table of names, and what changed in it since the last write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::Duration;

use crate::model::{NameRecord, UserId};
use crate::registry::listing::remove_of;
use crate::store::Change;

/// All names that have an owner.
#[derive(Default)]
pub(in crate::registry) struct NameTable {
    pub(super) entries: BTreeMap<String, NameEntry>,
    pub(super) by_owner: HashMap<UserId, BTreeSet<String>>,
    /// Unused names per owner, by the time at which they become free.
    pub(super) unused: HashMap<UserId, BTreeSet<(Duration, String)>>,
    /// Changes that were not handed to the store yet.
    pub(super) changes: Vec<Change>,
    /// Whether records are taken over that another hub has stored: nothing follows from them here.
    pub(super) is_merging: bool,
    /// Names claimed since [`Registry::take_claimed_names`](super::Registry::take_claimed_names).
    pub(super) claimed: Vec<String>,
}

pub(super) struct NameEntry {
    pub(super) record: NameRecord,
    /// Monotonic time at which the name becomes free; `None` while something has it.
    pub(super) free_at: Option<Duration>,
    /// Next check by [`ExpiryIndex`](crate::registry::entry::ExpiryIndex).
    pub(super) due: Option<Duration>,
}

impl NameTable {
    /// When the name is checked next.
    pub(in crate::registry) fn due(&mut self, name: &str) -> Option<&mut Option<Duration>> {
        self.entries.get_mut(name).map(|entry| &mut entry.due)
    }

    pub(in crate::registry) fn load(&mut self, record: NameRecord) {
        let name = record.name.clone();
        self.by_owner.entry(record.owner.clone()).or_default().insert(name.clone());
        self.entries.insert(name, NameEntry { record, free_at: None, due: None });
    }

    /// Reduces the changes that loading made to those that differ from what is stored.
    pub(in crate::registry) fn finish_load(&mut self, stored: &[NameRecord]) {
        let stored: HashMap<&str, &NameRecord> =
            stored.iter().map(|record| (record.name.as_str(), record)).collect();
        self.changes.retain(|change| matches!(change, Change::DeleteName(_)));
        let records = self.entries.values().map(|entry| &entry.record);
        let others = records.filter(|record| stored.get(record.name.as_str()) != Some(record));
        self.changes.extend(others.cloned().map(Change::PutName));
    }

    pub(in crate::registry) fn owner(&self, name: &str) -> Option<&UserId> {
        self.record(name).map(|record| &record.owner)
    }

    /// The names that begin with `stem`, in order.
    pub(in crate::registry) fn beginning_with<'a, 'b>(
        &'a self,
        stem: &'b str,
    ) -> impl Iterator<Item = &'a str> + use<'a, 'b> {
        let from = (Bound::Included(stem), Bound::Unbounded);
        let names = self.entries.range::<str, _>(from).map(|(name, _)| name.as_str());
        names.take_while(move |name| name.starts_with(stem))
    }

    pub(in crate::registry) fn record(&self, name: &str) -> Option<&NameRecord> {
        self.entries.get(name).map(|entry| &entry.record)
    }

    /// Gives a free name to `owner`. Returns whether it was free.
    pub(super) fn claim(&mut self, name: &str, owner: &UserId) -> bool {
        if self.is_merging || self.entries.contains_key(name) {
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
        self.claimed.push(record.name.clone());
        self.load(record);
        true
    }

    /// Changes a name's record, and stores it if it differs.
    pub(in crate::registry) fn change(&mut self, name: &str, change: impl FnOnce(&mut NameRecord)) {
        if self.is_merging {
            return;
        }
        let Some(entry) = self.entries.get_mut(name) else { return };
        let before = entry.record.clone();
        change(&mut entry.record);
        if entry.record != before {
            self.changes.push(Change::PutName(entry.record.clone()));
        }
    }

    /// Takes the changes to store.
    pub(in crate::registry) fn drain_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Removes a name from its owner's unused ones.
    pub(super) fn remove_unused(&mut self, owner: &str, free_at: Duration, name: &str) {
        remove_of(&mut self.unused, owner, &(free_at, name.to_owned()));
    }
}
