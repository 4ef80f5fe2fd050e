//! The loop around one actor's life. Nothing else in this crate but [`catch_panic`](super::catch_panic) catches
//! panics.

use std::cell::Cell;
use std::fmt;
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

use super::failures::{Failures, Policy, Verdict};
use super::panic_hook;
use super::{Cause, ChildReport};

/// Stops a supervised actor, or waits for its end. Dropping it leaves the actor running.
#[derive(Debug)]
pub struct ChildHandle {
    signals: Rc<Signals>,
    task: JoinHandle<()>,
}

impl ChildHandle {
    /// Ends the actor for good: its current turn finishes, `stopping` and `stopped` run, nothing restarts it.
    /// What waits in its mailbox is dropped.
    pub fn stop(&self) {
        self.signals.stop.set(true);
        self.signals.waker.wake();
    }

    /// Resolves when the actor is gone, for whatever reason.
    pub async fn ended(self) {
        // The supervisor catches every panic of the actor, and nobody aborts its task.
        let _ = self.task.await;
    }
}

/// By which an actor counts a crash that it contained itself, without being restarted for it.
#[derive(Debug, Clone)]
pub struct CrashReporter {
    signals: Rc<Signals>,
}

impl CrashReporter {
    /// Counts one crash against the actor.
    pub fn task_crashed(&self) {
        self.signals.task_crashes.set(self.signals.task_crashes.get() + 1);
        self.signals.waker.wake();
    }

    /// A reporter that nobody listens to, for an actor that runs without a supervisor.
    pub fn detached() -> Self {
        Self { signals: Rc::default() }
    }
}

/// What is said to a supervisor from outside its own task.
#[derive(Default)]
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

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("stop", &self.stop.get()).finish_non_exhaustive()
    }
}

/// Something that the supervisor must react to.
enum Event {
    /// The life is over; the address and the mailbox are not.
    Died(Cause),
    /// A contained crash; the life goes on.
    TaskCrashed,
    /// The handle asked for the end.
    Stop,
}

/// Whether there is another life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Live,
    End,
    GiveUp,
}

struct Child<A: Actor<Context = Context<A>>> {
    name: Arc<str>,
    life: ContextFut<A, Context<A>>,
    signals: Rc<Signals>,
    failures: Failures,
    parent: Recipient<ChildReport>,
}

/// An address before there is an actor behind it, so that two actors can know each other from the start. What is
/// sent to it waits.
pub struct PreparedActor<A: Actor<Context = Context<A>>> {
    ctx: Context<A>,
    signals: Rc<Signals>,
}

impl<A> PreparedActor<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    /// An empty seat.
    pub fn new() -> Self {
        Self { ctx: Context::new(), signals: Rc::default() }
    }

    /// The address of the actor to come.
    pub fn address(&self) -> Addr<A> {
        self.ctx.address()
    }

    /// By which the actor to come counts the crashes that it contains itself.
    pub fn crashes(&self) -> CrashReporter {
        CrashReporter { signals: Rc::clone(&self.signals) }
    }

    /// Starts `actor` under supervision on the current arbiter; `parent` hears of its crashes.
    pub fn start(
        self,
        name: impl Into<Arc<str>>,
        policy: Policy,
        parent: Recipient<ChildReport>,
        actor: A,
    ) -> ChildHandle {
        let Self { ctx, signals } = self;
        let (life, failures) = (ctx.into_future(actor), Failures::new(policy));
        let child = Child { name: name.into(), life, signals: Rc::clone(&signals), failures, parent };
        let task = actix_rt::spawn(child.run());
        ChildHandle { signals, task }
    }
}

impl<A> Default for PreparedActor<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    fn default() -> Self {
        Self::new()
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
            if next != Next::Live {
                break next;
            }
        };
        self.finish(next);
    }

    /// Polls the actor until something happens to it. The name is known to the panic hook meanwhile.
    async fn next_event(&mut self) -> Event {
        let Self { name, life, signals, .. } = self;
        poll_fn(|cx| {
            signals.waker.register(cx.waker());
            let stop = signals.stop.get();
            if stop {
                life.ctx().stop();
            }
            let polled = {
                let _named = panic_hook::enter(name);
                catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *life).poll(cx)))
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

    /// Frees what the dead life held at once, and only then waits; a panic in `restarting` is one more crash.
    async fn restart(&mut self, mut cause: Cause) -> Next {
        loop {
            let restarted = {
                let _named = panic_hook::enter(&self.name);
                let life = &mut self.life;
                catch_unwind(AssertUnwindSafe(|| life.restart()))
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

    /// Waits out a delay with the mailbox open, and hears the handle meanwhile.
    async fn wait(&mut self, delay: Duration) -> Next {
        let mut sleep = std::pin::pin!(sleep(delay));
        let Self { signals, .. } = self;
        poll_fn(|cx| {
            signals.waker.register(cx.waker());
            if signals.stop.get() {
                return Poll::Ready(Next::End);
            }
            if delay.is_zero() {
                return Poll::Ready(Next::Live);
            }
            sleep.as_mut().poll(cx).map(|()| Next::Live)
        })
        .await
    }

    fn count(&mut self, cause: Cause) -> Next {
        match self.failures.record(Instant::now()) {
            Verdict::GiveUp => Next::GiveUp,
            Verdict::Restart(_) => {
                self.report_failed(cause, Duration::ZERO);
                Next::Live
            }
        }
    }

    fn report_failed(&self, cause: Cause, retry_in: Duration) {
        self.parent.do_send(ChildReport::Failed { child: Arc::clone(&self.name), cause, retry_in });
    }

    /// Drops the actor without another turn (`terminate` keeps the drop from polling it), then reports.
    fn finish(self, next: Next) {
        let Self { name, mut life, parent, .. } = self;
        {
            let _named = panic_hook::enter(&name);
            life.ctx().terminate();
            // A panic in somebody's `Drop` is the last that is heard of this actor: there is nothing to restart.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(life)));
        }
        parent.do_send(match next {
            Next::GiveUp => ChildReport::GaveUp { child: name },
            Next::Live | Next::End => ChildReport::Ended { child: name },
        });
    }
}
