//! Changes that wait in memory: those that could not be written yet, and those that are written at most once a second. Pure.

use std::collections::HashMap;

use super::Change;
use crate::model::{AliasScope, LimitOwner, UserId};

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
    Alias(AliasScope, String),
    Token(String),
    Limits(LimitOwner),
    Task(String),
    Claim(String),
    Quota(UserId),
}

impl WriteBehind {
    /// Adds changes; a newer change of a record replaces the older one. Audit rows and sums are skipped: `AuditLog` keeps
    /// them.
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

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The record that `change` writes; `None` for audit rows and sums.
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
        Change::PutAlias(alias) => Key::Alias(alias.scope.clone(), alias.name.clone()),
        Change::DeleteAlias { scope, name } => Key::Alias(scope.clone(), name.clone()),
        Change::PutToken(token) => Key::Token(token.id.clone()),
        Change::PutLimits(record) => Key::Limits(record.owner.clone()),
        Change::DeleteLimits(owner) => Key::Limits(owner.clone()),
        Change::PutTask(task) | Change::NewTask { task, .. } => Key::Task(task.id.clone()),
        Change::ClaimTask { id, .. } | Change::UnclaimTask(id) => Key::Claim(id.clone()),
        Change::DeleteTask(id) => Key::Task(id.clone()),
        Change::EnforceTaskQuota { owner, .. } => Key::Quota(owner.clone()),
        Change::Audit(_) | Change::AddUsage { .. } => return None,
    })
}

/// The newest change of each record, until it is written. A change is dropped when a later job writes or deletes the same
/// record; so the remaining ones may be written at any time after the jobs that were sent before them.
///
/// Changes are written in rounds: those that came before a round began are written in it, each record once, and those that
/// come meanwhile in the next. So no record is written more often than rounds begin, and none waits behind others that
/// change again and again.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    /// Changes of the round that is being written.
    round: HashMap<Key, Coalesced>,
    /// Changes of other records, for the next round.
    next_round: HashMap<Key, Coalesced>,
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
    /// Adds a change, in place of the older one of its record, whose round it keeps.
    pub(super) fn add(&mut self, change: Change) {
        let Some(key) = key(&change) else { return };
        let coalesced = Coalesced { after_jobs: self.jobs_sent, change };
        match self.round.get_mut(&key) {
            Some(older) => *older = coalesced,
            None => drop(self.next_round.insert(key, coalesced)),
        }
    }

    /// Counts a job that is sent to the writer thread, and drops the changes that `changes` supersede.
    pub(super) fn job_sent(&mut self, changes: &[Change]) {
        self.jobs_sent += 1;
        if self.is_empty() {
            return;
        }
        for key in changes.iter().filter_map(key) {
            self.round.remove(&key);
            self.next_round.remove(&key);
        }
    }

    /// Begins a round with all changes that came until now, also those that the last one left.
    pub(super) fn begin_round(&mut self) {
        if self.round.is_empty() {
            self.round = std::mem::take(&mut self.next_round);
        } else {
            self.round.extend(self.next_round.drain());
        }
    }

    /// Takes at most `most` of the round's changes that may be written once `jobs_done` jobs are done.
    pub(super) fn take(&mut self, jobs_done: u64, most: usize) -> Vec<Change> {
        let ready = self.round.extract_if(|_, coalesced| coalesced.after_jobs <= jobs_done);
        let changes = ready.take(most).map(|(_, coalesced)| coalesced.change).collect();
        self.is_scheduled = !self.is_empty();
        changes
    }

    fn is_empty(&self) -> bool {
        self.round.is_empty() && self.next_round.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_kept_with_the_changes_that_it_follows() {
        let quota = |max_bytes| Change::EnforceTaskQuota { owner: "alice".into(), max_bytes };
        let mut pending = WriteBehind::default();
        pending.add(vec![Change::DeleteTask("t".into()), quota(1), quota(2)]);
        let is_kept = matches!(
            pending.changes(),
            [Change::DeleteTask(_), Change::EnforceTaskQuota { max_bytes: 2, .. }]
        );
        assert!(is_kept, "{:?}", pending.changes());
    }

    /// A claim replaces only an earlier claim, never the task or its result.
    #[test]
    fn a_claim_waits_beside_the_change_of_its_task() {
        let claim = || Change::ClaimTask { id: "t".into(), llm: None, session: None };
        let mut pending = WriteBehind::default();
        pending.add(vec![Change::DeleteTask("t".into()), claim(), Change::UnclaimTask("t".into()), claim()]);
        let is_kept = matches!(pending.changes(), [Change::DeleteTask(_), Change::ClaimTask { .. }]);
        assert!(is_kept, "{:?}", pending.changes());
    }

    /// Names that the coalescer's next batch of at most `most` changes writes, or deletes.
    fn take_names(coalescer: &mut Coalescer, most: usize) -> Vec<String> {
        let name = |change| match change {
            Change::DeleteName(name) => name,
            other => panic!("{other:?}"),
        };
        coalescer.take(u64::MAX, most).into_iter().map(name).collect()
    }

    fn add_all(coalescer: &mut Coalescer, names: impl IntoIterator<Item = String>) {
        names.into_iter().for_each(|name| coalescer.add(Change::DeleteName(name)));
    }

    /// A27: however often the records of one user change, those of another are written.
    #[test]
    fn each_record_is_written_in_the_round_after_its_change() {
        const BATCH: usize = 8;
        let mut coalescer = Coalescer::default();
        let names: Vec<String> = (0..4 * BATCH).map(|n| n.to_string()).collect();
        add_all(&mut coalescer, names.iter().cloned());
        for round in 0..3 {
            coalescer.begin_round();
            let mut written = Vec::new();
            loop {
                let batch = take_names(&mut coalescer, BATCH);
                add_all(&mut coalescer, batch.iter().cloned());
                let is_last = batch.len() < BATCH;
                written.extend(batch);
                if is_last {
                    break;
                }
                assert!(written.len() <= names.len(), "round {round} does not end");
            }
            written.sort_by_key(|name| name.parse::<usize>().unwrap());
            assert_eq!(written, names, "round {round}");
        }
    }

    /// A change that replaces one of the round is written in the round, after the jobs that were sent before it.
    #[test]
    fn a_change_that_replaces_another_keeps_its_round() {
        let mut coalescer = Coalescer::default();
        add_all(&mut coalescer, ["a".into(), "b".into()]);
        coalescer.begin_round();
        coalescer.job_sent(&[]);
        add_all(&mut coalescer, ["a".into(), "c".into()]);
        assert_eq!(coalescer.take(0, 8).len(), 1, "a change is written before an earlier job");
        assert_eq!(take_names(&mut coalescer, 8), ["a"]);
        assert!(coalescer.is_scheduled);
        coalescer.begin_round();
        assert_eq!(take_names(&mut coalescer, 8), ["c"]);
        assert!(!coalescer.is_scheduled);
    }

    /// A job that writes a record supersedes its change in every round.
    #[test]
    fn a_later_job_supersedes_the_changes_of_all_rounds() {
        let mut coalescer = Coalescer::default();
        add_all(&mut coalescer, ["a".into()]);
        coalescer.begin_round();
        add_all(&mut coalescer, ["b".into()]);
        coalescer.job_sent(&["a", "b"].map(|name| Change::DeleteName(name.into())));
        coalescer.begin_round();
        assert_eq!(take_names(&mut coalescer, 8), [""; 0]);
    }
}
