//! Records of names that another hub has stored. Nothing follows from them here: that is stored already.

use super::super::listing::remove_of;
use super::{NameTable, Registry};
use crate::clock::Now;
use crate::model::NameRecord;

impl NameTable {
    /// Takes over a record as it is stored.
    fn take_over(&mut self, record: NameRecord) {
        let name = record.name.clone();
        let Some(entry) = self.entries.get_mut(&name) else {
            self.claimed.push(name);
            return self.load(record);
        };
        if entry.record.owner != record.owner {
            let (former, free_at) = (entry.record.owner.clone(), entry.free_at.take());
            remove_of(&mut self.by_owner, &former, &name);
            self.by_owner.entry(record.owner.clone()).or_default().insert(name.clone());
            self.claimed.push(name.clone());
            if let Some(free_at) = free_at {
                self.remove_unused(&former, free_at, &name);
            }
        }
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.record = record;
        }
    }
    /// Begins or ends to take over records of another hub.
    pub(in crate::registry) fn set_merging(&mut self, is_merging: bool) {
        self.is_merging = is_merging;
    }
}

impl Registry {
    /// Applies a name's record that another hub stored, or its deletion. That hub has stored what follows.
    pub(in crate::registry) fn merge_name(&mut self, name: &str, record: Option<NameRecord>, now: Now) {
        match record {
            Some(record) => {
                self.names.take_over(record);
                self.place_all_rows(name, now);
                self.update_name_use(name, now);
            }
            None => self.release_name(name, now),
        }
    }
}
