//! What is written once a second at most, however often it changes: the newest of each record, with the place among all
//! jobs at which it was given. Pure.
//!
//! A record that a job behind it writes or deletes is forgotten here. So what is taken may be written as soon as all jobs
//! are done that were given before it, whatever has come since.

use std::collections::HashMap;

use super::Change;
use super::write_behind::{Key, key};

/// Changes that wait to be written.
#[derive(Debug, Default)]
pub(super) struct Later {
    changes: HashMap<Key, Waiting>,
    /// Jobs that were given to the thread.
    given: u64,
    /// The thread was told that something is here.
    pub(super) told: bool,
}

#[derive(Debug)]
struct Waiting {
    /// Jobs that were given before it.
    behind: u64,
    change: Change,
}

impl Later {
    /// The newest of its record.
    pub(super) fn keep(&mut self, change: Change) {
        if let Some(key) = key(&change) {
            self.changes.insert(key, Waiting { behind: self.given, change });
        }
    }

    /// One more job is given to the thread, with these changes.
    pub(super) fn give<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        self.given += 1;
        if !self.changes.is_empty() {
            changes.into_iter().filter_map(key).for_each(|key| drop(self.changes.remove(&key)));
        }
    }

    /// All that may be written when `done` jobs are done.
    pub(super) fn take(&mut self, done: u64) -> Vec<Change> {
        let ready = self.changes.extract_if(|_, waiting| waiting.behind <= done);
        let changes = ready.map(|(_, waiting)| waiting.change).collect();
        self.told = !self.changes.is_empty();
        changes
    }
}
