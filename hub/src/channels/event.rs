//! What is sent on a channel, encoded as SSE.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use wire::TaskId;
use wire::task::Cancel;

/// An event for a publisher, encoded as SSE, in pieces.
pub(crate) struct Event {
    pub(super) kind: EventKind,
    pub(super) pieces: VecDeque<Bytes>,
    /// The size at first, in bytes.
    size: usize,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A task, with this id.
    Task(Arc<str>),
    /// Nobody waits for the task with this id.
    Cancel(Arc<str>),
}

/// Most bytes written at once. The server copies them, and a large event must not block its thread.
pub(super) const SLICE: usize = 64 << 10;

/// Fields before the data of a task, and after it.
const TASK: &str = "event: task\ndata: ";
const END: &str = "\n\n";

impl Event {
    /// A task whose data are the concatenated `pieces`, in one line. They may be large, and are not copied.
    pub(crate) fn task(id: &str, mut pieces: Vec<Bytes>) -> Self {
        pieces.insert(0, Bytes::from_static(TASK.as_bytes()));
        pieces.push(Bytes::from_static(END.as_bytes()));
        let size = pieces.iter().map(Bytes::len).sum();
        let pieces = if size <= SLICE { [pieces.concat().into()].into() } else { pieces.into() };
        Self { kind: EventKind::Task(id.into()), pieces, size }
    }

    /// The cancellation of a task.
    pub(crate) fn cancel(id: TaskId) -> Result<Self, serde_json::Error> {
        let kind = EventKind::Cancel(id.as_str().into());
        let text = format!("event: cancel\ndata: {}{END}", serde_json::to_string(&Cancel { task_id: id })?);
        Ok(Self { kind, size: text.len(), pieces: [text.into()].into() })
    }

    /// What the event says, and the data of a task without the fields around them.
    pub(super) fn into_data(mut self) -> (EventKind, VecDeque<Bytes>) {
        if let Some(first) = self.pieces.front_mut() {
            first.advance(TASK.len().min(first.len()));
        }
        if let Some(last) = self.pieces.back_mut() {
            last.truncate(last.len().saturating_sub(END.len()));
        }
        (self.kind, self.pieces)
    }

    pub(super) const fn size(&self) -> usize {
        self.size
    }

    /// Whether all slices were taken.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    /// The next slice.
    pub(super) fn next_slice(&mut self) -> Option<Bytes> {
        loop {
            let front = self.pieces.front_mut()?;
            if front.len() > SLICE {
                // Cut between two characters, for readers that decode each read separately.
                let is_within = |at: &usize| front.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
                let cut = (SLICE - 3..=SLICE).rev().find(|at| !is_within(at)).unwrap_or(SLICE);
                return Some(front.split_to(cut));
            }
            let front = self.pieces.pop_front()?;
            // An empty chunk would end the body.
            if !front.is_empty() {
                return Some(front);
            }
        }
    }
}

#[cfg(test)]
impl From<Vec<u8>> for Event {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

#[cfg(test)]
impl From<Bytes> for Event {
    fn from(bytes: Bytes) -> Self {
        Self { kind: EventKind::Task("t".into()), size: bytes.len(), pieces: [bytes].into() }
    }
}
