//! Fair shares of the serving thread: a user whose connections had theirs of this round waits for the next one, in which
//! everybody else who has something to do comes first. Nobody waits where nobody else has anything to do.
//!
//! What is counted is the time of each poll of a connection: heads, tokens, handlers and writes are all in it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::task::yield_now;

use super::flow::Flow;
use super::pressing::{Pressure, polled};
use crate::model::UserId;

/// A user's time in a round, in nanoseconds as all times here. One that used more owes it to the next rounds.
const SLICE: u64 = 1_000_000;
/// Largest debt: after one long piece of work its user waits for 100 rounds at most.
const MOST_OWED: u64 = 100 * SLICE;
/// Connections of a user that are woken in a round, at most.
const AT_ONCE: u64 = 64;
/// Rounds that follow each other without a look at who else has become ready, where nobody else is served.
const ALONE: u64 = 4;
/// Debts that are kept of those who have no connection at the moment, 100 bytes each.
const DEBTS: usize = 4096;

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// The holder of a valid token.
    User(UserId),
    /// Nobody who has shown one.
    Address(IpAddr),
    /// A named proxy's, of which it is not known for whom it speaks next.
    Connection(u64),
}

/// The shares of all.
#[derive(Default)]
pub(super) struct Shares {
    of: RefCell<HashMap<Who, Weak<Share>>>,
    /// What those used who have left, and up to which round; as long as somebody waits.
    owed: RefCell<HashMap<Who, (u64, u64)>>,
    /// Those of whom connections wait for the next round.
    waiting: RefCell<Vec<Rc<Share>>>,
    /// Whether rounds are begun because somebody waits.
    is_serving: Cell<bool>,
    round: Cell<u64>,
    /// The last share that was served, and the last round in which another one was, too.
    last: Cell<u64>,
    shared: Cell<u64>,
    /// Rounds that were begun without a look at who else is ready.
    alone: Cell<u64>,
    /// How many there have been.
    many: Cell<u64>,
}

/// What one of them has.
pub(super) struct Share {
    id: u64,
    who: Who,
    all: Rc<Shares>,
    /// Time that it used, up to this round.
    used: Cell<u64>,
    round: Cell<u64>,
    /// What a poll takes, about.
    usual: Cell<u64>,
    /// Connections that wait, the first one first.
    line: RefCell<VecDeque<(Rc<Flow>, Waker)>>,
    /// Those at its front that had their turn in this round when there was no time left.
    returned: Cell<usize>,
}

/// Where a connection stands with its user's share.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nowhere.
    #[default]
    Free,
    /// It waits.
    Waits,
    /// It was woken for its turn.
    Has,
}

impl Shares {
    /// The one of `who`.
    pub(super) fn of(self: &Rc<Self>, who: Who) -> Rc<Share> {
        let mut of = self.of.borrow_mut();
        if let Some(share) = of.get(&who).and_then(Weak::upgrade) {
            return share;
        }
        let (used, round) = self.owed.borrow_mut().remove(&who).unwrap_or((0, self.round.get()));
        self.many.set(self.many.get() + 1);
        let share = Rc::new(Share {
            id: self.many.get(),
            who: who.clone(),
            all: self.clone(),
            used: Cell::new(used),
            round: Cell::new(round),
            usual: Cell::default(),
            line: RefCell::default(),
            returned: Cell::default(),
        });
        of.insert(who, Rc::downgrade(&share));
        share
    }

    /// Begins one round after the other, for as long as somebody waits.
    async fn serve(self: Rc<Self>) {
        while !self.waiting.borrow().is_empty() {
            // Whoever is ready is served before, and what came meanwhile is read.
            yield_now().await;
            self.alone.set(0);
            self.round.set(self.round.get() + 1);
            let waiting = self.waiting.take();
            for share in waiting {
                share.wake();
                if !share.line.borrow().is_empty() {
                    self.waiting.borrow_mut().push(share);
                }
            }
        }
        self.is_serving.set(false);
        self.owed.take();
    }
}

impl Share {
    pub(super) fn is_of(&self, user: &str) -> bool {
        matches!(&self.who, Who::User(known) if known == user)
    }

    /// Whether there is time left in this round.
    fn has_time(&self) -> bool {
        let round = self.all.round.get();
        let rounds = round - self.round.get();
        if rounds > 0 {
            self.round.set(round);
            self.used.set(self.used.get().saturating_sub(rounds.saturating_mul(SLICE)));
        }
        self.used.get() < SLICE
    }

    /// Begins the rounds in which there is time again, where nobody else was served in this one and the last one.
    fn goes_on(&self) -> bool {
        let all = &self.all;
        let rounds = self.used.get() / SLICE;
        if all.round.get() < all.shared.get() + 2 || all.is_serving.get() || all.alone.get() + rounds > ALONE
        {
            return false;
        }
        all.alone.set(all.alone.get() + rounds);
        all.round.set(all.round.get() + rounds);
        self.has_time()
    }

    fn use_up(&self, time: u64) {
        self.used.set((self.used.get() + time).min(MOST_OWED));
        let usual = self.usual.get();
        self.usual.set(usual - (usual >> 3) + (time >> 3));
    }

    /// Wakes as many as will about use up what there is of the round.
    fn wake(&self) {
        if !self.has_time() {
            return;
        }
        self.returned.set(0);
        for _ in 0..(SLICE / self.usual.get().max(1)).clamp(1, AT_ONCE) {
            let Some((flow, waker)) = self.line.borrow_mut().pop_front() else { return };
            flow.turn.set(Turn::Has);
            waker.wake();
        }
    }

    /// Whether `flow` may be served now; where not, it is woken when it may.
    fn admits(self: &Rc<Self>, flow: &Rc<Flow>, cx: &Context<'_>) -> bool {
        let turn = flow.turn.get();
        if turn == Turn::Waits {
            return false;
        }
        if self.all.last.replace(self.id) != self.id {
            self.all.shared.set(self.all.round.get());
        }
        let is_first = turn == Turn::Has || self.line.borrow().is_empty();
        let may = is_first && (self.has_time() || self.goes_on());
        if may || flow.pressure.load(Ordering::Relaxed) > 0 {
            flow.turn.set(Turn::Free);
            return true;
        }
        let waits = (flow.clone(), cx.waker().clone());
        let mut line = self.line.borrow_mut();
        let is_new = line.is_empty();
        // Those that had their turn when there was no time left come first in the next round, in their order.
        if turn == Turn::Has {
            let place = self.returned.get();
            line.insert(place, waits);
            self.returned.set(place + 1);
        } else {
            line.push_back(waits);
        }
        flow.turn.set(Turn::Waits);
        if is_new {
            let mut waiting = self.all.waiting.borrow_mut();
            if !waiting.iter().any(|share| Rc::ptr_eq(share, self)) {
                waiting.push(self.clone());
                if !self.all.is_serving.replace(true) {
                    actix_rt::spawn(self.all.clone().serve());
                }
            }
        }
        false
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut of = self.all.of.borrow_mut();
        if of.get(&self.who).is_some_and(|share| share.strong_count() == 0) {
            of.remove(&self.who);
        }
        // Whoever comes back does so with its debt.
        let mut owed = self.all.owed.borrow_mut();
        if !self.has_time() && self.all.is_serving.get() && owed.len() < DEBTS {
            owed.insert(self.who.clone(), (self.used.get(), self.round.get()));
        }
    }
}

/// A connection that is served within its user's share.
pub(super) struct Fair<F> {
    flow: Rc<Flow>,
    /// The flow's.
    pressure: Option<Pressure>,
    served: Pin<Box<F>>,
}

impl<F: Future> Fair<F> {
    pub(super) fn new(flow: Rc<Flow>, served: F) -> Self {
        let pressure = Some(flow.pressure.clone());
        Self { flow, pressure, served: Box::pin(served) }
    }
}

impl<F: Future> Future for Fair<F> {
    type Output = F::Output;

    #[expect(clippy::disallowed_methods, reason = "what a poll takes is no test's time")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { flow, pressure, served } = &mut *self;
        if !flow.share.borrow().admits(flow, cx) {
            return Poll::Pending;
        }
        let begin = Instant::now();
        let served = polled(pressure, || served.as_mut().poll(cx));
        let time = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(MOST_OWED);
        flow.share.borrow().use_up(time);
        // Whoever it was before pays, too: one who shows itself within the poll was let in as somebody else.
        flow.left.take().iter().for_each(|share| share.use_up(time));
        served
    }
}

#[cfg(test)]
mod tests;
