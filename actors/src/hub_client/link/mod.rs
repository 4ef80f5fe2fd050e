//! The link to the hub: one WebSocket for tasks and answers (SPEC.md section 4.1).
//!
//! [`RegistrarLink`] outlives the connections: it has the pieces that the hub has not taken, and the tasks whose requests have
//! come in part. [`channel`] carries it over one connection, [`open`] opens that, and [`policy`] decides whether to.

mod beat;
mod channel;
mod links;
mod open;
mod policy;
mod requests;
mod response;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep};
use wire::TaskId;
use wire::link::{BodyKind, Link};

use crate::uplink::Outcome;

use beat::Beats;
pub(crate) use channel::{LinkChannel, LinkEvent};
pub(super) use links::Links;
pub(super) use open::{Opened, Wanted};
pub(super) use policy::LinkPolicy;
use requests::Requests;

/// Bytes of an answer that wait for credit, above which its backend waits.
const MAX_PENDING: usize = 32 << 10;
/// How long connections are refused before the hub is taken for gone. A proxy restarts faster, and a hub that is back sooner
/// says which tasks it knows.
const GONE_AFTER: Duration = Duration::from_secs(10);
/// How long answers wait for a new connection. A hub gives a task up after a grace of 30 s.
const GIVE_UP_AFTER: Duration = Duration::from_mins(1);

/// The number of a [`Sending`], and the sender of the hub's decision.
type Undecided = (u64, oneshot::Sender<Outcome>);

/// The registrar's end of a link. All of it is used on one arbiter.
#[derive(Default)]
pub(super) struct RegistrarLink {
    link: RefCell<Link>,
    /// The answers that the hub has not decided about.
    undecided: RefCell<HashMap<Arc<str>, Undecided>>,
    /// Number of answers so far.
    sendings: Cell<u64>,
    /// The tasks that have come in part.
    requests: RefCell<Requests>,
    /// Wakes the writer of the connection.
    writable: Notify,
    /// Wakes the answers that wait for credit.
    progress: Notify,
    /// Whether the session's channel is a link on which the hub has said hello, also while its connection is broken.
    is_active: Cell<bool>,
    /// Since when the hub refuses connections.
    refused_since: Cell<Option<Instant>>,
    is_connected: Cell<bool>,
    /// Payload of the last ping of the hub, until it is answered.
    pong: Cell<Option<Bytes>>,
    /// Number of connections so far.
    connection: Cell<u64>,
    /// Whether the hub of the connection shuts down.
    is_going: Cell<bool>,
    /// Whether another hub's link carries new tasks, so that no connection of this one follows.
    is_last: Cell<bool>,
    beats: Beats,
}

impl RegistrarLink {
    /// Whether answers go over the link.
    pub(super) fn is_active(&self) -> bool {
        self.is_active.get()
    }

    /// Whether it has tasks.
    pub(super) fn has_tasks(&self) -> bool {
        !self.link.borrow().is_empty()
    }

    /// Sends a whole result, and waits for the hub's decision.
    pub(super) async fn send_result(&self, task: &TaskId, body: Bytes) -> Outcome {
        let task = task.as_str();
        if self.link.borrow().has_ended(task) {
            // Its stream broke off: the hub has failed the task.
            return Outcome::Gone;
        }
        let sending = Sending::new(self, task);
        self.link.borrow_mut().push(task, BodyKind::Json, body);
        sending.finish().await
    }

    /// Sends a streamed answer as it comes, and waits for the hub's decision.
    pub(super) async fn send_stream(&self, task: &TaskId, mut body: mpsc::Receiver<Bytes>) -> Outcome {
        let task = task.as_str();
        let mut sending = Sending::new(self, task);
        loop {
            let next = async {
                while self.link.borrow().pending_bytes(task) > MAX_PENDING {
                    self.progress.notified().await;
                }
                body.recv().await
            };
            tokio::select! {
                biased;
                decided = &mut sending.decided => return decided.unwrap_or(FAILED),
                next = next => match next {
                    Some(bytes) => {
                        self.link.borrow_mut().push(task, BodyKind::Events, bytes);
                        self.writable.notify_one();
                    }
                    None => return sending.finish().await,
                },
            }
        }
    }

    fn decide(&self, task: &str, outcome: Outcome) {
        if let Some((_, sender)) = self.undecided.borrow_mut().remove(task) {
            // A receiver that is gone wants no decision.
            let _ = sender.send(outcome);
        }
    }

    /// Ends the link: the hub's channel is SSE now, or nobody has opened a new link in time.
    pub(super) fn reset(&self) {
        self.is_active.set(false);
        self.link.replace(Link::default());
        self.requests.take();
        self.undecided.borrow_mut().clear();
    }

    /// Notes that nobody listens at the hub's address. A proxy before it that restarts is back within some seconds, and the
    /// callers wait there. After [`GONE_AFTER`] it is the hub: its callers are gone with it, and the tasks of a broken
    /// connection are over.
    pub(super) fn note_refused(&self) {
        if self.is_connected.get() {
            return;
        }
        let since = self.refused_since.get().unwrap_or_else(Instant::now);
        self.refused_since.set(Some(since));
        if since.elapsed() >= GONE_AFTER {
            self.reset();
        }
    }

    /// Notes that the connection broke. Without a new one, answers fail after [`GIVE_UP_AFTER`].
    fn disconnected(self: &Rc<Self>) {
        self.link.borrow_mut().disconnect();
        self.is_connected.set(false);
        self.is_going.set(false);
        self.beats.disconnected();
        if self.is_last.get() {
            return self.reset();
        }
        let (state, connection) = (Rc::clone(self), self.connection.get());
        actix_rt::spawn(async move {
            sleep(GIVE_UP_AFTER).await;
            if state.connection.get() == connection {
                state.reset();
            }
        });
    }
}

/// The decision of a hub that was not asked.
const FAILED: Outcome = Outcome::Failed { retry_after: None, nothing_taken: false };

/// An answer that is being sent. If it is dropped before its end, the hub gets half of it, and fails the task.
struct Sending<'a> {
    state: &'a RegistrarLink,
    task: &'a str,
    /// Tells it from a later one of the same task.
    number: u64,
    decided: oneshot::Receiver<Outcome>,
}

impl<'a> Sending<'a> {
    fn new(state: &'a RegistrarLink, task: &'a str) -> Self {
        let (sender, decided) = oneshot::channel();
        let number = state.sendings.get() + 1;
        state.sendings.set(number);
        state.undecided.borrow_mut().insert(task.into(), (number, sender));
        Self { state, task, number, decided }
    }

    /// Ends the answer, and waits for the hub's decision.
    async fn finish(mut self) -> Outcome {
        self.state.link.borrow_mut().finish(self.task);
        self.state.writable.notify_one();
        (&mut self.decided).await.unwrap_or(FAILED)
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut undecided = self.state.undecided.borrow_mut();
        if undecided.get(self.task).is_some_and(|(number, _)| *number == self.number) {
            undecided.remove(self.task);
            self.state.link.borrow_mut().finish(self.task);
            self.state.writable.notify_one();
        }
    }
}
