//! An actor that crashes on request, and a parent that stores its reports.

use super::*;

/// Counters over all restarts of one actor.
#[derive(Default)]
pub(super) struct Observed {
    pub(super) starts: Cell<usize>,
    pub(super) answered: RefCell<Vec<u32>>,
    pub(super) ticks: Cell<usize>,
    pub(super) stopped: Cell<usize>,
    pub(super) dropped: Cell<usize>,
    pub(super) died_at: Cell<Option<Instant>>,
}

/// A lifecycle method in which the actor crashes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trap {
    #[default]
    Nowhere,
    /// In `started`, for this many starts.
    Started(usize),
    StopInStarted,
    /// In `restarting`, for this many restarts.
    Restarting(usize),
    Stopped,
}

pub(super) struct Worker {
    seen: Rc<Observed>,
    trap: Trap,
    restarts: usize,
    crashes: CrashReporter,
    /// Sum of the added numbers since the last restart.
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
pub(super) enum Do {
    Add(u32),
    Panic,
    PanicInSpawned,
    PanicInTimer,
    HoldAndPanic,
    Stop,
    ReportTaskCrash,
}

/// Records the time at which the future that owns it is dropped.
pub(super) struct Held(pub(super) Rc<Observed>);

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

/// Stores the reports, like the `RootActor`.
#[derive(Default)]
pub(super) struct Parent {
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

pub(super) struct Setup {
    pub(super) worker: Option<Addr<Worker>>,
    pub(super) handle: ChildHandle,
    pub(super) seen: Rc<Observed>,
    pub(super) reports: Rc<RefCell<Vec<ChildReport>>>,
}

impl Setup {
    pub(super) fn new(trap: Trap) -> Self {
        let seen = Rc::<Observed>::default();
        let parent = Parent::default();
        let reports = Rc::clone(&parent.reports);
        let its = Rc::clone(&seen);
        let prepared = PreparedActor::new();
        let (worker, crashes) = (prepared.address(), prepared.crash_reporter());
        let actor = Worker { seen: its, trap, restarts: 0, crashes, sum: 0 };
        let handle = prepared.start("worker", parent.start().recipient(), actor);
        Self { worker: Some(worker), handle, seen, reports }
    }

    pub(super) fn worker(&self) -> &Addr<Worker> {
        self.worker.as_ref().expect("not dropped yet")
    }

    pub(super) async fn ask(&self, message: Do) -> Result<u32, MailboxError> {
        self.worker().send(message).await
    }

    pub(super) fn causes(&self) -> Vec<Cause> {
        let cause = |report: &ChildReport| match report {
            ChildReport::Failed { cause, .. } => Some(*cause),
            _ => None,
        };
        self.reports.borrow().iter().filter_map(cause).collect()
    }

    pub(super) fn delays(&self) -> Vec<u64> {
        let delay = |report: &ChildReport| match report {
            ChildReport::Failed { retry_in, .. } => u64::try_from(retry_in.as_millis()).ok(),
            _ => None,
        };
        self.reports.borrow().iter().filter_map(delay).collect()
    }

    pub(super) fn last_report(&self) -> Option<ChildReport> {
        self.reports.borrow().last().cloned()
    }
}

/// Advances the paused clock by `time`, and runs what becomes ready.
pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}
