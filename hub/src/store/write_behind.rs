//! Changes that wait in memory: those that could not be written yet, and those that are written at most once a second. Pure.

use std::collections::HashMap;

use super::Change;

/// The newest change of each record, ordered by the first change of each. It is bounded by the number of records in
/// memory, however long the disk is full.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    changes: Vec<Change>,
    positions: HashMap<Key, usize>,
}

/// The record that a change writes.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Key {
    Llm(String),
    Agent(String),
    Session(String),
    Name(String),
    Token(String),
    Task(String),
    Claim(String),
}

impl WriteBehind {
    /// Adds changes; a newer change of a record replaces the older one. Audit rows are skipped: `AuditLog` keeps them.
    pub(super) fn add(&mut self, changes: Vec<Change>) {
        for change in changes {
            let Some(key) = key(&change) else { continue };
            if let Some(older) = self.positions.get(&key).and_then(|&index| self.changes.get_mut(index)) {
                *older = change;
            } else {
                self.positions.insert(key, self.changes.len());
                self.changes.push(change);
            }
        }
    }

    pub(super) fn changes(&self) -> &[Change] {
        &self.changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The record that `change` writes; `None` for audit rows and quotas.
fn key(change: &Change) -> Option<Key> {
    Some(match change {
        Change::PutLlm(llm) => Key::Llm(llm.id.clone()),
        Change::DeleteLlm(id) => Key::Llm(id.clone()),
        Change::PutAgent(agent) => Key::Agent(agent.id.clone()),
        Change::DeleteAgent(id) => Key::Agent(id.clone()),
        Change::PutSession(session) => Key::Session(session.id.clone()),
        Change::DeleteSession(id) => Key::Session(id.clone()),
        Change::PutName(record) => Key::Name(record.name.clone()),
        Change::DeleteName(name) => Key::Name(name.clone()),
        Change::PutToken(token) => Key::Token(token.id.clone()),
        Change::PutTask(task) | Change::NewTask { task, .. } => Key::Task(task.id.clone()),
        Change::ClaimTask { id, .. } | Change::UnclaimTask(id) => Key::Claim(id.clone()),
        Change::DeleteTask(id) => Key::Task(id.clone()),
        Change::Audit(_) | Change::EnforceTaskQuota { .. } => return None,
    })
}

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

    /// Takes at most `most` of the changes that may be written once `jobs_done` jobs are done.
    pub(super) fn take(&mut self, jobs_done: u64, most: usize) -> Vec<Change> {
        let ready = self.changes.extract_if(|_, coalesced| coalesced.after_jobs <= jobs_done);
        let changes = ready.take(most).map(|(_, coalesced)| coalesced.change).collect();
        self.is_scheduled = !self.changes.is_empty();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim replaces only an earlier claim, never the task or its result.
    #[test]
    fn a_claim_waits_beside_the_change_of_its_task() {
        let claim = || Change::ClaimTask { id: "t".into(), llm: None, session: None };
        let mut pending = WriteBehind::default();
        pending.add(vec![Change::DeleteTask("t".into()), claim(), Change::UnclaimTask("t".into()), claim()]);
        let is_kept = matches!(pending.changes(), [Change::DeleteTask(_), Change::ClaimTask { .. }]);
        assert!(is_kept, "{:?}", pending.changes());
    }
}
