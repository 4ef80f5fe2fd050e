//! Each kind of crash of an actor, 50 times over, on a paused clock.

mod counting;
mod stopping;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, pause};

use super::catch_panic::Panicked;
use super::*;

/// Enough rounds to show a restart that works by chance.
const ROUNDS: usize = 50;

/// Counters over all lives of one actor.
#[derive(Default)]
struct Observed {
    starts: Cell<usize>,
    answered: RefCell<Vec<u32>>,
    ticks: Cell<usize>,
    stopped: Cell<usize>,
    dropped: Cell<usize>,
    died_at: Cell<Option<Instant>>,
}

/// Where the actor crashes, in addition to its messages.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Trap {
    #[default]
    Nowhere,
    /// In the first lives, this many.
    Started(usize),
    StopInStarted,
    /// In the first restarts, this many.
    Restarting(usize),
    Stopped,
}

struct Worker {
    seen: Rc<Observed>,
    trap: Trap,
    restarts: usize,
    crashes: CrashReporter,
    /// Reset by `restarting`.
    sum: u32,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let starts = self.seen.starts.get() + 1;
        self.seen.starts.set(starts);
        ctx.run_interval(Duration::from_secs(10), |this, _| this.seen.ticks.set(this.seen.ticks.get() + 1));
        match self.trap {
            Trap::Started(lives) if starts <= lives => panic!("in started"),
            Trap::StopInStarted => ctx.stop(),
            _ => {}
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.seen.stopped.set(self.seen.stopped.get() + 1);
        assert!(self.trap != Trap::Stopped, "in stopped");
    }
}

impl Supervised for Worker {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.sum = 0;
        self.restarts += 1;
        if let Trap::Restarting(times) = self.trap {
            assert!(self.restarts > times, "in restarting");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.seen.dropped.set(self.seen.dropped.get() + 1);
    }
}

#[derive(Message, Clone, Copy, Debug)]
#[rtype(result = "u32")]
enum Do {
    Add(u32),
    Panic,
    PanicInSpawned,
    PanicInTimer,
    HoldAndPanic,
    Stop,
    ReportTaskCrash,
}

/// Notes when the future that holds it is dropped.
struct Held(Rc<Observed>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.died_at.set(Some(Instant::now()));
    }
}

impl Handler<Do> for Worker {
    type Result = u32;

    fn handle(&mut self, message: Do, ctx: &mut Self::Context) -> u32 {
        match message {
            Do::Add(n) => {
                self.sum += n;
                self.seen.answered.borrow_mut().push(n);
            }
            Do::Panic => panic!("in a handler"),
            Do::PanicInSpawned => {
                ctx.spawn(async { panic!("in a spawned future") }.into_actor(self));
            }
            Do::PanicInTimer => {
                ctx.run_later(Duration::from_secs(1), |_, _| panic!("in a timer"));
            }
            Do::HoldAndPanic => {
                let held = Held(Rc::clone(&self.seen));
                ctx.spawn(
                    async move {
                        let _held = held;
                        std::future::pending::<()>().await;
                    }
                    .into_actor(self),
                );
                ctx.run_later(Duration::from_secs(1), |_, _| panic!("while holding"));
            }
            Do::Stop => ctx.stop(),
            Do::ReportTaskCrash => self.crashes.task_crashed(),
        }
        self.sum
    }
}

/// Keeps the reports, like the root.
#[derive(Default)]
struct Parent {
    reports: Rc<RefCell<Vec<ChildReport>>>,
}

impl Actor for Parent {
    type Context = Context<Self>;
}

impl Handler<ChildReport> for Parent {
    type Result = ();

    fn handle(&mut self, report: ChildReport, _: &mut Self::Context) {
        self.reports.borrow_mut().push(report);
    }
}

struct Setup {
    worker: Option<Addr<Worker>>,
    handle: ChildHandle,
    seen: Rc<Observed>,
    reports: Rc<RefCell<Vec<ChildReport>>>,
}

impl Setup {
    fn new(trap: Trap, policy: Policy) -> Self {
        let seen = Rc::<Observed>::default();
        let parent = Parent::default();
        let reports = Rc::clone(&parent.reports);
        let its = Rc::clone(&seen);
        let prepared = PreparedActor::new();
        let (worker, crashes) = (prepared.address(), prepared.crash_reporter());
        let actor = Worker { seen: its, trap, restarts: 0, crashes, sum: 0 };
        let handle = prepared.start("worker", policy, parent.start().recipient(), actor);
        Self { worker: Some(worker), handle, seen, reports }
    }

    fn worker(&self) -> &Addr<Worker> {
        self.worker.as_ref().expect("not dropped yet")
    }

    async fn ask(&self, message: Do) -> Result<u32, MailboxError> {
        self.worker().send(message).await
    }

    fn causes(&self) -> Vec<Cause> {
        let cause = |report: &ChildReport| match report {
            ChildReport::Failed { cause, .. } => Some(*cause),
            _ => None,
        };
        self.reports.borrow().iter().filter_map(cause).collect()
    }

    fn delays(&self) -> Vec<u64> {
        let delay = |report: &ChildReport| match report {
            ChildReport::Failed { retry_in, .. } => u64::try_from(retry_in.as_millis()).ok(),
            _ => None,
        };
        self.reports.borrow().iter().filter_map(delay).collect()
    }

    fn last_report(&self) -> Option<ChildReport> {
        self.reports.borrow().last().cloned()
    }
}

/// Advances the paused clock by `time`, and runs what becomes ready.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn rounds(trap: Trap, policy: impl Fn() -> Policy, test: impl AsyncFn(Setup)) {
    pause();
    for _ in 0..ROUNDS {
        test(Setup::new(trap, policy())).await;
    }
}

#[actix::test]
async fn a_panic_loses_only_the_message_that_caused_it() {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        let worker = setup.worker();
        let before = worker.send(Do::Add(1));
        let crash = worker.send(Do::Panic);
        let after: Vec<_> = (2..10).map(|n| worker.send(Do::Add(n))).collect();
        assert_eq!(before.await.ok(), Some(1));
        assert!(crash.await.is_err());
        for answer in after {
            answer.await.expect("kept in the mailbox");
        }
        assert_eq!(*setup.seen.answered.borrow(), (1..10).collect::<Vec<_>>());
        assert!(worker.connected());
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_restart_begins_with_clean_state() {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        assert_eq!(setup.ask(Do::Add(5)).await.ok(), Some(5));
        assert!(setup.ask(Do::Panic).await.is_err());
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.seen.starts.get(), 2);
    })
    .await;
}

async fn restarts_after(message: Do) {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        setup.ask(message).await.expect("the handler itself returns");
        pass(Duration::from_secs(2)).await;
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.seen.starts.get(), 2);
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_a_spawned_future_restarts_the_actor() {
    restarts_after(Do::PanicInSpawned).await;
}

#[actix::test]
async fn a_panic_in_a_timer_restarts_the_actor() {
    restarts_after(Do::PanicInTimer).await;
}

#[actix::test]
async fn a_panic_in_started_is_retried() {
    rounds(Trap::Started(3), Policy::default, async |setup| {
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1), "the message waits for the fourth start");
        assert_eq!(setup.seen.starts.get(), 4);
        assert_eq!(setup.delays(), [0, 10, 100]);
    })
    .await;
}

#[actix::test]
async fn a_stop_in_started_is_not_a_tight_loop() {
    rounds(Trap::StopInStarted, Policy::default, async |setup| {
        pass(Duration::from_secs(10)).await;
        assert_eq!(setup.seen.starts.get(), 6);
        assert_eq!(setup.delays(), [0, 10, 100, 1000, 1000]);
        assert_eq!(setup.last_report(), Some(ChildReport::GaveUp { child: "worker".into() }));
    })
    .await;
}

#[actix::test]
async fn a_panic_in_restarting_is_one_more_crash() {
    rounds(Trap::Restarting(2), Policy::default, async |setup| {
        assert!(setup.ask(Do::Panic).await.is_err());
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.causes(), [Cause::Panic, Cause::Panic, Cause::Panic]);
        assert_eq!(setup.seen.starts.get(), 2);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_stopped_restarts_the_actor() {
    rounds(Trap::Stopped, Policy::default, async |setup| {
        setup.ask(Do::Stop).await.expect("the handler itself returns");
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!(setup.causes(), [Cause::Panic]);
    })
    .await;
}

#[actix::test]
async fn a_panic_in_stopped_during_shutdown_ends_the_actor() {
    rounds(Trap::Stopped, Policy::default, async |setup| {
        setup.ask(Do::Add(1)).await.expect("alive");
        setup.handle.stop();
        setup.handle.ended().await;
        assert_eq!(setup.seen.dropped.get(), 1);
    })
    .await;
}

#[actix::test]
async fn an_actor_that_stops_itself_is_restarted() {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        setup.ask(Do::Add(7)).await.expect("alive");
        setup.ask(Do::Stop).await.expect("the handler itself returns");
        assert_eq!(setup.ask(Do::Add(1)).await.ok(), Some(1));
        assert_eq!((setup.causes(), setup.seen.stopped.get()), (vec![Cause::Stop], 1));
    })
    .await;
}

#[actix::test]
async fn an_interval_is_armed_exactly_once_after_a_restart() {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        for _ in 0..3 {
            assert!(setup.ask(Do::Panic).await.is_err());
        }
        pass(Duration::from_secs(1)).await;
        let before = setup.seen.ticks.get();
        pass(Duration::from_mins(1)).await;
        assert_eq!(setup.seen.ticks.get() - before, 6);
    })
    .await;
}

#[actix::test]
async fn a_panic_costs_one_of_a_hundred_requests() {
    rounds(Trap::Nowhere, Policy::default, async |setup| {
        let worker = setup.worker();
        let asked: Vec<_> =
            (0..100).map(|n| worker.send(if n == 50 { Do::Panic } else { Do::Add(n) })).collect();
        let answers = futures_util::future::join_all(asked).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 99);
    })
    .await;
}
