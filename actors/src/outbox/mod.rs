//! Where results leave: each task gets exactly one ending (SPEC.md section 6).
//!
//! Not an actor: a result must outlive the crash of whoever made it. The ledger knows which ids ran, a
//! [`Ticket`] is the duty to end one, and each result is delivered by a future of its own.

mod backlog;
mod ledger;
mod owned;
mod retry_policy;
mod ticket;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use wire::result::TaskResult;
use wire::{TaskId, texts};

use crate::news::news;
use crate::supervise::catch_panic;
use crate::uplink::{Posted, Uplink};

use backlog::MAX_BACKLOG;
pub(crate) use backlog::{Backlog, Load};
use ledger::{Ledger, Seen};
pub(crate) use retry_policy::RetryPolicy;
pub use ticket::Ticket;

/// Bytes of results that may wait for the hub before finished tasks keep their slots: one answer of the largest
/// size that a backend may give.
const MAX_WAITING: usize = 64 << 20;

/// Bytes of results that wait for the hub at most, however many ended at once: further ones give way to an error.
const MAX_HELD: usize = 256 << 20;

/// Results that are on their way to the hub at once, a connection each: a hub that answers none of them must not have
/// all of the descriptors that a process may open (1,024, often).
const MAX_POSTING: usize = 128;

/// Tasks that have no ending yet beyond those that may run and wait, and endings that wait, some KiB each. A hub of ours
/// has a quarter of that waiting on a channel at most.
const MAX_OPEN: usize = 4096;

/// The error of a task whose ticket was dropped.
const LOST: &str = "the publisher crashed before it could answer";
/// The error of a task whose id another one has that has not ended.
const ID_TAKEN: &str = "another task of this id runs at this publisher";
/// The error of a task whose result has no room.
const NO_ROOM: &str = "too many answers of this publisher wait for the hub: this one was dropped";

/// Delivers results. Clones are the same one.
#[derive(Clone)]
pub struct Outbox {
    inner: Rc<Inner>,
}

struct Inner {
    uplink: Rc<dyn Uplink>,
    ledger: RefCell<Ledger>,
    waiting: Cell<usize>,
    /// [`MAX_HELD`], but in tests.
    most: usize,
    backlog: Backlog,
    posting: Semaphore,
    /// Tasks of which something is on its way beside their ending, and whether it is for a task of this id that is no more.
    again: RefCell<HashMap<TaskId, Rc<Cell<bool>>>>,
    /// A task ended, or a result left.
    changed: Notify,
    lost: mpsc::UnboundedSender<TaskId>,
    name: Arc<str>,
}

impl Outbox {
    /// An outbox on the current arbiter.
    pub fn new(uplink: Rc<dyn Uplink>) -> Self {
        Self::with_room(uplink, MAX_HELD, MAX_BACKLOG)
    }

    /// One that holds so many bytes of results, and of requests that wait.
    pub(crate) fn with_room(uplink: Rc<dyn Uplink>, results: usize, requests: usize) -> Self {
        let (lost, found) = mpsc::unbounded_channel();
        let inner = Rc::new(Inner {
            uplink,
            ledger: RefCell::default(),
            waiting: Cell::new(0),
            most: results,
            backlog: Backlog::new(requests),
            posting: Semaphore::new(MAX_POSTING),
            again: RefCell::default(),
            changed: Notify::new(),
            lost,
            name: "outbox".into(),
        });
        actix_rt::spawn(end_lost(found, Rc::downgrade(&inner)));
        Self { inner }
    }

    /// Enters a task that the hub dispatched; `asked` stands for what it asks. `None`: its id came before, and what there
    /// is to say of it is said here: nothing while it runs, else its result again; an error if it asked something else and
    /// has not ended, which is then [`disowned`](Self::is_disowned).
    pub fn admit(&self, id: &TaskId, asked: u64) -> Option<Ticket> {
        let inner = &self.inner;
        let seen = inner.ledger.borrow_mut().admit(id, asked, Instant::now());
        let again = |result: &TaskResult| inner.deliver(id.clone(), result.to_json().into(), false);
        match seen {
            Seen::New => {
                if let Some(is_stale) = inner.again.borrow_mut().remove(id) {
                    is_stale.set(true);
                }
                return Some(Ticket::new(id.clone(), inner.lost.clone()));
            }
            Seen::Running => log::debug!("task {id} came again while it runs"),
            Seen::Answered(result) => inner.deliver(id.clone(), result, false),
            Seen::Spent => again(&TaskResult::error(texts::ALREADY_ANSWERED)),
            Seen::Clash => {
                news!(
                    warn,
                    "ids that came twice",
                    "the hub",
                    "task {id}: the hub gave this id to two tasks: neither gets an answer"
                );
                again(&TaskResult::error(ID_TAKEN));
            }
        }
        None
    }

    /// Whether the hub has given the id of this task, which has not ended, to another one as well. Nothing that belongs to
    /// it goes to the hub any more: it would be taken for the other's.
    pub fn is_disowned(&self, id: &TaskId) -> bool {
        self.inner.ledger.borrow().is_disowned(id)
    }

    /// Ends a task with a terminal result, and delivers it.
    pub fn finish(&self, ticket: Ticket, result: &TaskResult) {
        self.inner.finish(ticket.redeem(), result);
    }

    /// Ends a task that needs no more word: its answer went up as a stream, or its caller has gone.
    pub fn close(&self, ticket: Ticket) {
        self.inner.end(&ticket.redeem(), None);
    }

    /// Whether the hub has sent so many tasks, and taken so few of their results, that no more can be admitted; `room` of
    /// them may well run and wait, as their owner said.
    pub(crate) fn is_overrun(&self, room: usize) -> bool {
        self.open() >= room.saturating_add(MAX_OPEN)
    }

    /// How many tasks have no ending yet, or one that the hub has not taken.
    pub fn open(&self) -> usize {
        self.inner.ledger.borrow().running()
    }

    /// Resolves when no task is [`open`](Self::open).
    pub async fn settled(&self) {
        while self.open() > 0 {
            self.inner.changed.notified().await;
        }
    }

    /// Resolves when results do not pile up. Who has just finished a task waits here before it takes another.
    pub async fn room(&self) {
        while self.inner.waiting.get() > MAX_WAITING {
            self.inner.changed.notified().await;
        }
    }

    /// What waits for its turn, at all providers.
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.inner.backlog
    }

    /// The way to the hub, for what goes up before the ending.
    pub(crate) fn uplink(&self) -> Rc<dyn Uplink> {
        Rc::clone(&self.inner) as Rc<dyn Uplink>
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("open", &self.open()).finish_non_exhaustive()
    }
}

async fn end_lost(mut found: mpsc::UnboundedReceiver<TaskId>, inner: Weak<Inner>) {
    while let Some(id) = found.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.finish(id, &TaskResult::error(LOST));
    }
}

impl Inner {
    fn finish(self: &Rc<Self>, id: TaskId, result: &TaskResult) {
        if self.ledger.borrow().is_disowned(&id) {
            return self.end(&id, None);
        }
        self.deliver(id, result.to_json().into(), true);
    }

    fn end(&self, id: &TaskId, result: Option<Bytes>) {
        self.ledger.borrow_mut().end(id, result, Instant::now());
        self.changed.notify_waiters();
    }

    /// Posts until the hub takes it or patience ends. `first`: this ends the task in the ledger.
    fn deliver(self: &Rc<Self>, id: TaskId, body: Bytes, first: bool) {
        let is_stale = Rc::<Cell<bool>>::default();
        if !first {
            let mut again = self.again.borrow_mut();
            if again.contains_key(&id) {
                return log::debug!("task {id} came again while its result is on its way");
            }
            again.insert(id.clone(), Rc::clone(&is_stale));
        }
        let inner = Rc::clone(self);
        let body = if inner.waiting.get().saturating_add(body.len()) <= inner.most {
            body
        } else {
            news!(
                warn,
                "results dropped",
                "the hub",
                "task {id}: its result is dropped, {} MiB of others wait for the hub",
                inner.most >> 20
            );
            TaskResult::error(NO_ROOM).to_json().into()
        };
        inner.waiting.set(inner.waiting.get() + body.len());
        actix_rt::spawn(async move {
            let may_go = || !(is_stale.get() || first && inner.ledger.borrow().is_disowned(&id));
            let posting = catch_panic(Arc::clone(&inner.name), inner.post(&id, body.clone(), may_go));
            let panicked = posting.await.is_err();
            inner.waiting.set(inner.waiting.get().saturating_sub(body.len()));
            if panicked {
                news!(
                    error,
                    "results lost by a panic",
                    "the hub",
                    "task {id}: its result is lost, the way to the hub panicked"
                );
            }
            // The end mark of a stream says nothing without what went before it.
            let streamed = body.starts_with(br#"{"chunk""#);
            if first {
                inner.end(&id, Some(body).filter(|_| !streamed));
            } else {
                let mut again = inner.again.borrow_mut();
                if again.get(&id).is_some_and(|own| Rc::ptr_eq(own, &is_stale)) {
                    again.remove(&id);
                }
                inner.changed.notify_waiters();
            }
        });
    }

    /// Posts as long as it `may_go`.
    async fn post(&self, id: &TaskId, mut body: Bytes, may_go: impl Fn() -> bool) {
        let mut patience = RetryPolicy::new(Instant::now());
        let mut apology = false;
        loop {
            let posted = {
                // Never closed: the wait ends with a place.
                let _place = self.posting.acquire().await;
                if !may_go() {
                    return log::debug!("task {id}: its result is another's now, and is dropped");
                }
                self.uplink.post_result(id, body.clone()).await
            };
            match posted {
                Posted::Taken => return,
                Posted::Gone => return log::debug!("task {id}: the caller has gone"),
                Posted::Refused { status } if apology => {
                    news!(
                        warn,
                        "errors refused",
                        "the hub",
                        "task {id}: the hub refused its error too (HTTP {status})"
                    );
                    return;
                }
                Posted::Refused { status } => {
                    news!(
                        warn,
                        "results refused",
                        "the hub",
                        "task {id}: the hub refused its result (HTTP {status})"
                    );
                    let error = format!("the hub refused the result (HTTP {status})");
                    body = TaskResult::error(error).to_json().into();
                    apology = true;
                }
                Posted::Failed { retry_after, .. } => {
                    let Some(pause) = patience.after_failure(retry_after, Instant::now()) else {
                        news!(
                            warn,
                            "results lost",
                            "the hub",
                            "task {id}: its result is lost, the hub did not take it in time"
                        );
                        return;
                    };
                    sleep(pause).await;
                }
            }
        }
    }
}
