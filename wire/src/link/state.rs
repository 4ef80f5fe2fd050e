//! One end of a link: its tasks, the order in which they are sent, and what survives a broken connection.

mod resumption;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::control::Control;
use super::flow::{Incoming, Outgoing, Violation};
use super::frame::{BodyKind, Credit, Frame, Piece};
use super::received::Received;

/// What one end has of a task's body that the other end sends: the number of received pieces, and the granted credit in
/// bytes, both since the start of the body.
pub type HeldTask = [u64; 2];

/// What one end has of all tasks, by id. Part of the hello and of the resume.
pub type Tables = BTreeMap<String, HeldTask>;

/// One end of a link. It outlives the connections that carry it.
#[derive(Debug, Default)]
pub struct Link {
    tasks: HashMap<Arc<str>, Task>,
    /// Tasks with a piece to send, each once.
    turn: VecDeque<Arc<str>>,
    /// Tasks with credit to tell the peer, each once: however long it does not read, its last totals are all that waits.
    grants: VecDeque<Arc<str>>,
    /// Frames that are sent before credit and pieces.
    control: Control,
    is_carried: bool,
}

/// The two bodies of a task: to the peer and from it.
#[derive(Debug, Default)]
struct Task {
    outgoing: Outgoing,
    incoming: Incoming,
    has_turn: bool,
    has_grant: bool,
}

impl Link {
    /// Adds `bytes` to the body that this end sends for `task`, which is new if it is not known. Bytes wait for credit
    /// without a limit: see [`pending_bytes`](Self::pending_bytes).
    pub fn push(&mut self, task: &str, kind: BodyKind, bytes: Bytes) {
        let name = self.tasks.get_key_value(task).map_or_else(|| task.into(), |(name, _)| name.clone());
        self.tasks.entry(name).or_default().outgoing.push(kind, bytes);
        self.give_turn(task);
    }

    /// Ends the body that this end sends for `task`.
    pub fn finish(&mut self, task: &str) {
        if let Some(state) = self.tasks.get_mut(task) {
            state.outgoing.finish();
            self.give_turn(task);
        }
    }

    /// Whether this end has ended its body for `task`.
    pub fn has_ended(&self, task: &str) -> bool {
        self.tasks.get(task).is_some_and(|state| state.outgoing.is_complete())
    }

    /// Whether the link knows `task`.
    pub fn knows(&self, task: &str) -> bool {
        self.tasks.contains_key(task)
    }

    /// Bytes of the task's body that wait for credit or for their turn. A sender with a source that can wait pushes more
    /// when there are none.
    pub fn pending_bytes(&self, task: &str) -> usize {
        self.tasks.get(task).map_or(0, |state| state.outgoing.pending_bytes())
    }

    /// Number of tasks that have not ended.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there are no tasks.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Notes that the oldest piece of `task` that was received and not consumed, of `length` bytes, was consumed. Returns
    /// whether there is a frame to send now.
    pub fn consumed(&mut self, task: &str, length: usize) -> bool {
        let has_news = self.tasks.get_mut(task).is_some_and(|state| state.incoming.consume(length));
        if has_news {
            self.grant(task);
        }
        has_news
    }

    /// Tells the registrar what the hub decided about an answer, and removes the task.
    pub fn take(&mut self, task: &str, status: u16) {
        if self.remove(task) {
            self.send_control(&Frame::Taken { task, status });
        }
    }

    /// Tells the registrar that nobody waits for `task`, and removes it.
    pub fn cancel(&mut self, task: &str) {
        if self.remove(task) {
            self.send_control(&Frame::Cancel { task });
        }
    }

    /// Drops the body that this end sends for `task`, because the peer has it or needs no more of it. The body that the
    /// peer sends goes on.
    pub fn drop_body(&mut self, task: &str) {
        let Some(state) = self.tasks.get_mut(task) else { return };
        state.outgoing.drop_body();
        if std::mem::take(&mut state.has_turn) {
            self.turn.retain(|other| **other != *task);
        }
    }

    /// Removes all tasks without telling the peer.
    pub fn clear(&mut self) {
        self.tasks.clear();
        self.turn.clear();
        self.grants.clear();
    }

    /// Removes `task` without telling the peer.
    pub fn remove(&mut self, task: &str) -> bool {
        self.forget(task).is_some()
    }

    /// Whether a connection carries the link, and both ends have greeted.
    pub fn is_carried(&self) -> bool {
        self.is_carried
    }

    /// Number of tasks that have a piece to send now.
    pub fn ready(&self) -> usize {
        self.turn.len()
    }

    /// Whether all of the body that this end sends for `task` was sent, or the task is unknown.
    pub fn is_sent(&self, task: &str) -> bool {
        self.tasks.get(task).is_none_or(|state| state.outgoing.is_sent())
    }

    /// Whether the peer has taken all of the body that this end sends for `task`, or the task is unknown.
    pub fn is_taken(&self, task: &str) -> bool {
        self.tasks.get(task).is_none_or(|state| state.outgoing.is_taken())
    }

    /// Memory in bytes of the frames that wait to be sent before credit and pieces.
    pub fn waiting_control(&self) -> usize {
        self.control.bytes()
    }

    /// Adds a frame that is sent before credit and pieces.
    pub fn send_control(&mut self, frame: &Frame<'_>) {
        self.control.push(frame.encode());
    }

    /// The next frame to send that is neither credit nor a piece.
    pub fn next_control(&mut self) -> Option<Bytes> {
        self.control.pop()
    }

    /// The next frame to send; `None` until something changes.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.next_control() {
            return Some(frame);
        }
        while let Some(task) = self.grants.pop_front() {
            let Some(state) = self.tasks.get_mut(&task) else { continue };
            state.has_grant = false;
            return Some(Frame::Credit { task: &task, credit: state.incoming.credit() }.encode());
        }
        loop {
            let task = self.turn.pop_front()?;
            let Some(state) = self.tasks.get_mut(&task) else { continue };
            let piece = state.outgoing.next();
            state.has_turn = state.outgoing.is_ready();
            if state.has_turn {
                self.turn.push_back(task.clone());
            }
            if let Some(piece) = piece {
                return Some(Frame::Piece { task: &task, piece }.encode());
            }
        }
    }

    /// Takes a frame of the peer.
    pub fn receive(&mut self, frame: Frame<'_>) -> Result<Received, Violation> {
        let is_greeting = matches!(frame, Frame::Hello(_) | Frame::Resume(_));
        match (is_greeting, self.is_carried) {
            (false, false) => return Err(Violation::NotGreeted),
            (true, true) => return Err(Violation::GreetedTwice),
            (true, false) | (false, true) => (),
        }
        Ok(match frame {
            Frame::Hello(json) => Received::Hello(json),
            Frame::Resume(json) => Received::Resume(json),
            Frame::Superseded => Received::Superseded,
            Frame::Going(going) => Received::Going(going),
            Frame::Beat { number, body } => Received::Beat(number, body),
            Frame::Beaten { number, status, body } => Received::Beaten { number, status, body },
            Frame::Piece { task, piece } => self.piece(task, piece)?,
            Frame::Credit { task, credit } => self.credit(task, credit)?,
            Frame::Taken { task, status } => match self.forget(task) {
                Some(task) => Received::Taken { task, status },
                None => Received::Nothing,
            },
            // Also of a task that came on another channel.
            Frame::Cancel { task } => Received::Cancelled(self.forget(task).unwrap_or_else(|| task.into())),
        })
    }

    fn piece(&mut self, task: &str, piece: Piece) -> Result<Received, Violation> {
        let known = self.tasks.get_key_value(task).map(|(name, _)| name.clone());
        let is_new = known.is_none();
        if is_new && piece.seq > 0 {
            return Ok(Received::Nothing);
        }
        let task = known.unwrap_or_else(|| task.into());
        let is_next = if let Some(state) = self.tasks.get_mut(&task) {
            state.incoming.accept(&piece)?
        } else {
            // A piece against the rules begins no task.
            let mut state = Task::default();
            let is_next = state.incoming.accept(&piece)?;
            self.tasks.insert(task.clone(), state);
            is_next
        };
        Ok(if is_next { Received::Piece { task, is_new, piece } } else { Received::Nothing })
    }

    fn credit(&mut self, task: &str, credit: Credit) -> Result<Received, Violation> {
        let Some((name, _)) = self.tasks.get_key_value(task) else { return Ok(Received::Nothing) };
        let name = name.clone();
        if let Some(state) = self.tasks.get_mut(task) {
            state.outgoing.credit(credit)?;
        }
        self.give_turn(task);
        Ok(Received::Credit(name))
    }

    fn give_turn(&mut self, task: &str) {
        let Some((name, _)) = self.tasks.get_key_value(task) else { return };
        let name = name.clone();
        let Some(state) = self.tasks.get_mut(task) else { return };
        if self.is_carried && !state.has_turn && state.outgoing.is_ready() {
            state.has_turn = true;
            self.turn.push_back(name);
        }
    }

    /// Has the next frames tell the peer the credit of `task`. Without a connection, the next tables tell it.
    fn grant(&mut self, task: &str) {
        let Some((name, _)) = self.tasks.get_key_value(task) else { return };
        let name = name.clone();
        let Some(state) = self.tasks.get_mut(task) else { return };
        if self.is_carried && !state.has_grant {
            state.has_grant = true;
            self.grants.push_back(name);
        }
    }

    /// Removes `task` with its places in the queues, and returns its name.
    fn forget(&mut self, task: &str) -> Option<Arc<str>> {
        let (name, state) = self.tasks.remove_entry(task)?;
        if state.has_turn {
            self.turn.retain(|other| **other != *task);
        }
        if state.has_grant {
            self.grants.retain(|other| **other != *task);
        }
        Some(name)
    }
}

#[cfg(test)]
impl Link {
    /// Cost in credit of what is kept of each task for a new connection.
    pub(super) fn kept_costs(&self) -> impl Iterator<Item = u64> {
        self.tasks.values().map(|state| state.outgoing.kept_cost())
    }

    /// Number of tasks with credit to tell the peer.
    pub(super) fn waiting_grants(&self) -> usize {
        self.grants.len()
    }
}
