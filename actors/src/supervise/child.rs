//! The supervisor of one actor: polls it, catches its panics and restarts it. Only this and
//! [`catch_panic`](super::catch_panic) catch panics in this crate.

use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::dev::ContextFut;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Recipient, Supervised};
use futures_util::task::AtomicWaker;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::failures::{Failures, Verdict};
use super::panic_hook;
use super::{Cause, ChildReport};

/// Stops a supervised actor, or waits for its end. Dropping the handle leaves the actor running.
#[derive(Debug)]
pub(crate) struct ChildHandle {
    signals: Rc<Signals>,
    task: JoinHandle<()>,
}

impl ChildHandle {
    /// Ends the actor without a restart: its current turn finishes, then `stopping` and `stopped` run. The messages in its
    /// mailbox are dropped.
    pub(crate) fn stop(&self) {
        self.signals.stop.set(true);
        self.signals.waker.wake();
    }

    /// Resolves when the actor has ended, for any reason.
    pub(crate) async fn ended(self) {
        // The task never panics and is never aborted.
        let _ = self.task.await;
    }
}

/// Counts crashes that an actor caught in its own tasks. They do not restart it.
#[derive(Debug, Clone)]
pub(crate) struct CrashReporter {
    signals: Rc<Signals>,
}

impl CrashReporter {
    /// Counts one crash.
    pub(crate) fn task_crashed(&self) {
        self.signals.task_crashes.set(self.signals.task_crashes.get() + 1);
        self.signals.waker.wake();
    }
}

/// Requests to a supervisor from outside its task.
#[derive(Debug, Default)]
struct Signals {
    stop: Cell<bool>,
    task_crashes: Cell<usize>,
    waker: AtomicWaker,
}

impl Signals {
    fn take_task_crash(&self) -> bool {
        let left = self.task_crashes.get();
        self.task_crashes.set(left.saturating_sub(1));
        left > 0
    }
}

enum Event {
    /// The actor crashed or stopped itself. Address and mailbox stay valid.
    Died(Cause),
    /// A [`CrashReporter`] counted a crash; the actor continues to run.
    TaskCrashed,
    /// [`ChildHandle::stop`] was called.
    Stop,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Run,
    End,
    GiveUp,
}

struct Child<A: Actor<Context = Context<A>>> {
    name: Arc<str>,
    actor: ContextFut<A, Context<A>>,
    signals: Rc<Signals>,
    failures: Failures,
    parent: Recipient<ChildReport>,
}

/// The address of an actor that has not started, so that two actors can have each other's addresses. Messages wait in its
/// mailbox.
pub(crate) struct PreparedActor<A: Actor<Context = Context<A>>> {
    ctx: Context<A>,
    signals: Rc<Signals>,
}

impl<A> PreparedActor<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    pub(crate) fn new() -> Self {
        Self { ctx: Context::new(), signals: Rc::default() }
    }

    pub(crate) fn address(&self) -> Addr<A> {
        self.ctx.address()
    }

    pub(crate) fn crash_reporter(&self) -> CrashReporter {
        CrashReporter { signals: Rc::clone(&self.signals) }
    }

    /// Starts `actor` under supervision on the current arbiter. `parent` gets a report of each crash.
    pub(crate) fn start(
        self,
        name: impl Into<Arc<str>>,
        parent: Recipient<ChildReport>,
        actor: A,
    ) -> ChildHandle {
        let Self { ctx, signals } = self;
        let child = Child {
            name: name.into(),
            actor: ctx.into_future(actor),
            signals: Rc::clone(&signals),
            failures: Failures::default(),
            parent,
        };
        let task = actix_rt::spawn(child.run());
        ChildHandle { signals, task }
    }
}

impl<A> Child<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    async fn run(mut self) {
        let next = loop {
            let next = match self.next_event().await {
                Event::Died(cause) => self.restart(cause).await,
                Event::TaskCrashed => self.count(Cause::Task),
                Event::Stop => Next::End,
            };
            if next != Next::Run {
                break next;
            }
        };
        self.finish(next);
    }

    /// Polls the actor until the next event, under its name for the panic hook.
    async fn next_event(&mut self) -> Event {
        let Self { name, actor, signals, .. } = self;
        poll_fn(|cx| {
            signals.waker.register(cx.waker());
            let stop = signals.stop.get();
            if stop {
                actor.ctx().stop();
            }
            let polled = {
                let _named = panic_hook::enter(name);
                catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *actor).poll(cx)))
            };
            match polled {
                _ if stop => Poll::Ready(Event::Stop),
                Err(_payload) => Poll::Ready(Event::Died(Cause::Panic)),
                Ok(Poll::Ready(())) => Poll::Ready(Event::Died(Cause::Stop)),
                Ok(Poll::Pending) if signals.take_task_crash() => Poll::Ready(Event::TaskCrashed),
                Ok(Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// Drops the futures of the crashed actor at once, then waits for the delay. A panic in `restarting` is one more crash.
    async fn restart(&mut self, mut cause: Cause) -> Next {
        loop {
            let restarted = {
                let _named = panic_hook::enter(&self.name);
                let actor = &mut self.actor;
                catch_unwind(AssertUnwindSafe(|| actor.restart()))
            };
            if let Ok(false) = restarted {
                return Next::End;
            }
            let delay = match self.failures.record(Instant::now()) {
                Verdict::GiveUp => return Next::GiveUp,
                Verdict::Restart(delay) => delay,
            };
            self.report_failed(cause, delay);
            if restarted.is_ok() {
                return self.wait(delay).await;
            }
            cause = Cause::Panic;
        }
    }

    /// Waits for the delay, or until [`ChildHandle::stop`]. The mailbox stays open.
    async fn wait(&mut self, delay: Duration) -> Next {
        let mut sleep = std::pin::pin!(sleep(delay));
        let Self { signals, .. } = self;
        poll_fn(|cx| {
            signals.waker.register(cx.waker());
            if signals.stop.get() {
                return Poll::Ready(Next::End);
            }
            if delay.is_zero() {
                return Poll::Ready(Next::Run);
            }
            sleep.as_mut().poll(cx).map(|()| Next::Run)
        })
        .await
    }

    fn count(&mut self, cause: Cause) -> Next {
        match self.failures.record(Instant::now()) {
            Verdict::GiveUp => Next::GiveUp,
            Verdict::Restart(_) => {
                self.report_failed(cause, Duration::ZERO);
                Next::Run
            }
        }
    }

    fn report_failed(&self, cause: Cause, retry_in: Duration) {
        self.parent.do_send(ChildReport::Failed { child: Arc::clone(&self.name), cause, retry_in });
    }

    /// Drops the actor without polling it again (`terminate` prevents that), then sends the last report.
    fn finish(self, next: Next) {
        let Self { name, mut actor, parent, .. } = self;
        {
            let _named = panic_hook::enter(&name);
            actor.ctx().terminate();
            // A panic in a `Drop` is caught and logged. There is nothing left to restart.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(actor)));
        }
        parent.do_send(match next {
            Next::GiveUp => ChildReport::GaveUp { child: name },
            Next::Run | Next::End => ChildReport::Ended { child: name },
        });
    }
}
