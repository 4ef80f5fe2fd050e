//! Either end of a link whose peer sends any bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use wire::link::{
    BodyKind, Frame, Hello, Link, MAX_PIECE, PIECE_OVERHEAD, Received, Resume, Violation, WINDOW,
};

/// Most tasks that the registrar's end takes from its hub.
const MAX_TASKS: usize = 16;

/// One end, and what its owner knows of it.
struct End {
    link: Link,
    is_hub: bool,
    /// Lengths of the pieces that were received and not consumed.
    unread: HashMap<Arc<str>, VecDeque<usize>>,
    /// Number of bytes of all bodies that were pushed.
    pushed: usize,
}

/// Whatever a peer sends, an end of a link does not panic, accepts no more of a task than its credit, has no task that
/// its owner does not want, and sends no more than was pushed. The first byte says which end; then come steps: a byte
/// that says which, the length of its data, the data.
pub fn link(bytes: &[u8]) {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let mut end = End { link: Link::default(), is_hub: first & 1 == 0, unread: HashMap::new(), pushed: 0 };
    while let [step, length, more @ ..] = rest {
        let (data, more) = more.split_at(more.len().min(usize::from(*length)));
        end.step(*step, data);
        end.check();
        rest = more;
    }
    end.link.disconnect();
    assert!(end.link.next_frame().is_none(), "a frame without a connection");
}

impl End {
    fn step(&mut self, step: u8, data: &[u8]) {
        let task = String::from_utf8_lossy(data.get(..1).unwrap_or(b"t")).into_owned();
        match step % 8 {
            0 => self.frame(data.to_vec()),
            // Of nearly the longest piece, and of a longer one.
            1 => self.frame(padded(data, MAX_PIECE - 300)),
            2 => self.frame(padded(data, MAX_PIECE + 1)),
            3 => {
                // Most of a request, or of an answer, is larger than a step's data.
                let body = data.repeat(usize::from(step / 8) * 16);
                if self.is_hub || self.link.knows(&task) {
                    self.pushed += body.len();
                    self.link.push(&task, BodyKind::Events, body.into());
                }
            }
            4 => self.link.finish(&task),
            5 => self.consume(&task),
            6 => {
                self.link.take(&task, 200);
                self.unread.remove(task.as_str());
            }
            _ => self.send(),
        }
    }

    /// Takes a frame. A violation closes the connection.
    fn frame(&mut self, bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        let Ok(Some(frame)) = Frame::decode(&bytes) else { return };
        let encoded = frame.encode();
        assert_eq!(Frame::decode(&encoded), Ok(Some(frame.clone())));
        if self.receive(frame).is_err() {
            self.link.disconnect();
        }
    }

    fn receive(&mut self, frame: Frame<'_>) -> Result<(), Violation> {
        match self.link.receive(frame)? {
            Received::Piece { task, is_new, piece } => {
                let is_wanted = if self.is_hub { !is_new } else { self.link.len() <= MAX_TASKS };
                if !is_wanted {
                    self.link.take(&task, 404);
                    return Ok(());
                }
                self.unread.entry(task).or_default().push_back(piece.bytes.len());
            }
            Received::Hello(json) if !self.is_hub => {
                let hello = Hello::parse(&json).ok_or(Violation::NotGreeted)?;
                self.resume(&hello.tasks)?;
            }
            Received::Resume(json) if self.is_hub => {
                let resume = Resume::parse(&json).ok_or(Violation::NotGreeted)?;
                self.resume(&resume.tasks)?;
            }
            Received::Taken { task, .. } | Received::Cancelled(task) if !self.is_hub => {
                self.unread.remove(&task);
            }
            Received::Superseded if !self.is_hub => (),
            Received::Credit(_) | Received::Nothing => (),
            _ => return Err(Violation::WrongEnd),
        }
        Ok(())
    }

    fn resume(&mut self, tables: &wire::link::Tables) -> Result<(), Violation> {
        for task in self.link.resume(tables)? {
            assert!(!self.link.knows(&task));
            self.unread.remove(&task);
        }
        Ok(())
    }

    fn consume(&mut self, task: &str) {
        let Some(pieces) = self.unread.get_mut(task) else { return };
        if let Some(length) = pieces.pop_front() {
            self.link.consumed(task, length);
        }
    }

    /// Writes all that can be written.
    fn send(&mut self) {
        let mut sent = 0;
        while let Some(frame) = self.link.next_frame() {
            if let Ok(Some(Frame::Piece { piece, .. })) = Frame::decode(&frame) {
                sent += piece.bytes.len();
            }
        }
        assert!(sent <= self.pushed, "{sent} of {} bytes", self.pushed);
    }

    fn check(&self) {
        for (task, pieces) in &self.unread {
            let held: u64 = pieces.iter().map(|length| *length as u64 + PIECE_OVERHEAD).sum();
            assert!(held <= WINDOW, "{held} bytes of {task:?}");
        }
        if !self.is_hub {
            assert!(self.link.len() <= MAX_TASKS);
        }
        let tables = self.link.tables();
        assert_eq!(tables.len(), self.link.len());
    }
}

/// `data` and so many spaces.
fn padded(data: &[u8], spaces: usize) -> Vec<u8> {
    let mut padded = data.to_vec();
    padded.resize(data.len() + spaces, b' ');
    padded
}
