//! Delivers results to the hub: each task gets exactly one ending (SPEC.md section 6).
//!
//! Not an actor, because a result must outlive the crash of its provider. The ledger has the task ids, a [`Ticket`] is
//! the duty to end a task, and each result is delivered by a future of its own.

mod backlog;
mod ledger;
mod posting;
mod retry_policy;
mod ticket;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, ready};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;
use wire::result::TaskResult;
use wire::{TaskId, texts};

use crate::news::hub_news;
use crate::uplink::{Outcome, Uplink};

use backlog::MAX_BACKLOG;
pub(crate) use backlog::{Backlog, BacklogPermit};
use ledger::{IdState, Ledger};
pub(crate) use retry_policy::RetryPolicy;
pub(crate) use ticket::Ticket;

/// Bytes of waiting results above which a finished task keeps its slot: one answer of the largest size of a backend.
const SLOT_LIMIT: usize = 64 << 20;

/// Bytes of waiting results above which a further one is replaced by an error.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// Most results that are sent at the same time, without a link each on its own connection: a hub that never answers
/// must not use up the descriptors of the process (often 1,024).
const MAX_POSTING: usize = 128;

/// Most open tasks beyond those that may run and wait, some KiB each. A virtual-llm hub queues at most half of this
/// number on a channel.
const MAX_OPEN: usize = 4096;

/// The error of a task whose ticket was dropped.
const LOST: &str = "the publisher crashed before it could answer";
/// The error of a task whose id belongs to another open task.
const ID_TAKEN: &str = "another task of this id runs at this publisher";
/// The error that replaces a result above [`MAX_WAITING_BYTES`].
const TOO_MANY: &str = "too many answers of this publisher wait for the hub: this one was dropped";

/// Delivers results. Clones share the state.
#[derive(Clone)]
pub(crate) struct Outbox {
    inner: Rc<Inner>,
}

struct Inner {
    uplink: Rc<dyn Uplink>,
    ledger: RefCell<Ledger>,
    waiting_bytes: Cell<usize>,
    max_waiting_bytes: usize,
    backlog: Backlog,
    posting: Semaphore,
    /// Results sent again for repeated tasks, each with a flag that is set when its id starts a new task.
    repeated: RefCell<HashMap<TaskId, Rc<Cell<bool>>>>,
    /// Notifies when a task ends or a result is delivered.
    changed: Notify,
    lost: mpsc::UnboundedSender<TaskId>,
    name: Arc<str>,
}

impl Outbox {
    /// Creates an outbox on the current arbiter.
    pub(crate) fn new(uplink: Rc<dyn Uplink>) -> Self {
        Self::with_limits(uplink, MAX_WAITING_BYTES, MAX_BACKLOG)
    }

    /// Creates an outbox with limits for the bytes of waiting results and of waiting requests.
    pub(crate) fn with_limits(uplink: Rc<dyn Uplink>, results: usize, requests: usize) -> Self {
        let (lost, lost_tickets) = mpsc::unbounded_channel();
        let inner = Rc::new(Inner {
            uplink,
            ledger: RefCell::default(),
            waiting_bytes: Cell::new(0),
            max_waiting_bytes: results,
            backlog: Backlog::new(requests),
            posting: Semaphore::new(MAX_POSTING),
            repeated: RefCell::default(),
            changed: Notify::new(),
            lost,
            name: "outbox".into(),
        });
        actix_rt::spawn(end_lost(lost_tickets, Rc::downgrade(&inner)));
        Self { inner }
    }

    /// Enters a task that the hub dispatched. `fingerprint` stands for its text.
    ///
    /// Returns `None` if the id is known. An open task goes on; the result of an ended task is sent again. If the
    /// fingerprints differ and the first task is open, both get an error, and the first is
    /// [`disowned`](Self::is_disowned).
    pub(crate) fn accept(&self, id: &TaskId, fingerprint: u64) -> Option<Ticket> {
        let inner = &self.inner;
        let state = inner.ledger.borrow_mut().accept(id, fingerprint, Instant::now());
        let repeat = |result: &TaskResult| inner.deliver(id.clone(), result.to_json().into(), false);
        match state {
            IdState::New => {
                if let Some(is_stale) = inner.repeated.borrow_mut().remove(id) {
                    is_stale.set(true);
                }
                return Some(Ticket::new(id.clone(), inner.lost.clone()));
            }
            IdState::Running => log::debug!("task {id} came again while it runs"),
            IdState::Answered(result) => inner.deliver(id.clone(), result, false),
            IdState::NotKept => repeat(&TaskResult::error(texts::ALREADY_ANSWERED)),
            IdState::Clash => {
                hub_news!(
                    warn,
                    "ids that came twice",
                    "task {id}: the hub gave this id to two tasks: neither gets an answer"
                );
                repeat(&TaskResult::error(ID_TAKEN));
            }
        }
        None
    }

    /// Whether the hub has given the id of this open task to another task. No result of it is sent any more, because the hub would
    /// take it for a result of the other task.
    pub(crate) fn is_disowned(&self, id: &TaskId) -> bool {
        self.inner.ledger.borrow().is_disowned(id)
    }

    /// Ends a task with `result`, and delivers it.
    pub(crate) fn finish(&self, ticket: Ticket, result: &TaskResult) {
        self.inner.finish(ticket.complete(), result);
    }

    /// Ends a task without a result: it was sent as a stream, or the caller has left.
    pub(crate) fn close(&self, ticket: Ticket) {
        self.inner.end(&ticket.complete(), None);
    }

    /// Whether too many tasks are open to accept more. `capacity` of them may run and wait at the providers.
    pub(crate) fn is_overrun(&self, capacity: usize) -> bool {
        self.open() >= capacity.saturating_add(MAX_OPEN)
    }

    /// Number of tasks that have no result yet, or whose result the hub has not accepted.
    pub(crate) fn open(&self) -> usize {
        self.inner.ledger.borrow().running()
    }

    /// Resolves when no task is [`open`](Self::open).
    pub(crate) async fn settled(&self) {
        while self.open() > 0 {
            self.inner.changed.notified().await;
        }
    }

    /// Resolves when fewer than [`SLOT_LIMIT`] bytes of results wait. A finished task waits for this before it frees its slot.
    pub(crate) async fn has_room(&self) {
        while self.inner.waiting_bytes.get() > SLOT_LIMIT {
            self.inner.changed.notified().await;
        }
    }

    /// The requests that wait at all providers.
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.inner.backlog
    }

    /// Posts a chunk of an open task, unless the task is [`disowned`](Self::is_disowned).
    pub(crate) async fn post_chunk(&self, id: &TaskId, body: Bytes) -> Outcome {
        if self.is_disowned(id) {
            return Outcome::Gone;
        }
        self.inner.uplink.post_chunk(id, body).await
    }

    /// Sends the answer of an open task as one stream over the link, unless the task is [`disowned`](Self::is_disowned).
    /// `None` if there is no link.
    pub(crate) fn send_stream<'a>(
        &'a self,
        id: &'a TaskId,
        body: mpsc::Receiver<Bytes>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        if self.is_disowned(id) {
            return Some(ready(Outcome::Gone).boxed_local());
        }
        self.inner.uplink.send_stream(id, body)
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("open", &self.open()).finish_non_exhaustive()
    }
}

async fn end_lost(mut lost_tickets: mpsc::UnboundedReceiver<TaskId>, inner: Weak<Inner>) {
    while let Some(id) = lost_tickets.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.finish(id, &TaskResult::error(LOST));
    }
}
