//! The tasks that have not ended, in the order in which they came.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::state::{Attempt, Effect, Event, Life};
use crate::model::{Caller, DurableTask, Role, TaskState};
use crate::registry::Candidate;
use crate::relay::Call;
use crate::watch::TaskView;

/// The user has that many open tasks already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

/// The open tasks of the hub.
#[derive(Default)]
pub struct Queue {
    book: Mutex<Book>,
    /// Sends when a task came, or one went back.
    pub(super) came: Notify,
}

#[derive(Default)]
struct Book {
    next: u64,
    open: BTreeMap<u64, Open>,
    numbers: HashMap<String, u64>,
}

/// One open task. Its request is in the store.
pub(super) struct Open {
    pub(super) task: DurableTask,
    pub(super) life: Life,
    /// Who took it last.
    pub(super) taker: Option<Candidate>,
    /// Notes for metrics and audit, from its first dispatch on.
    pub(super) call: Option<Arc<Call>>,
    /// Not before this reading of the clock: it just came back.
    pub(super) rest: Duration,
    /// Waits no longer than to this reading of the clock.
    due: Duration,
    /// What came of a streamed answer.
    chunks: Vec<Arc<str>>,
    /// Sends with every change; gone when the task is only in the store.
    changed: watch::Sender<()>,
    worker: Option<AbortHandle>,
}

/// What there is to read of a task's stream.
pub enum Peek {
    /// What came from the place that was asked for on, and a way to wait for more.
    Open(Vec<Arc<str>>, watch::Receiver<()>),
    /// It is not open any more: the store has it, if anybody.
    Closed,
}

impl Open {
    fn new(task: DurableTask, due: Duration) -> Self {
        Self {
            task,
            life: Life::new(),
            taker: None,
            call: None,
            rest: Duration::ZERO,
            due,
            chunks: Vec::new(),
            changed: watch::Sender::new(()),
            worker: None,
        }
    }

    /// Sent to this member.
    pub(super) fn taken_by(&mut self, candidate: &Candidate) {
        // Its owner reads the record: nothing of a row that is hidden behind an agent stands in it.
        let shown = candidate.through.is_none();
        self.task.llm = shown.then(|| candidate.name.clone());
        self.task.session = candidate.session.clone().filter(|_| shown);
        self.taker = Some(candidate.clone());
    }

    /// Who it is run for.
    pub(super) fn caller(&self) -> Caller {
        Caller { user: self.task.owner.clone(), role: self.task.role, token_id: self.task.id.clone() }
    }
}

impl Queue {
    /// Adds a task that the store has; it may be claimed from now on, up to `due`.
    pub(super) fn add(&self, mut task: DurableTask, due: Duration) -> usize {
        // Its request can be large, and there may be many.
        task.request = None;
        let mut book = self.book.lock();
        book.next += 1;
        let number = book.next;
        book.numbers.insert(task.id.clone(), number);
        let target = task.target.clone();
        book.open.insert(number, Open::new(task, due));
        self.came.notify_one();
        book.position(number, &target)
    }

    /// Whether `user` may add one more to `most`.
    pub fn has_room(&self, user: &str, most: usize) -> Result<(), TooMany> {
        let book = self.book.lock();
        let count = book.open.values().filter(|open| open.task.owner == user).count();
        if count < most { Ok(()) } else { Err(TooMany) }
    }

    /// The open tasks that `caller` may see, newest first.
    pub fn list(&self, caller: &Caller) -> Vec<TaskView> {
        let book = self.book.lock();
        let seen = book.open.iter().rev().filter(|(_, open)| may_see(caller, &open.task));
        seen.map(|(&number, open)| book.view(number, open)).collect()
    }

    /// One of them.
    pub fn view(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        let book = self.book.lock();
        let number = *book.numbers.get(id)?;
        let open = book.open.get(&number).filter(|open| may_see(caller, &open.task))?;
        Some(book.view(number, open))
    }

    /// What came of the task's answer from chunk `from` on.
    pub fn peek(&self, caller: &Caller, id: &str, from: usize) -> Peek {
        let book = self.book.lock();
        let open = book.numbers.get(id).and_then(|number| book.open.get(number));
        match open.filter(|open| may_see(caller, &open.task)) {
            Some(open) => {
                let chunks = open.chunks.get(from..).unwrap_or_default().to_vec();
                Peek::Open(chunks, open.changed.subscribe())
            }
            None => Peek::Closed,
        }
    }

    /// How many wait.
    pub(super) fn depth(&self) -> usize {
        self.book.lock().open.values().filter(|open| open.life.state() == TaskState::Pending).count()
    }

    /// What those that wait were asked of.
    pub(super) fn targets(&self) -> Vec<String> {
        let book = self.book.lock();
        let waiting = book.open.values().filter(|open| open.life.state() == TaskState::Pending);
        waiting.map(|open| open.task.target.clone()).collect()
    }

    /// The tasks that wait and may be claimed at `now`, in order: number, caller, target.
    pub(super) fn waiting(&self, now: Duration) -> Vec<(u64, Caller, String)> {
        let book = self.book.lock();
        let waiting =
            book.open.iter().filter(|(_, open)| open.life.state() == TaskState::Pending && open.rest <= now);
        waiting.map(|(&number, open)| (number, open.caller(), open.task.target.clone())).collect()
    }

    /// The number of an open task.
    pub(super) fn number(&self, caller: &Caller, id: &str) -> Option<u64> {
        let book = self.book.lock();
        let number = *book.numbers.get(id)?;
        book.open.get(&number).filter(|open| may_see(caller, &open.task)).map(|_| number)
    }

    /// The numbers of those that have waited too long.
    pub(super) fn overdue(&self, now: Duration) -> Vec<u64> {
        let book = self.book.lock();
        let late = book.open.iter().filter(|(_, open)| open.due < now);
        late.filter(|(_, open)| open.life.state() == TaskState::Pending).map(|(&number, _)| number).collect()
    }

    /// Takes an event in; `change` sees the task when the event had an effect. `None` for a task that is not open.
    pub(super) fn step<T>(
        &self,
        number: u64,
        event: Event,
        change: impl FnOnce(&mut Open, Effect) -> T,
    ) -> Option<T> {
        let mut book = self.book.lock();
        let open = book.open.get_mut(&number)?;
        let effect = open.life.step(event);
        if matches!(effect, Effect::Nothing | Effect::Late) {
            return None;
        }
        open.task.state = open.life.state();
        open.task.updated_at = crate::clock::now();
        if open.life.state().is_terminal()
            && let Some(worker) = open.worker.take()
            && event == Event::Cancel
        {
            // With it goes the dispatch, and the publisher is told.
            worker.abort();
        }
        let result = change(open, effect);
        open.changed.send_replace(());
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
        self.book.lock().open.get_mut(&number).map(look)
    }

    /// Looks at a task that is out as this attempt; it does not end meanwhile.
    pub(super) fn at_work<T>(&self, number: u64, attempt: Attempt, look: impl FnOnce() -> T) -> Option<T> {
        let book = self.book.lock();
        book.open.get(&number).filter(|open| open.life.is_at_work(attempt)).map(|_| look())
    }

    /// A piece of a streamed answer came.
    pub(super) fn push(&self, number: u64, chunk: &str) {
        self.with(number, |open| {
            open.chunks.push(chunk.into());
            open.changed.send_replace(());
        });
    }

    /// All that came of a streamed answer, as one JSON array.
    pub(super) fn answer(&self, number: u64) -> String {
        let chunks = self.with(number, |open| open.chunks.clone()).unwrap_or_default();
        format!("[{}]", chunks.join(","))
    }

    /// The store has the task's end: nothing more is kept of it here.
    pub(super) fn close(&self, number: u64) {
        let mut book = self.book.lock();
        if let Some(open) = book.open.remove(&number) {
            book.numbers.remove(&open.task.id);
        }
    }
}

impl Book {
    /// A waiting task's place among those for the same name, from 1.
    fn position(&self, number: u64, target: &str) -> usize {
        let ahead = self
            .open
            .range(..number)
            .filter(|(_, open)| open.life.state() == TaskState::Pending && open.task.target == target);
        ahead.count() + 1
    }

    fn view(&self, number: u64, open: &Open) -> TaskView {
        let pending = open.life.state() == TaskState::Pending;
        let taker = open.taker.as_ref().filter(|taker| taker.through.is_none());
        TaskView {
            position: pending.then(|| self.position(number, &open.task.target)),
            pool_name: taker.and_then(|taker| taker.pool.clone()),
            model: taker.map(|taker| taker.model.clone()),
            ..TaskView::of(&open.task)
        }
    }
}

/// Its owner and admins.
pub(super) fn may_see(caller: &Caller, task: &DurableTask) -> bool {
    caller.role == Role::Admin || caller.user == task.owner
}

impl TaskView {
    /// A task as its record has it.
    pub fn of(task: &DurableTask) -> Self {
        Self {
            id: task.id.clone(),
            status: task.state,
            llm: task.target.clone(),
            pool_name: None,
            llm_name: task.llm.clone(),
            model: None,
            streaming: task.streaming,
            durable: true,
            worker: task.session.clone(),
            owner_id: task.owner.clone(),
            position: None,
            error: task.error.clone(),
            code: task.code.clone(),
            created_at: task.created_at,
            updated_at: task.updated_at,
        }
    }
}
