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
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::task::yield_now;

use super::flow::Flow;
use crate::model::UserId;

/// A user's time in a round. One that used more owes it to the next rounds.
const SLICE: Duration = Duration::from_millis(1);
/// Largest debt: after one long piece of work its user waits for 100 rounds at most.
const MOST_OWED: Duration = Duration::from_millis(100);
/// Connections of a user that are woken in a round, at most.
const AT_ONCE: u32 = 64;

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// The holder of a valid token.
    User(UserId),
    /// Nobody who has shown one.
    Address(IpAddr),
}

/// The shares of all.
#[derive(Default)]
pub(super) struct Shares {
    of: RefCell<HashMap<Who, Weak<Share>>>,
    /// Those of whom connections wait for the next round.
    waiting: RefCell<Vec<Rc<Share>>>,
    round: Cell<u64>,
}

/// What one of them has.
pub(super) struct Share {
    who: Who,
    all: Rc<Shares>,
    /// Time that it used, up to this round.
    used: Cell<Duration>,
    round: Cell<u64>,
    /// What a poll takes, about.
    usual: Cell<Duration>,
    /// Connections that wait, the first one first.
    line: RefCell<VecDeque<(Rc<Flow>, Waker)>>,
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
        let share = Rc::new(Share {
            who: who.clone(),
            all: self.clone(),
            used: Cell::default(),
            round: self.round.clone(),
            usual: Cell::default(),
            line: RefCell::default(),
        });
        of.insert(who, Rc::downgrade(&share));
        share
    }

    /// Begins one round after the other, for as long as somebody waits.
    async fn serve(self: Rc<Self>) {
        while !self.waiting.borrow().is_empty() {
            // Whoever is ready is served before, and what came meanwhile is read.
            yield_now().await;
            self.round.set(self.round.get() + 1);
            let waiting = self.waiting.take();
            for share in waiting {
                share.wake();
                if !share.line.borrow().is_empty() {
                    self.waiting.borrow_mut().push(share);
                }
            }
        }
    }
}

impl Share {
    pub(super) fn is_of(&self, user: &str) -> bool {
        matches!(&self.who, Who::User(known) if known == user)
    }

    /// Whether there is time left in this round.
    fn has_time(&self) -> bool {
        let rounds = self.all.round.get() - self.round.replace(self.all.round.get());
        let repaid = SLICE.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        self.used.set(self.used.get().saturating_sub(repaid));
        self.used.get() < SLICE
    }

    fn use_up(&self, time: Duration) {
        self.used.set((self.used.get() + time).min(MOST_OWED));
        self.usual.set((self.usual.get() * 7 + time) / 8);
    }

    /// Wakes as many as will about use up what there is of the round.
    fn wake(&self) {
        if !self.has_time() {
            return;
        }
        let many = SLICE.as_nanos() / self.usual.get().as_nanos().max(1);
        for _ in 0..u32::try_from(many).unwrap_or(AT_ONCE).clamp(1, AT_ONCE) {
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
        let is_first = turn == Turn::Has || self.line.borrow().is_empty();
        if is_first && self.has_time() {
            flow.turn.set(Turn::Free);
            return true;
        }
        let waits = (flow.clone(), cx.waker().clone());
        let mut line = self.line.borrow_mut();
        let is_new = line.is_empty();
        // One that had its turn when there was no time left comes first in the next round.
        if turn == Turn::Has {
            line.push_front(waits);
        } else {
            line.push_back(waits);
        }
        flow.turn.set(Turn::Waits);
        if is_new {
            let mut waiting = self.all.waiting.borrow_mut();
            if !waiting.iter().any(|share| Rc::ptr_eq(share, self)) {
                waiting.push(self.clone());
                if waiting.len() == 1 {
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
    }
}

/// A connection that is served within its user's share.
pub(super) struct Fair<F> {
    flow: Rc<Flow>,
    served: Pin<Box<F>>,
}

impl<F: Future> Fair<F> {
    pub(super) fn new(flow: Rc<Flow>, served: F) -> Self {
        Self { flow, served: Box::pin(served) }
    }
}

impl<F: Future> Future for Fair<F> {
    type Output = F::Output;

    #[expect(clippy::disallowed_methods, reason = "what a poll takes is no test's time")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.flow.share().admits(&self.flow, cx) {
            return Poll::Pending;
        }
        let begin = Instant::now();
        let served = self.served.as_mut().poll(cx);
        // Who asks may be known only now.
        self.flow.share().use_up(begin.elapsed());
        served
    }
}

#[cfg(test)]
mod tests {
    use actix_rt::task::JoinHandle;
    use proptest::prelude::*;

    use super::*;
    use crate::door::Room;
    use crate::door::table::{Place, Table};
    use crate::model::{Caller, Role};
    use crate::watch::Metrics;

    fn table() -> Rc<Table> {
        let room = Room { all: 4096, strangers: 4096, members: 4096, of_member: 4096, of_address: None };
        Table::new(room, Metrics::new().unwrap().of_machine().unwrap())
    }

    /// A connection of `user`'s.
    fn connect(table: &Rc<Table>, user: &str) -> Place {
        let place = table.admit("10.0.0.1".parse().unwrap(), false);
        let caller = Caller { user: user.to_owned(), role: Role::Member, token_id: "t".into() };
        place.flow.speaks(Some(&caller)).unwrap();
        place
    }

    #[expect(clippy::disallowed_methods, reason = "what a poll takes is no test's time")]
    /// A connection that is busy for a while, so many times, each at the next poll; the names of all that were, in order.
    fn busy(
        table: &Rc<Table>,
        user: &'static str,
        times: usize,
        each: Duration,
        log: &Log,
    ) -> JoinHandle<()> {
        let (place, log) = (connect(table, user), log.clone());
        actix_rt::spawn(Fair::new(place.flow.clone(), async move {
            let _place = place;
            for _ in 0..times {
                let begin = Instant::now();
                while begin.elapsed() < each {}
                log.borrow_mut().push(user);
                tokio::task::yield_now().await;
            }
        }))
    }

    type Log = Rc<RefCell<Vec<&'static str>>>;

    /// A24: one user's connections, however many are ready at once and whatever each of them costs, are served within its
    /// share: another user's comes after one of them, not after all.
    #[actix_rt::test]
    async fn a_user_is_not_served_after_all_that_another_has() {
        let (table, log) = (table(), Log::default());
        let flood: Vec<_> =
            (0..100).map(|_| busy(&table, "mallory", 2, Duration::from_millis(3), &log)).collect();
        tokio::task::yield_now().await;
        for _ in 0..5 {
            let before = log.borrow().len();
            busy(&table, "alice", 3, Duration::from_micros(10), &log).await.unwrap();
            let others = log.borrow()[before..].iter().filter(|user| **user == "mallory").count();
            assert!(others <= 6, "{others} polls of another's within three of hers");
        }
        for one in flood {
            one.await.unwrap();
        }
        assert_eq!(log.borrow().len(), 215);
    }

    /// Nothing is kept of those who have left.
    #[actix_rt::test]
    async fn a_share_ends_with_the_last_connection() {
        let (table, log) = (table(), Log::default());
        let all: Vec<_> =
            (0..20).map(|_| busy(&table, "alice", 10, Duration::from_micros(500), &log)).collect();
        for one in all {
            one.await.unwrap();
        }
        assert_eq!(log.borrow().len(), 200);
        assert!(table.shares.waiting.borrow().is_empty());
        assert_eq!(table.shares.of.borrow().len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Nobody is forgotten, whoever comes and leaves, in any order.
        #[test]
        fn everybody_is_served(
            tasks in prop::collection::vec((0..3_usize, 0..5_usize, 0..1500_u64, prop::bool::weighted(0.1)), 1..40),
        ) {
            actix_rt::System::new().block_on(async {
                let (table, log) = (table(), Log::default());
                let mut expected = 0;
                let mut all = Vec::new();
                for (user, times, micros, leaves) in tasks {
                    let each = Duration::from_micros(micros);
                    let task = busy(&table, ["a", "b", "c"][user], times, each, &log);
                    if leaves {
                        tokio::task::yield_now().await;
                        task.abort();
                    } else {
                        expected += times;
                        all.push(task);
                    }
                }
                for task in all {
                    tokio::time::timeout(Duration::from_secs(10), task).await.expect("forgotten").unwrap();
                }
                assert!(log.borrow().len() >= expected);
            });
        }
    }
}
