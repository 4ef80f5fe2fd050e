//! The links of sessions: the state of each, which outlives its connections. Not here: the connection that carries a link
//! (`http/registrar/link.rs`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::Features;
use wire::link::{BodyKind, Frame, Going, Hello, HubEnd, MAX_PIECE, Piece, Received, Resume, Violation};

use crate::channels::{EventKind, NextEvent};
use crate::quota::{ByteQuota, BytesPermit};

/// Tasks with a piece to send, above which the channel's next event waits in its queue: there, callers take turns.
const MAX_READY: usize = 8;

/// Memory in bytes of the frames without a body that may wait while more is read, or sent: some 150 of them.
const MAX_CONTROL: usize = 16 << 10;

/// HTTP status of an answer for which the hub has no memory now.
const BUSY: u16 = 503;

/// Smaller pieces are counted together, once they take so much memory.
const UNCOUNTED: usize = 4 << 10;

/// Memory in bytes of a small piece besides its own bytes: its place in the channel, and its allocation.
const PIECE_OVERHEAD: usize = size_of::<CountedPiece>() + 48;

/// Smaller pieces are copied. A piece shares the block in which it was read, and the rest of the block may be frames that
/// cost no credit.
const COPIED: usize = MAX_PIECE / 2;

/// The links of all sessions that have one.
#[derive(Default)]
pub(crate) struct Links {
    of: Mutex<HashMap<String, Arc<SessionLink>>>,
    /// Number of registrars that were told that the hub shuts down, and of all when the first one was told, then.
    told: Mutex<Option<(u32, u32, Instant)>>,
}

/// The link of one session.
#[derive(Default)]
pub(crate) struct SessionLink(Mutex<SessionLinkState>);

#[derive(Default)]
struct SessionLinkState {
    link: HubEnd,
    /// Whether the link was removed from its session: no connection carries it again.
    is_removed: bool,
    /// Receivers of the answers that have begun. What waits there is bounded by the credit of each.
    answers: HashMap<Arc<str>, AnswerSender>,
    /// Counts the tasks that were not taken yet.
    held: HashMap<Arc<str>, [BytesPermit; 2]>,
    /// The task of the connection that carries the link, which writes.
    writer: Option<Waker>,
}

struct AnswerSender {
    pieces: mpsc::UnboundedSender<CountedPiece>,
    /// Memory in bytes of the last pieces that nothing counts.
    uncounted: usize,
}

/// A piece of an answer, and what counts it for its publisher until it is passed on. The pieces are passed on in order, so
/// one of them counts for the small ones before it, too.
pub(crate) struct CountedPiece {
    pub(crate) piece: Piece,
    _held: BytesPermit,
}

/// The first frame of a connection.
pub(crate) struct Greeting {
    /// The hello.
    pub(crate) frame: Bytes,
    /// Number of tasks in it.
    tasks: usize,
}

impl Greeting {
    /// Longest frame in bytes that answers it. A resume names no task that the hello does not name, with two numbers that
    /// may be 19 digits longer.
    pub(crate) fn max_answer(&self) -> usize {
        self.frame.len() + 40 * self.tasks + (1 << 10)
    }
}

/// What the reader of a link has to do.
pub(crate) enum Arrival {
    /// A task's answer begins: its pieces come on `pieces`.
    Answer { task: Arc<str>, kind: BodyKind, pieces: mpsc::UnboundedReceiver<CountedPiece> },
    /// A heartbeat: its number and its JSON.
    Beat(u64, Bytes),
    /// Nothing.
    Nothing,
}

impl Links {
    /// Begins a connection of the session's link, which is new if it has none. Returns the link, the number of the
    /// connection and its hello, for a registrar that named `offered`. An older connection carries the link until the
    /// registrar has answered.
    pub(crate) fn connect(
        &self,
        session: &str,
        stream_id: &str,
        offered: &str,
    ) -> (Arc<SessionLink>, u64, Greeting) {
        let mut links = self.of.lock();
        let link = links.entry(session.to_owned()).or_default();
        let (connection, hello) = link.connect(stream_id, offered);
        (link.clone(), connection, hello)
    }

    /// When the next registrar that is told of the hub's shutdown connects again.
    pub(crate) fn going(&self) -> Going {
        let mut told = self.told.lock();
        // Links are removed while others are told.
        let begin = || (0, u32::try_from(self.of.lock().len()).unwrap_or(u32::MAX), Instant::now());
        let (index, count, first) = told.unwrap_or_else(begin);
        *told = Some((index.saturating_add(1), count, first));
        Going::of(index, count, first.elapsed())
    }

    /// Removes the session's link. Answers that have not ended break off.
    pub(crate) fn remove(&self, session: &str) {
        if let Some(link) = self.of.lock().remove(session) {
            link.0.lock().remove();
        }
    }

    /// Removes the session's link if the connection `connection` of `link` carries it.
    pub(crate) fn remove_carried_by(&self, session: &str, link: &SessionLink, connection: u64) {
        let mut links = self.of.lock();
        let mut state = link.0.lock();
        if state.link.is_carried_by(connection) {
            // A link that was removed is carried by none.
            links.remove(session);
            state.remove();
        }
    }

    /// Removes the session's link if it has neither a task nor a connection.
    pub(crate) fn remove_unused(&self, session: &str) {
        let mut links = self.of.lock();
        if links.get(session).is_some_and(|link| link.0.lock().link.is_unused()) {
            links.remove(session);
        }
    }

    /// Whether the session's link has `task`.
    pub(crate) fn knows(&self, session: &str, task: &str) -> bool {
        self.of.lock().get(session).is_some_and(|link| link.0.lock().link.knows(task))
    }

    /// Cancels a task of which a part was not sent. `false` if there is none.
    pub(crate) fn withdraw(&self, session: &str, task: &str) -> bool {
        let links = self.of.lock();
        let Some(link) = links.get(session) else { return false };
        let is_sent = link.0.lock().link.is_sent(task);
        !is_sent && link.end(task, |link| link.cancel(task))
    }

    /// Cancels a task. `false` if the session has no link, or its link does not know the task.
    pub(crate) fn cancel(&self, session: &str, task: &str) -> bool {
        let links = self.of.lock();
        links.get(session).is_some_and(|link| link.end(task, |link| link.cancel(task)))
    }
}

/// The former feature `result-stream`, if a registrar offers it: without it in the hello, such a registrar sends a streamed
/// answer as chunks also on a link, where a task has one body.
fn events_of_old(offered: &str) -> Option<&'static str> {
    const RESULT_STREAM: &str = "result-stream";
    offered.split(',').any(|name| name.trim() == RESULT_STREAM).then_some(RESULT_STREAM)
}

impl SessionLink {
    fn connect(&self, stream_id: &str, offered: &str) -> (u64, Greeting) {
        let (connection, tasks) = self.0.lock().link.connect();
        let features = Features::ALL.names().chain(events_of_old(offered)).map(str::to_owned).collect();
        let count = tasks.len();
        let hello = Hello { features, stream_id: stream_id.to_owned(), tasks };
        (connection, Greeting { frame: Frame::Hello(hello.to_json()).encode(), tasks: count })
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

impl SessionLinkState {
    fn has_backlog(&self) -> bool {
        self.link.waiting_control() >= MAX_CONTROL
    }

    /// Sends a task, unless the registrar has it: a task may come again when its session is back.
    fn task(&mut self, task: Arc<str>, data: VecDeque<Bytes>, held: [BytesPermit; 2]) {
        if self.link.knows(&task) {
            return;
        }
        for bytes in data {
            self.link.push(&task, BodyKind::Json, bytes);
        }
        self.link.finish(&task);
        self.held.insert(task, held);
    }

    fn piece(&mut self, task: Arc<str>, piece: Piece, results: &ByteQuota) -> Arrival {
        self.held.remove(&task);
        let kind = piece.kind;
        let size = piece.bytes.len();
        let answer = self.answers.get_mut(&task);
        let uncounted = answer.as_ref().map_or(0, |answer| answer.uncounted) + size + PIECE_OVERHEAD;
        let is_counted = uncounted >= UNCOUNTED;
        let held = if is_counted { results.take(uncounted) } else { Ok(BytesPermit::default()) };
        let Ok(held) = held else {
            // Its receiver reads the end. The registrar may send a whole answer again.
            self.link.take(&task, BUSY);
            self.forget(&task);
            self.wake_writer();
            return Arrival::Nothing;
        };
        let bytes = if size < COPIED { Bytes::copy_from_slice(&piece.bytes) } else { piece.bytes };
        let piece = CountedPiece { piece: Piece { bytes, ..piece }, _held: held };
        let uncounted = if is_counted { 0 } else { uncounted };
        if let Some(answer) = answer {
            answer.uncounted = uncounted;
            // A receiver that is gone has decided, and the registrar is being told.
            let _ = answer.pieces.send(piece);
            return Arrival::Nothing;
        }
        let (sender, pieces) = mpsc::unbounded_channel();
        let _ = sender.send(piece);
        self.answers.insert(task.clone(), AnswerSender { pieces: sender, uncounted });
        Arrival::Answer { task, kind, pieces }
    }

    /// Breaks off all answers. Each keeps its link, and the link the sender of each.
    fn remove(&mut self) {
        self.is_removed = true;
        self.link.release();
        self.answers.clear();
        self.held.clear();
        self.wake_writer();
    }

    fn forget(&mut self, task: &str) {
        self.answers.remove(task);
        self.held.remove(task);
    }

    fn wake_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

#[cfg(test)]
impl Links {
    /// Memory in bytes of the frames of the session's link that wait to be written before credit and pieces.
    pub(crate) fn waiting_control(&self, session: &str) -> usize {
        self.of.lock()[session].0.lock().link.waiting_control()
    }
}

#[cfg(test)]
mod tests;
