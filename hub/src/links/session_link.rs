//! The link of one session: its tasks and answers, and the connection that carries it.

mod late;
mod state;

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use wire::link::{Frame, HubEnd, Received, Resume, Tables, Violation};

pub(crate) use late::LateAnswer;
use state::SessionLinkState;
pub(crate) use state::{Arrival, CountedPiece};

use crate::channels::{EventKind, NextEvent};
use crate::quota::ByteQuota;

/// Tasks with a piece to send, above which the channel's next event waits in its queue: there, callers take turns.
const MAX_READY: usize = 8;

/// The link of one session.
#[derive(Default)]
pub(crate) struct SessionLink(Mutex<SessionLinkState>);

impl SessionLink {
    /// Begins a connection. Returns its number, and what its hello says of this hub's tasks.
    pub(super) fn connect(&self) -> (u64, Tables) {
        self.0.lock().link.connect()
    }

    /// Whether it has tasks.
    pub(crate) fn has_tasks(&self) -> bool {
        !self.0.lock().link.is_empty()
    }

    /// What this hub has of the answers to its tasks.
    pub(super) fn tables(&self) -> Tables {
        self.0.lock().link.tables()
    }

    /// Breaks off all answers. No connection carries the link again.
    pub(super) fn remove(&self) {
        self.0.lock().remove();
    }

    /// Removes the link if `connection` carries it. Returns whether it did.
    pub(super) fn remove_if_carried_by(&self, connection: u64) -> bool {
        let mut state = self.0.lock();
        // A link that was removed is carried by none.
        let is_carried = state.link.is_carried_by(connection);
        if is_carried {
            state.remove();
        }
        is_carried
    }

    /// Whether the link has neither a task nor a connection.
    pub(super) fn is_unused(&self) -> bool {
        self.0.lock().link.is_unused()
    }

    /// Whether the link knows `task`.
    pub(super) fn knows(&self, task: &str) -> bool {
        self.0.lock().link.knows(task)
    }

    /// Cancels `task` if a part of it was not sent. `false` if there is none.
    pub(super) fn withdraw(&self, task: &str) -> bool {
        let is_sent = self.0.lock().link.is_sent(task);
        !is_sent && self.cancel(task)
    }

    /// Drops what the link keeps of `task`, which has ended. The registrar is told by `cancel`. If `by_answer`, an answer on the
    /// link has ended the task, or may have: then the registrar is told what was decided about it. `false` if the link does
    /// not know the task.
    pub(super) fn ended(&self, task: &str, by_answer: bool) -> bool {
        self.0.lock().keep_answer(task, by_answer) || self.cancel(task)
    }

    /// Counts an answer to a task that has ended. `None` if there are too many.
    pub(crate) fn begin_late(self: &Arc<Self>) -> Option<LateAnswer> {
        LateAnswer::begin(self)
    }

    fn cancel(&self, task: &str) -> bool {
        self.end(task, |link| link.cancel(task))
    }

    /// Ends the connection `connection`, once. Another one may carry the link.
    pub(crate) fn disconnect(&self, connection: u64) {
        let mut state = self.0.lock();
        if state.link.disconnect(connection) {
            state.writer = None;
        }
    }

    /// Has the connection `connection` carry the link, in place of an older one. The link forgets the tasks that are not in
    /// the registrar's resume. `false` if the link was removed.
    pub(crate) fn resume(&self, connection: u64, resume: &Resume) -> Result<bool, Violation> {
        let mut state = self.0.lock();
        if state.is_removed {
            return Ok(false);
        }
        for task in state.link.resume(connection, &resume.tasks)? {
            state.forget(&task);
        }
        // The older connection learns from its channel that it was replaced.
        state.writer = None;
        Ok(true)
    }

    /// Takes a frame of the registrar on the connection `connection`. Pieces count in `results`, the publisher's quota; an
    /// answer beyond it breaks off.
    pub(crate) fn receive(
        &self,
        connection: u64,
        frame: Frame<'_>,
        results: &ByteQuota,
    ) -> Result<Arrival, Violation> {
        let mut state = self.0.lock();
        match state.link.receive(connection, frame)? {
            Received::Piece { task, piece, .. } => Ok(state.piece(task, piece, results)),
            Received::Credit(task) => {
                if state.link.is_taken(&task) {
                    state.held.remove(&task);
                }
                Ok(Arrival::Nothing)
            }
            Received::Beat(number, body) => Ok(Arrival::Beat(number, body)),
            Received::Nothing => Ok(Arrival::Nothing),
            Received::Taken { .. }
            | Received::Going(_)
            | Received::Beaten { .. }
            | Received::Cancelled(_)
            | Received::Hello(_)
            | Received::Resume(_)
            | Received::Superseded => Err(Violation::WrongEnd),
        }
    }

    /// Whether so many frames wait to be written on the connection `connection` that nothing more is read: what is read can
    /// cause more of them.
    pub(crate) fn has_backlog(&self, connection: u64) -> bool {
        let state = self.0.lock();
        state.link.is_carried_by(connection) && state.has_backlog()
    }

    /// Has the frames be written that became due by what was received.
    pub(crate) fn wake_writer(&self) {
        self.0.lock().wake_writer();
    }

    /// Notes that a piece of an answer was passed on.
    pub(crate) fn consumed(&self, task: &str, length: usize) {
        let mut state = self.0.lock();
        if state.link.consumed(task, length) {
            state.wake_writer();
        }
    }

    /// Tells the registrar what was decided about the answer of `task`: the status that a POST would have had.
    pub(crate) fn take(&self, task: &str, status: u16) {
        self.end(task, |link| link.take(task, status));
    }

    /// Ends a task at the link with `tell`. `false` if the link does not know it.
    fn end(&self, task: &str, tell: impl FnOnce(&mut HubEnd)) -> bool {
        let mut state = self.0.lock();
        let is_known = state.link.knows(task);
        tell(&mut state.link);
        state.forget(task);
        state.wake_writer();
        is_known
    }

    /// The next frame that is not a piece, for a link that ends.
    pub(crate) fn next_control(&self, connection: u64) -> Option<Bytes> {
        self.0.lock().link.next_control(connection)
    }

    /// The next frame to write on the connection `connection`: of the link, or from `events`, the channel of the session.
    /// `None` when the channel has ended.
    pub(crate) fn poll_frame(
        &self,
        connection: u64,
        cx: &mut Context<'_>,
        mut next_event: impl FnMut(&mut Context<'_>) -> Poll<NextEvent>,
    ) -> Poll<Option<Bytes>> {
        let mut state = self.0.lock();
        let mut has_left_out = false;
        // A task whose caller leaves ends with a frame that waits, too.
        while !state.link.is_carried_by(connection)
            || (state.link.ready() < MAX_READY && !state.has_backlog())
        {
            let Poll::Ready(event) = next_event(cx) else { break };
            match event {
                NextEvent::Superseded => return Poll::Ready(Some(Frame::Superseded.encode())),
                NextEvent::Closed => return Poll::Ready(state.link.next_control(connection)),
                // The channel that replaces this one gets what was not begun once more.
                NextEvent::Event { .. } if !state.link.is_carried_by(connection) => has_left_out = true,
                NextEvent::Event { kind: EventKind::Task(task), data, held } => {
                    state.task(task, data, held);
                }
                NextEvent::Event { kind: EventKind::Cancel(task), .. } => {
                    // Of a task that came to the registrar on a channel before.
                    state.link.send_control(&Frame::Cancel { task: &task });
                }
            }
        }
        if has_left_out && state.is_removed {
            // The link was removed just as it was resumed. The registrar opens a new one.
            return Poll::Ready(None);
        }
        if let Some(frame) = state.link.next_frame(connection) {
            return Poll::Ready(Some(frame));
        }
        if state.link.is_carried_by(connection) {
            state.writer = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
impl SessionLink {
    /// Memory in bytes of the frames that wait to be written before credit and pieces.
    pub(super) fn waiting_control(&self) -> usize {
        self.0.lock().link.waiting_control()
    }

    /// Number of the tasks, of the answers that have begun, and of the bodies that count.
    pub(super) fn kept(&self) -> [usize; 3] {
        self.0.lock().kept()
    }
}

#[cfg(test)]
mod tests;
