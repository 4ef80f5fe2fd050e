//! Changes that are written at most once a second. Pure.

use std::collections::HashMap;

use super::Change;
use super::write_behind::{Key, key};

/// The newest change of each record, until it is written. A change is dropped when a later job writes or deletes the same
/// record; so the remaining ones may be written at any time after the jobs that were sent before them.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    changes: HashMap<Key, Coalesced>,
    /// Number of jobs sent to the writer thread.
    jobs_sent: u64,
    /// A [`Job::WriteCoalesced`](super::job::Job::WriteCoalesced) has been sent and not all changes are written yet.
    pub(super) is_scheduled: bool,
}

#[derive(Debug)]
struct Coalesced {
    /// Number of jobs sent before the change.
    after_jobs: u64,
    change: Change,
}

impl Coalescer {
    /// Adds a change, in place of the older one of its record.
    pub(super) fn add(&mut self, change: Change) {
        if let Some(key) = key(&change) {
            self.changes.insert(key, Coalesced { after_jobs: self.jobs_sent, change });
        }
    }

    /// Counts a job that is sent to the writer thread, and drops the changes that `changes` supersede.
    pub(super) fn job_sent(&mut self, changes: &[Change]) {
        self.jobs_sent += 1;
        if !self.changes.is_empty() {
            changes.iter().filter_map(key).for_each(|key| drop(self.changes.remove(&key)));
        }
    }

    /// Takes the changes that may be written once `jobs_done` jobs are done.
    pub(super) fn take(&mut self, jobs_done: u64) -> Vec<Change> {
        let ready = self.changes.extract_if(|_, coalesced| coalesced.after_jobs <= jobs_done);
        let changes = ready.map(|(_, coalesced)| coalesced.change).collect();
        self.is_scheduled = !self.changes.is_empty();
        changes
    }
}
