//! The tasks that have not ended, in the order in which they came.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::chunks::Chunks;
use super::lines::Lines;
use super::open::Open;
use super::state::{Attempt, Effect, Event};
use crate::error::ApiError;
use crate::model::{Caller, DurableTask, TaskStatus, UserId};
use crate::quota::{Quota, QuotaPermit};
use crate::store::ListCursor;
use crate::telemetry::Counts;

/// Lines that are looked at in turn without a reason: a line that missed its news waits no longer than for this walk.
const WALK: usize = 64;

/// The open tasks of the hub.
#[derive(Default)]
pub struct DurableTasks {
    pub(super) book: Mutex<TaskTable>,
    /// How many tasks wait: every freed place asks, mostly for nothing.
    waiting: AtomicUsize,
    /// The open tasks of each user.
    seats: Arc<Quota>,
    /// Sends when there is news of a line.
    pub(super) came: Notify,
    /// How many requests were read from the store.
    #[cfg(test)]
    pub(crate) reads: AtomicUsize,
    /// How often there was room under a name that tasks wait for.
    #[cfg(test)]
    pub(crate) told_of_room: AtomicUsize,
}

#[derive(Default)]
pub(super) struct TaskTable {
    next: u64,
    /// Counts changes of what lists show.
    version: u64,
    pub(super) open: HashMap<u64, Open>,
    pub(super) numbers: HashMap<String, u64>,
    /// All open tasks as lists have them, and those of each owner.
    pub(super) listed: BTreeSet<ListCursor>,
    pub(super) listed_of: HashMap<UserId, BTreeSet<ListCursor>>,
    pub(super) lines: Lines,
    /// The tasks that wait, by the reading of the clock up to which they do.
    due: BTreeSet<(Duration, u64)>,
    /// Those of them that may not be claimed before a reading of the clock.
    resting: BTreeSet<(Duration, u64)>,
    pub(super) counts: HashMap<UserId, Counts>,
    /// The targets whose lines may have become claimable.
    news: HashSet<String>,
    /// How far the walk over all lines has come.
    walked: String,
}

impl DurableTasks {
    /// A seat for one more open task of `user`, who may have `most`. It is taken before the task is written.
    pub fn seat(&self, user: &str, most: usize) -> Result<QuotaPermit, ApiError> {
        self.seats.take(user, most, "open tasks")
    }

    /// The same for a task that was let in before a restart.
    pub(super) fn seat_again(&self, user: &str) -> QuotaPermit {
        let mut seat = self.seats.empty(user);
        seat.grow(1, usize::MAX);
        seat
    }

    /// Adds a task that the store has; it may be claimed from now on, up to `due`, when there is room under one of
    /// `names`. Answers its place in its line.
    pub(super) fn add(
        &self,
        task: DurableTask,
        due: Duration,
        names: Vec<String>,
        seat: QuotaPermit,
    ) -> usize {
        let mut book = self.book.lock();
        book.next += 1;
        book.version += 1;
        let number = book.next;
        let open = Open::new(task, due, seat);
        let (target, owner, cursor) = (open.task.target.clone(), open.task.owner.clone(), open.cursor());
        book.numbers.insert(cursor.id.clone(), number);
        book.listed_of.entry(owner).or_default().insert(cursor.clone());
        book.listed.insert(cursor);
        book.open.insert(number, open);
        book.moved(number, None);
        book.lines.set_names(&target, names);
        let position = book.lines.position(&target, number).unwrap_or(1);
        book.news.insert(target);
        self.told(&book);
        position
    }

    /// There may be room under these names now.
    pub fn has_room<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut book = self.book.lock();
        let book = &mut *book;
        for name in names {
            #[cfg(test)]
            if book.lines.served_by(name).next().is_some() {
                self.told_of_room.fetch_add(1, Ordering::Relaxed);
            }
            book.news.extend(book.lines.served_by(name).cloned());
        }
        self.told(book);
    }

    /// Tells the loop that claims, if there is something to tell.
    fn told(&self, book: &TaskTable) {
        self.waiting.store(book.lines.len(), Ordering::Relaxed);
        if !book.news.is_empty() {
            self.came.notify_one();
        }
    }

    /// The targets whose lines are to be looked at, `now`: those with news, those whose tasks have rested, and some more
    /// in turn.
    pub(super) fn news(&self, now: Duration) -> Vec<String> {
        let mut book = self.book.lock();
        let book = &mut *book;
        while let Some(&(rest, number)) = book.resting.first().filter(|(rest, _)| *rest <= now) {
            book.resting.remove(&(rest, number));
            if let Some(Open { task, .. }) = book.open.get(&number) {
                book.lines.make_ready(&task.target, &task.owner, number);
                book.news.insert(task.target.clone());
            }
        }
        let walk = book.lines.some_after(&book.walked, WALK);
        book.walked = walk.last().cloned().unwrap_or_default();
        book.news.extend(walk);
        book.news.drain().collect()
    }

    /// The users who have tasks for `target` that may be claimed, and the number of the first of each.
    pub(super) fn heads(&self, target: &str) -> Vec<(u64, UserId)> {
        self.book.lock().lines.heads(target)
    }

    /// The first task of `user` for `target` that may be claimed.
    pub(super) fn head(&self, target: &str, user: &str) -> Option<u64> {
        self.book.lock().lines.head(target, user)
    }

    /// Says anew under which names there may be room for the tasks of `target`.
    pub(super) fn set_names(&self, target: &str, names: Vec<String>) {
        self.book.lock().lines.set_names(target, names);
    }

    /// Another number than before when a list may show something else.
    pub fn version(&self) -> u64 {
        self.book.lock().version
    }

    /// How many wait.
    pub fn depth(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What those that wait were asked of, and how many each.
    pub(super) fn targets(&self) -> Vec<(String, usize)> {
        self.book.lock().lines.targets().map(|(target, count)| (target.to_owned(), count)).collect()
    }

    /// The numbers of those that wait and that `sender` knows no sender of.
    pub(super) fn without(&self, sender: impl Fn(&DurableTask) -> Option<Caller>) -> Vec<u64> {
        let book = self.book.lock();
        let waiting = book.due.iter().map(|&(_, number)| number);
        waiting
            .filter(|number| book.open.get(number).is_some_and(|open| sender(&open.task).is_none()))
            .collect()
    }

    /// The numbers of those that have waited too long.
    pub(super) fn overdue(&self, now: Duration) -> Vec<u64> {
        let book = self.book.lock();
        book.due.range(..(now, 0)).map(|&(_, number)| number).collect()
    }

    /// Takes an event in; `change` sees the task when the event had an effect. `None` for a task that is not open. One that
    /// ends is shown as it was until it is closed.
    pub(super) fn step<T>(
        &self,
        number: u64,
        event: Event,
        change: impl FnOnce(&mut Open, Effect) -> T,
    ) -> Option<T> {
        let mut book = self.book.lock();
        book.version += 1;
        let open = book.open.get_mut(&number)?;
        let before = open.life.state();
        let effect = open.life.step(event);
        if matches!(effect, Effect::Nothing | Effect::Late) {
            return None;
        }
        if !open.life.state().is_terminal() {
            open.task.state = open.life.state();
            open.task.updated_at = crate::clock::now();
        } else if let Some(worker) = open.worker.take()
            && matches!(event, Event::Cancel | Event::Revoke)
        {
            // With it goes the dispatch, and the publisher is told.
            worker.abort();
        }
        let result = change(open, effect);
        open.changed.send_replace(());
        book.moved(number, Some(before));
        self.told(&book);
        Some(result)
    }

    /// Names the worker of a claimed task, so that it can be stopped.
    pub(super) fn set_worker(&self, number: u64, worker: AbortHandle) {
        let mut book = self.book.lock();
        match book.open.get_mut(&number) {
            Some(open) if !open.life.state().is_terminal() => open.worker = Some(worker),
            Some(_) | None => worker.abort(),
        }
    }

    /// Looks at an open task.
    pub(super) fn with<T>(&self, number: u64, look: impl FnOnce(&mut Open) -> T) -> Option<T> {
        let mut book = self.book.lock();
        book.version += 1;
        book.open.get_mut(&number).map(look)
    }

    /// Looks at a task that is out as this attempt; it does not end meanwhile.
    pub(super) fn at_work<T>(&self, number: u64, attempt: Attempt, look: impl FnOnce() -> T) -> Option<T> {
        let book = self.book.lock();
        book.open.get(&number).filter(|open| open.life.is_at_work(attempt)).map(|_| look())
    }

    /// All that came of a streamed answer: nobody reads it from here any more, but from the store when it is there.
    pub(super) fn take_chunks(&self, number: u64) -> Chunks {
        self.with(number, |open| std::mem::take(&mut open.chunks)).unwrap_or_default()
    }

    /// The store has the task's end: nothing more is kept of it here.
    pub(super) fn close(&self, number: u64) {
        self.book.lock().close(number);
    }

    /// Looks at a task that has not ended; it does not end meanwhile.
    pub(super) fn not_ended<T>(&self, number: u64, look: impl FnOnce(&Open) -> T) -> Option<T> {
        let book = self.book.lock();
        book.open.get(&number).filter(|open| !open.life.state().is_terminal()).map(look)
    }
}

impl TaskTable {
    /// The task is in the state that it is in, and was in `before`: lines and counts follow. An end is not counted before
    /// it is shown.
    fn moved(&mut self, number: u64, before: Option<TaskStatus>) {
        let Some(open) = self.open.get(&number) else { return };
        let (task, now) = (&open.task, Some(open.life.state()));
        let counts = self.counts.entry(task.owner.clone()).or_default();
        if !open.life.state().is_terminal() {
            counts.leave(before);
            counts.enter(now);
        }
        let waits = |state| state == Some(TaskStatus::Pending);
        if waits(now) && !waits(before) {
            self.lines.enter(&task.target, number);
            self.due.insert((open.due, number));
            if open.rest.is_zero() {
                self.lines.make_ready(&task.target, &task.owner, number);
            } else {
                self.resting.insert((open.rest, number));
            }
        } else if waits(before) && !waits(now) {
            self.lines.leave(&task.target, &task.owner, number);
            self.due.remove(&(open.due, number));
            self.resting.remove(&(open.rest, number));
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
        if let Some(listed) = self.listed_of.get_mut(&open.task.owner) {
            listed.remove(&cursor);
            if listed.is_empty() {
                self.listed_of.remove(&open.task.owner);
            }
        }
    }
}
