//! Fair scheduling of the serving thread. A user whose connections have used their time of a round waits for the next one,
//! so that all other users with work come first. A user does not wait while it is the only one with work.
//!
//! The time of each poll of a connection counts: heads, tokens, handlers and writes are all in it. `Scheduled` measures it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::task::{Context, Waker};

use tokio::task::yield_now;

use super::priority::PriorityCount;
use crate::model::UserId;

/// A user's time in a round, in nanoseconds as all times here. Time used beyond it is owed to the next rounds.
const SLICE: u64 = 1_000_000;
/// Largest debt: after one long poll a user waits for 100 rounds at most.
const MAX_DEBT: u64 = 100 * SLICE;
/// Most connections of a user that are woken in a round.
const MAX_WOKEN: u64 = 64;
/// Rounds that one user may begin in a row before the runtime looks for other ready tasks.
const MAX_SOLO_ROUNDS: u64 = 4;
/// Most debts kept of users without a connection, 100 bytes each.
const MAX_DEBTS: usize = 4096;

/// The owner of a [`RunQueue`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum QueueOwner {
    /// The holder of a valid token.
    User(UserId),
    /// A client without one.
    Address(IpAddr),
    /// A trusted proxy's connection, while it is unknown for whom its next request is.
    Connection(u64),
}

/// The run queues of all owners.
#[derive(Default)]
pub(super) struct Scheduler {
    queues: RefCell<HashMap<QueueOwner, Weak<RunQueue>>>,
    /// Used time, and its round, of owners that have left, while others wait.
    debts: RefCell<HashMap<QueueOwner, (u64, u64)>>,
    /// Queues with connections that wait for the next round.
    waiting: RefCell<Vec<Rc<RunQueue>>>,
    /// Whether the task that begins rounds runs.
    is_running: Cell<bool>,
    round: Cell<u64>,
    /// The queue that was polled last, and the last round in which another one was polled too.
    last_polled: Cell<u64>,
    last_shared: Cell<u64>,
    /// Rounds begun by [`RunQueue::begin_rounds`] since the runtime last looked for ready tasks.
    solo_rounds: Cell<u64>,
    last_id: Cell<u64>,
}

/// The connections of one owner, and the time that they have used.
pub(super) struct RunQueue {
    id: u64,
    owner: QueueOwner,
    scheduler: Rc<Scheduler>,
    /// Time used, as of `round`.
    used: Cell<u64>,
    round: Cell<u64>,
    /// Moving average of the time of a poll.
    usual: Cell<u64>,
    /// Waiting connections, first in first out.
    line: RefCell<VecDeque<(Rc<SchedulerSlot>, Waker)>>,
    /// Connections at the front of `line` that were woken in this round when no time was left.
    returned: Cell<usize>,
}

/// The state of a connection in its [`RunQueue`].
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    #[default]
    Idle,
    /// In line.
    Waiting,
    /// Woken from the line, and not polled yet.
    Woken,
}

/// A connection's place in the scheduler.
pub(super) struct SchedulerSlot {
    queue: RefCell<Rc<RunQueue>>,
    state: Cell<SlotState>,
    /// Earlier queues since the connection was last admitted: they are charged too.
    left: RefCell<Vec<Rc<RunQueue>>>,
    /// A trusted proxy's own queue, which it is in between two requests.
    own: Option<Rc<RunQueue>>,
    priority: PriorityCount,
}

impl Scheduler {
    /// The queue of `owner`.
    pub(super) fn queue(self: &Rc<Self>, owner: QueueOwner) -> Rc<RunQueue> {
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = queues.get(&owner).and_then(Weak::upgrade) {
            return queue;
        }
        let (used, round) = self.debts.borrow_mut().remove(&owner).unwrap_or((0, self.round.get()));
        self.last_id.set(self.last_id.get() + 1);
        let queue = Rc::new(RunQueue {
            id: self.last_id.get(),
            owner: owner.clone(),
            scheduler: self.clone(),
            used: Cell::new(used),
            round: Cell::new(round),
            usual: Cell::default(),
            line: RefCell::default(),
            returned: Cell::default(),
        });
        queues.insert(owner, Rc::downgrade(&queue));
        queue
    }

    /// Begins one round after the other while connections wait.
    async fn run(self: Rc<Self>) {
        while !self.waiting.borrow().is_empty() {
            // The runtime polls other ready tasks first, and reads what came meanwhile.
            yield_now().await;
            self.solo_rounds.set(0);
            self.round.set(self.round.get() + 1);
            let waiting = self.waiting.take();
            for queue in waiting {
                queue.wake();
                if !queue.line.borrow().is_empty() {
                    self.waiting.borrow_mut().push(queue);
                }
            }
        }
        self.is_running.set(false);
        self.debts.take();
    }
}

impl RunQueue {
    /// Whether time is left in this round.
    fn has_time(&self) -> bool {
        let round = self.scheduler.round.get();
        let rounds = round - self.round.get();
        if rounds > 0 {
            self.round.set(round);
            self.used.set(self.used.get().saturating_sub(rounds.saturating_mul(SLICE)));
        }
        self.used.get() < SLICE
    }

    /// Begins the rounds that pay the debt, if no other queue was polled in this round and the last one.
    fn begin_rounds(&self) -> bool {
        let scheduler = &self.scheduler;
        let rounds = self.used.get() / SLICE;
        let solo_rounds = scheduler.solo_rounds.get() + rounds;
        let is_alone = scheduler.round.get() >= scheduler.last_shared.get() + 2;
        if !is_alone || scheduler.is_running.get() || solo_rounds > MAX_SOLO_ROUNDS {
            return false;
        }
        scheduler.solo_rounds.set(solo_rounds);
        scheduler.round.set(scheduler.round.get() + rounds);
        self.has_time()
    }

    fn charge(&self, time: u64) {
        let time = time.min(MAX_DEBT);
        self.used.set((self.used.get() + time).min(MAX_DEBT));
        let usual = self.usual.get();
        self.usual.set(usual - (usual >> 3) + (time >> 3));
    }

    /// Wakes as many connections as will about use up the round.
    fn wake(&self) {
        if !self.has_time() {
            return;
        }
        self.returned.set(0);
        for _ in 0..(SLICE / self.usual.get().max(1)).clamp(1, MAX_WOKEN) {
            let Some((slot, waker)) = self.line.borrow_mut().pop_front() else { return };
            slot.state.set(SlotState::Woken);
            waker.wake();
        }
    }

    fn admits(self: &Rc<Self>, slot: &Rc<SchedulerSlot>, cx: &Context<'_>) -> bool {
        let state = slot.state.get();
        if state == SlotState::Waiting {
            return false;
        }
        let scheduler = &self.scheduler;
        if scheduler.last_polled.replace(self.id) != self.id {
            scheduler.last_shared.set(scheduler.round.get());
        }
        let is_first = state == SlotState::Woken || self.line.borrow().is_empty();
        let is_admitted = is_first && (self.has_time() || self.begin_rounds());
        if is_admitted || slot.has_priority() {
            slot.state.set(SlotState::Idle);
            return true;
        }
        let entry = (slot.clone(), cx.waker().clone());
        let mut line = self.line.borrow_mut();
        let was_empty = line.is_empty();
        // Connections that were woken too late are first in the next round, in their order.
        if state == SlotState::Woken {
            let index = self.returned.get();
            line.insert(index, entry);
            self.returned.set(index + 1);
        } else {
            line.push_back(entry);
        }
        slot.state.set(SlotState::Waiting);
        if was_empty {
            let mut waiting = scheduler.waiting.borrow_mut();
            if !waiting.iter().any(|queue| Rc::ptr_eq(queue, self)) {
                waiting.push(self.clone());
                if !scheduler.is_running.replace(true) {
                    actix_rt::spawn(scheduler.clone().run());
                }
            }
        }
        false
    }
}

impl Drop for RunQueue {
    fn drop(&mut self) {
        let mut queues = self.scheduler.queues.borrow_mut();
        if queues.get(&self.owner).is_some_and(|queue| queue.strong_count() == 0) {
            queues.remove(&self.owner);
        }
        // An owner that comes back has its debt again.
        let mut debts = self.scheduler.debts.borrow_mut();
        if !self.has_time() && self.scheduler.is_running.get() && debts.len() < MAX_DEBTS {
            debts.insert(self.owner.clone(), (self.used.get(), self.round.get()));
        }
    }
}

impl SchedulerSlot {
    /// A slot in `queue`. With `is_own`, the slot returns to it behind each request.
    pub(super) fn new(queue: Rc<RunQueue>, is_own: bool) -> Rc<Self> {
        Rc::new(Self {
            own: is_own.then(|| queue.clone()),
            queue: RefCell::new(queue),
            state: Cell::default(),
            left: RefCell::default(),
            priority: PriorityCount::default(),
        })
    }

    /// Whether the slot is in the queue of this user.
    pub(super) fn is_of(&self, user: &str) -> bool {
        matches!(&self.queue.borrow().owner, QueueOwner::User(owner) if owner == user)
    }

    /// Moves the slot to another queue.
    pub(super) fn join(&self, queue: Rc<RunQueue>) {
        if !Rc::ptr_eq(&self.queue.borrow(), &queue) {
            self.left.borrow_mut().push(self.queue.replace(queue));
        }
    }

    pub(super) fn join_own(&self) {
        if let Some(own) = &self.own {
            self.join(own.clone());
        }
    }

    /// The connection's number of priority guards.
    pub(super) fn priority(&self) -> &PriorityCount {
        &self.priority
    }

    /// Whether the connection has a priority guard.
    pub(super) fn has_priority(&self) -> bool {
        self.priority.load(Ordering::Relaxed) > 0
    }

    /// Whether the connection may be polled now. If not, it is woken when it may.
    pub(super) fn admits(self: &Rc<Self>, cx: &Context<'_>) -> bool {
        self.queue.borrow().admits(self, cx)
    }

    /// Charges the nanoseconds of a poll, also to the queues that the slot has left since: the poll began for them.
    pub(super) fn charge(&self, time: u64) {
        self.queue.borrow().charge(time);
        self.left.take().iter().for_each(|queue| queue.charge(time));
    }

    /// Ends the poll if the slot has changed its queue since: the new queue has to admit the next one.
    pub(super) async fn wait_for_new_queue(&self) {
        if !self.left.borrow().is_empty() {
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests;
