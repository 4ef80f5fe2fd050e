//! One end of a link: its tasks, the order in which they are sent, and what survives a broken connection.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::flow::{Incoming, Outgoing, Violation};
use super::frame::{BodyKind, Credit, Frame, Going, Piece};

/// What one end has of a task's body that the other end sends: the number of received pieces, and the granted credit in
/// bytes, both since the start of the body.
pub type HeldTask = [u64; 2];

/// What one end has of all tasks, by id. Part of the hello and of the resume.
pub type Tables = BTreeMap<String, HeldTask>;

/// What a frame means to the owner of a [`Link`].
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A new piece of a body. Its owner calls [`Link::consumed`] when it has used it.
    Piece {
        /// Task id.
        task: Arc<str>,
        /// Whether the link did not know the task.
        is_new: bool,
        /// The piece.
        piece: Piece,
    },
    /// The peer granted credit to this task's body.
    Credit(Arc<str>),
    /// The hub has decided about the answer. The task has been removed.
    Taken {
        /// Task id.
        task: Arc<str>,
        /// HTTP status of the decision.
        status: u16,
    },
    /// Nobody waits for the task. If the link knew it, it has been removed.
    Cancelled(Arc<str>),
    /// The hub's hello.
    Hello(Bytes),
    /// The registrar's resume.
    Resume(Bytes),
    /// Another registrar has opened the channel of this session.
    Superseded,
    /// The hub shuts down, and finishes its tasks on this link.
    Going(Going),
    /// A heartbeat: its number and its JSON.
    Beat(u64, Bytes),
    /// The answer to a heartbeat.
    Beaten {
        /// Number of the heartbeat.
        number: u64,
        /// HTTP status.
        status: u16,
        /// Body of the response.
        body: Bytes,
    },
    /// Nothing that matters: a piece that came before, a task that has ended.
    Nothing,
}

/// One end of a link. It outlives the connections that carry it.
#[derive(Debug, Default)]
pub struct Link {
    tasks: HashMap<Arc<str>, Task>,
    /// Tasks with a piece to send, each once.
    turn: VecDeque<Arc<str>>,
    /// Frames that are sent before all pieces.
    control: VecDeque<Bytes>,
    is_attached: bool,
}

/// The two bodies of a task: to the peer and from it.
#[derive(Debug, Default)]
struct Task {
    outgoing: Outgoing,
    incoming: Incoming,
    has_turn: bool,
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
        let credit = self.tasks.get_mut(task).and_then(|state| state.incoming.consume(length));
        if let Some(credit) = credit {
            self.control.push_back(Frame::Credit { task, credit }.encode());
        }
        credit.is_some()
    }

    /// Tells the registrar what the hub decided about an answer, and removes the task.
    pub fn take(&mut self, task: &str, status: u16) {
        if self.remove(task) {
            self.control.push_back(Frame::Taken { task, status }.encode());
        }
    }

    /// Tells the registrar that nobody waits for `task`, and removes it.
    pub fn cancel(&mut self, task: &str) {
        if self.remove(task) {
            self.control.push_back(Frame::Cancel { task }.encode());
        }
    }

    /// Removes `task` without telling the peer.
    pub fn remove(&mut self, task: &str) -> bool {
        self.tasks.remove(task).is_some()
    }

    /// Whether a connection carries the link, and both ends have greeted.
    pub fn is_attached(&self) -> bool {
        self.is_attached
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

    /// Number of frames that wait to be sent before all pieces.
    pub fn waiting_control(&self) -> usize {
        self.control.len()
    }

    /// Adds a frame that is sent before all pieces.
    pub fn send_control(&mut self, frame: &Frame<'_>) {
        self.control.push_back(frame.encode());
    }

    /// The next frame to send that is not a piece.
    pub fn next_control(&mut self) -> Option<Bytes> {
        self.control.pop_front()
    }

    /// The next frame to send; `None` until something changes.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        if let Some(frame) = self.next_control() {
            return Some(frame);
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
        if is_greeting == self.is_attached {
            return Err(Violation::Hello);
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
            Frame::Taken { task, status } => match self.tasks.remove_entry(task) {
                Some((task, _)) => Received::Taken { task, status },
                None => Received::Nothing,
            },
            // Also of a task that came on another channel.
            Frame::Cancel { task } => Received::Cancelled(
                self.tasks.remove_entry(task).map_or_else(|| task.into(), |(task, _)| task),
            ),
        })
    }

    fn piece(&mut self, task: &str, piece: Piece) -> Result<Received, Violation> {
        let known = self.tasks.get_key_value(task).map(|(name, _)| name.clone());
        let is_new = known.is_none();
        if is_new && piece.seq > 0 {
            return Ok(Received::Nothing);
        }
        let task = known.unwrap_or_else(|| task.into());
        let is_next = self.tasks.entry(task.clone()).or_default().incoming.accept(&piece)?;
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
        if self.is_attached && !state.has_turn && state.outgoing.is_ready() {
            state.has_turn = true;
            self.turn.push_back(name);
        }
    }

    /// What this end has of all tasks.
    pub fn tables(&self) -> Tables {
        let held = |(task, state): (&Arc<str>, &Task)| {
            let (received, granted) = state.incoming.held();
            (task.to_string(), [received, granted])
        };
        self.tasks.iter().map(held).collect()
    }

    /// Notes that the connection broke. Frames that were not pieces are dropped: the tables of the next connection say
    /// the same.
    pub fn detach(&mut self) {
        self.is_attached = false;
        self.control.clear();
        self.turn.clear();
        self.tasks.values_mut().for_each(|state| state.has_turn = false);
    }

    /// Checks that a peer can have `tables`.
    pub(super) fn check(&self, tables: &Tables) -> Result<(), Violation> {
        self.tasks.iter().try_for_each(|(task, state)| match tables.get(&**task) {
            Some(&[received, _]) => state.outgoing.check(received),
            None => Ok(()),
        })
    }

    /// Tells the peer, whose tables are `tables`, what it may have missed since the hello: ends of tasks, and credit.
    pub(super) fn tell(&mut self, tables: &Tables) {
        for task in tables.keys() {
            let frame = match self.tasks.get(&**task) {
                Some(state) => state.incoming.grown().map(|credit| Frame::Credit { task, credit }),
                None => Some(Frame::Cancel { task }),
            };
            self.control.extend(frame.map(|frame| frame.encode()));
        }
    }

    /// Goes on with a peer that has `tables`, on a new connection. The tasks that it does not know are removed and returned.
    pub fn attach(&mut self, tables: &Tables) -> Result<Vec<Arc<str>>, Violation> {
        if self.is_attached {
            return Err(Violation::Hello);
        }
        self.check(tables)?;
        let mut lost = Vec::new();
        for (task, state) in &mut self.tasks {
            match tables.get(&**task) {
                Some(&[received, granted]) => state.outgoing.reattach(received, granted),
                None => lost.push(task.clone()),
            }
        }
        for task in &lost {
            self.tasks.remove(task);
        }
        self.is_attached = true;
        let ready = self.tasks.iter_mut().filter(|(_, state)| state.outgoing.is_ready());
        for (task, state) in ready {
            state.has_turn = true;
            self.turn.push_back(task.clone());
        }
        Ok(lost)
    }
}

#[cfg(test)]
impl Link {
    /// Cost in credit of what is kept of each task for a new connection.
    pub(super) fn kept_costs(&self) -> impl Iterator<Item = u64> {
        self.tasks.values().map(|state| state.outgoing.kept_cost())
    }
}
