//! The table of open tasks. It is slightly over 300 lines: each method keeps all of its indexes consistent.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::chunks::Chunks;
use super::open_task::OpenTask;
use super::queues::Queues;
use super::state::{Attempt, Effect, Event};
use super::turns::Turns;
use crate::error::ApiError;
use crate::model::{Caller, DurableTask, TaskStatus, UserId};
use crate::quota::{Quota, QuotaPermit};
use crate::store::ListCursor;
use crate::telemetry::{Counts, Limit};

/// Targets that each pass of the scheduler visits in turn, so that a missed notification delays a task only until then.
const WALK: usize = 64;

/// The open tasks of the hub. A task is known by a number; numbers ascend in the order in which tasks are added.
#[derive(Default)]
pub struct DurableTasks {
    pub(super) table: Mutex<TaskTable>,
    /// The number of waiting tasks, for callers that need no lock if there are none.
    waiting: AtomicUsize,
    /// Counts the open tasks of each user.
    quota: Arc<Quota>,
    /// Notified when a task may be claimable.
    pub(super) claimable: Notify,
    /// The number of requests that were read from the store.
    #[cfg(test)]
    pub(crate) reads: AtomicUsize,
    /// The number of notifications of capacity for a target that has waiting tasks.
    #[cfg(test)]
    pub(crate) capacity_notices: AtomicUsize,
}

#[derive(Default)]
pub(super) struct TaskTable {
    last_number: u64,
    /// Incremented when a list may change.
    version: u64,
    pub(super) open: HashMap<u64, OpenTask>,
    /// The numbers of tasks, by id.
    pub(super) numbers: HashMap<String, u64>,
    /// All open tasks by age, and those of each owner.
    pub(super) listed: BTreeSet<ListCursor>,
    pub(super) listed_by_owner: HashMap<UserId, BTreeSet<ListCursor>>,
    pub(super) queues: Queues,
    /// Waiting tasks by deadline.
    deadlines: BTreeSet<(Duration, u64)>,
    /// Waiting tasks that may not be claimed yet, by the time from which they may.
    delayed: BTreeSet<(Duration, u64)>,
    pub(super) counts: HashMap<UserId, Counts>,
    /// Targets whose queues may have become claimable.
    changed_targets: HashSet<String>,
    /// Targets whose names have been claimed while tasks waited for them.
    claimed_targets: HashSet<String>,
    /// The last target that was visited in turn.
    last_visited: String,
    turns: Turns,
}

impl DurableTasks {
    /// A permit for one more open task of `user`, who may have `max`. Take it before the task is written.
    pub(crate) fn permit(&self, user: &str, max: usize) -> Result<QuotaPermit, ApiError> {
        self.quota.take(user, max, "open tasks", Limit::OpenTasks)
    }

    /// A permit for a task that was accepted before a restart.
    pub(super) fn restored_permit(&self, user: &str) -> QuotaPermit {
        let mut permit = self.quota.empty(user);
        permit.grow(1, usize::MAX);
        permit
    }

    /// Adds a task that the store has. It may be claimed until `deadline`, when one of `names` has capacity. Returns its
    /// position in the queue of its target, from 1.
    pub(super) fn add(
        &self,
        task: DurableTask,
        deadline: Duration,
        names: Vec<String>,
        permit: QuotaPermit,
    ) -> usize {
        let mut table = self.table.lock();
        table.last_number += 1;
        table.version += 1;
        let number = table.last_number;
        let open = OpenTask::new(task, deadline, permit);
        let (target, owner, cursor) = (open.task.target.clone(), open.task.owner.clone(), open.cursor());
        table.numbers.insert(cursor.id.clone(), number);
        table.listed_by_owner.entry(owner).or_default().insert(cursor.clone());
        table.listed.insert(cursor);
        table.open.insert(number, open);
        table.update_indexes(number, None);
        table.queues.set_names(&target, names);
        let position = table.queues.position(&target, number).unwrap_or(1);
        table.changed_targets.insert(target);
        self.notify_scheduler(&table);
        position
    }

    /// Notifies the scheduler that `names` may have free capacity.
    pub(crate) fn capacity_freed<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut table = self.table.lock();
        let table = &mut *table;
        for name in names {
            #[cfg(test)]
            if table.queues.targets_of(name).next().is_some() {
                self.capacity_notices.fetch_add(1, Ordering::Relaxed);
            }
            table.changed_targets.extend(table.queues.targets_of(name).cloned());
        }
        self.notify_scheduler(table);
    }

    /// Notifies the scheduler of names that have been claimed. Tasks that wait for them may be another owner's.
    pub(crate) fn names_claimed(&self, names: &[String]) {
        let mut table = self.table.lock();
        let table = &mut *table;
        let waiting = names.iter().filter(|name| table.queues.has(name));
        table.claimed_targets.extend(waiting.cloned());
        if !table.claimed_targets.is_empty() {
            self.claimable.notify_one();
        }
    }

    /// Takes the targets of waiting tasks whose names have been claimed.
    pub(super) fn take_claimed_targets(&self) -> HashSet<String> {
        std::mem::take(&mut self.table.lock().claimed_targets)
    }

    /// The tasks waiting for `target` that were accepted when it was not `owner`'s.
    pub(super) fn of_other_owners(&self, target: &str, owner: &UserId) -> Vec<u64> {
        let table = self.table.lock();
        let is_others = |number: &u64| {
            table.open.get(number).is_some_and(|open| open.task.target_owner.as_ref() != Some(owner))
        };
        table.queues.waiting(target).filter(is_others).collect()
    }

    fn notify_scheduler(&self, table: &TaskTable) {
        self.waiting.store(table.queues.len(), Ordering::Relaxed);
        if !table.changed_targets.is_empty() {
            self.claimable.notify_one();
        }
    }

    /// Takes the targets whose queues are to be visited `now`: those that changed, those with a task whose delay is over,
    /// and [`WALK`] more in turn.
    pub(super) fn take_targets(&self, now: Duration) -> Vec<String> {
        let mut table = self.table.lock();
        let table = &mut *table;
        while let Some(&(not_before, number)) = table.delayed.first().filter(|(time, _)| *time <= now) {
            table.delayed.remove(&(not_before, number));
            if let Some(OpenTask { task, .. }) = table.open.get(&number) {
                table.queues.make_ready(&task.target, &task.owner, number);
                table.changed_targets.insert(task.target.clone());
            }
        }
        let walk = table.queues.targets_after(&table.last_visited, WALK);
        table.last_visited = walk.last().cloned().unwrap_or_default();
        table.changed_targets.extend(walk);
        table.changed_targets.drain().collect()
    }

    /// The first claimable task for `target` of each user.
    pub(super) fn heads(&self, target: &str) -> Vec<(u64, UserId)> {
        self.table.lock().queues.heads(target)
    }

    /// Rank of the user's tasks among those of others, by their last turns.
    pub(super) fn rank(&self, user: &str) -> u64 {
        self.table.lock().turns.rank(user)
    }

    /// Notes that a task of the user was claimed. Returns the rank of its next one.
    pub(super) fn take_turn(&self, user: &str) -> u64 {
        self.table.lock().turns.take(user)
    }

    /// The first claimable task for `target` of `user` behind the task `after`.
    pub(super) fn next(&self, target: &str, user: &str, after: u64) -> Option<u64> {
        self.table.lock().queues.next(target, user, after)
    }

    /// Sets the names whose capacity serves `target`.
    pub(super) fn set_names(&self, target: &str, names: Vec<String>) {
        self.table.lock().queues.set_names(target, names);
    }

    /// A number that changes when a list may change.
    pub(crate) fn version(&self) -> u64 {
        self.table.lock().version
    }

    /// The number of waiting tasks.
    pub(crate) fn depth(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The targets of waiting tasks, with the number of tasks.
    pub(super) fn targets(&self) -> Vec<(String, usize)> {
        self.table.lock().queues.targets().map(|(target, count)| (target.to_owned(), count)).collect()
    }

    /// The waiting tasks for which `sender` returns no caller, since their token is not valid any more.
    pub(super) fn without_sender(&self, sender: impl Fn(&DurableTask) -> Option<Caller>) -> Vec<u64> {
        let table = self.table.lock();
        let waiting = table.deadlines.iter().map(|&(_, number)| number);
        waiting
            .filter(|number| table.open.get(number).is_some_and(|open| sender(&open.task).is_none()))
            .collect()
    }

    /// The waiting tasks whose deadline has passed.
    pub(super) fn expired(&self, now: Duration) -> Vec<u64> {
        let table = self.table.lock();
        table.deadlines.range(..(now, 0)).map(|&(_, number)| number).collect()
    }

    /// Applies an event, and then `change` if the event had an effect. Returns `None` if it had none or the task is not
    /// open. A task that ends is shown in its last state until it is closed.
    pub(super) fn step<T>(
        &self,
        number: u64,
        event: Event,
        change: impl FnOnce(&mut OpenTask, Effect) -> T,
    ) -> Option<T> {
        let mut table = self.table.lock();
        table.version += 1;
        let open = table.open.get_mut(&number)?;
        let before = open.state.status();
        let effect = open.state.step(event);
        if matches!(effect, Effect::Nothing | Effect::Late) {
            return None;
        }
        if !open.state.status().is_terminal() {
            open.task.state = open.state.status();
            open.task.updated_at = crate::clock::now();
        } else if let Some(runner) = open.runner.take()
            && matches!(event, Event::Cancel | Event::Revoke)
        {
            // The runner drops its dispatch, which cancels it at the publisher.
            runner.abort();
        }
        let result = change(open, effect);
        open.changed.send_replace(());
        table.update_indexes(number, Some(before));
        self.notify_scheduler(&table);
        Some(result)
    }

    /// Sets the runner of a claimed task; aborts it if the task has ended meanwhile.
    pub(super) fn set_runner(&self, number: u64, runner: AbortHandle) {
        let mut table = self.table.lock();
        match table.open.get_mut(&number) {
            Some(open) if !open.state.status().is_terminal() => open.runner = Some(runner),
            Some(_) | None => runner.abort(),
        }
    }

    /// Calls `access` with an open task.
    pub(super) fn with<T>(&self, number: u64, access: impl FnOnce(&mut OpenTask) -> T) -> Option<T> {
        let mut table = self.table.lock();
        table.version += 1;
        table.open.get_mut(&number).map(access)
    }

    /// Calls `action` if `attempt` is under way. The task cannot end meanwhile.
    pub(super) fn if_running<T>(
        &self,
        number: u64,
        attempt: Attempt,
        action: impl FnOnce() -> T,
    ) -> Option<T> {
        let table = self.table.lock();
        table.open.get(&number).filter(|open| open.state.is_running(attempt)).map(|_| action())
    }

    /// Calls `access` with a task that has not ended. The task cannot end meanwhile.
    pub(super) fn if_not_ended<T>(&self, number: u64, access: impl FnOnce(&OpenTask) -> T) -> Option<T> {
        let table = self.table.lock();
        table.open.get(&number).filter(|open| !open.state.status().is_terminal()).map(access)
    }

    /// Whether the task is in the table: its end is not written.
    pub(super) fn is_known(&self, id: &str) -> bool {
        self.table.lock().numbers.contains_key(id)
    }

    /// The tasks that have not ended, by id.
    pub(super) fn not_ended(&self) -> HashMap<String, u64> {
        let table = self.table.lock();
        let open = table.open.iter().filter(|(_, open)| !open.state.status().is_terminal());
        open.map(|(number, open)| (open.task.id.clone(), *number)).collect()
    }

    /// Takes the chunks of a complete answer. From now on they can only be read from the store.
    pub(super) fn take_chunks(&self, number: u64) -> Chunks {
        self.with(number, |open| std::mem::take(&mut open.chunks)).unwrap_or_default()
    }

    /// Removes a task whose end the store has written.
    pub(super) fn close(&self, number: u64) {
        self.table.lock().close(number);
    }
}

impl TaskTable {
    /// Updates queues and counts after the task's state changed from `before`. An ended task is counted in its last state
    /// until it is closed.
    fn update_indexes(&mut self, number: u64, before: Option<TaskStatus>) {
        let Some(open) = self.open.get(&number) else { return };
        let (task, now) = (&open.task, Some(open.state.status()));
        let counts = self.counts.entry(task.owner.clone()).or_default();
        if !open.state.status().is_terminal() {
            counts.leave(before);
            counts.enter(now);
        }
        let waits = |state| state == Some(TaskStatus::Pending);
        if waits(now) && !waits(before) {
            self.queues.insert(&task.target, number);
            self.deadlines.insert((open.deadline, number));
            if open.not_before.is_zero() {
                self.queues.make_ready(&task.target, &task.owner, number);
            } else {
                self.delayed.insert((open.not_before, number));
            }
        } else if waits(before) && !waits(now) {
            self.queues.remove(&task.target, &task.owner, number);
            self.deadlines.remove(&(open.deadline, number));
            self.delayed.remove(&(open.not_before, number));
        }
    }

    fn close(&mut self, number: u64) {
        let Some(open) = self.open.remove(&number) else { return };
        self.version += 1;
        if let Some(counts) = self.counts.get_mut(&open.task.owner) {
            counts.leave(Some(open.task.state));
            if counts.is_empty() {
                self.counts.remove(&open.task.owner);
            }
        }
        let cursor = open.cursor();
        self.numbers.remove(&cursor.id);
        self.listed.remove(&cursor);
        if let Some(listed) = self.listed_by_owner.get_mut(&open.task.owner) {
            listed.remove(&cursor);
            if listed.is_empty() {
                self.listed_by_owner.remove(&open.task.owner);
            }
        }
    }
}
