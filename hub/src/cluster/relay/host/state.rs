//! What a channel has of the tasks of other hubs. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::Notify;
use wire::link::{Frame, MAX_TASKS, Piece};

use crate::cluster::Process;
use crate::cluster::bus::Reply;
use crate::cluster::parts::Parts;
use crate::cluster::relay::frames;
use crate::quota::BytesPermit;

/// Longest task for a registrar that reads events, in bytes: more than any request that a hub reads.
const LARGEST: usize = 64 << 20;
/// HTTP status of a task that the registrar does not get here.
const REFUSED: u16 = 503;
/// Memory in bytes of a frame that waits, besides its own bytes.
const FRAME_OVERHEAD: usize = 64;

#[derive(Default)]
pub(super) struct ChannelState {
    /// In the order of their turns.
    pub(super) homes: VecDeque<HomeRelay>,
    /// Tasks at the registrar whose relay broke, until their home wants it again or is dead.
    pub(super) broken: HashMap<Process, HashSet<Arc<str>>>,
    /// The host's own frames: of tasks whose home is dead.
    pub(super) control: VecDeque<Bytes>,
    /// Whether the registrar has to connect again, and greet.
    pub(super) must_greet: bool,
    /// Whether no new task comes to the registrar here.
    pub(super) is_leaving: bool,
    pub(super) is_closed: bool,
    pub(super) reader: Option<Waker>,
}

/// The relay of one home.
pub(super) struct HomeRelay {
    pub(super) home: Process,
    pub(super) number: u64,
    /// Whether the home knows of it.
    pub(super) is_begun: bool,
    /// Whether the home is to be asked whether it has the relay.
    pub(super) must_ask: bool,
    /// What came from the home, and the part of it that is being written.
    pub(super) arrived: Parts<Reply>,
    pub(super) batch: Bytes,
    /// Of a registrar that reads events, the task that has come in part, and what counts it.
    pub(super) partial: Option<(Arc<str>, Vec<Bytes>, BytesPermit)>,
    /// The home's tasks that the registrar has.
    pub(super) tasks: HashSet<Arc<str>>,
    /// The registrar's frames for the home, and the memory in bytes that they take.
    pub(super) waiting: VecDeque<Bytes>,
    pub(super) waiting_bytes: usize,
    pub(super) has_more: Arc<Notify>,
}

impl ChannelState {
    pub(super) fn relay(&mut self, number: u64) -> Option<&mut HomeRelay> {
        self.homes.iter_mut().find(|relay| relay.number == number)
    }

    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Ends a relay. Its tasks run on at the registrar.
    pub(super) fn end(&mut self, number: u64) {
        let Some(at) = self.homes.iter().position(|relay| relay.number == number) else { return };
        let Some(ended) = self.homes.remove(at) else { return };
        if !ended.tasks.is_empty() {
            self.broken.entry(ended.home).or_default().extend(ended.tasks);
        }
        ended.has_more.notify_one();
        self.wake();
    }

    /// The next frame for the registrar, with what is to be answered now.
    pub(super) fn poll_frame(&mut self, cx: &Context<'_>, replies: &mut Vec<Reply>) -> Poll<Option<Bytes>> {
        if self.must_greet {
            return Poll::Ready(None);
        }
        if let Some(frame) = self.control.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let is_leaving = self.is_leaving;
        for _ in 0..self.homes.len() {
            if let Some(relay) = self.homes.front_mut()
                && let Some(frame) = relay.next_frame(cx, is_leaving, replies)
            {
                self.homes.rotate_left(1);
                return Poll::Ready(Some(frame));
            }
            self.homes.rotate_left(1);
        }
        self.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl HomeRelay {
    /// The next frame of the home for the registrar, to which no new task is sent if `is_leaving`.
    pub(super) fn next_frame(
        &mut self,
        cx: &Context<'_>,
        is_leaving: bool,
        replies: &mut Vec<Reply>,
    ) -> Option<Bytes> {
        loop {
            while let Some(frame) = frames::next(&mut self.batch) {
                if self.note(&frame, is_leaving) {
                    return Some(frame);
                }
            }
            let Poll::Ready(Some(Ok((batch, reply)))) = self.arrived.poll_next(cx) else { return None };
            self.batch = batch;
            replies.extend(reply);
        }
    }

    /// Adds a piece of a task for a registrar that reads events. Returns the task if it is whole, or there is no memory for it in the
    /// `quota` of its publisher's owner.
    pub(super) fn add(
        &mut self,
        task: &str,
        piece: &Piece,
        quota: impl FnOnce() -> BytesPermit,
    ) -> Option<HomeEvent> {
        let (task, mut pieces, mut held) = match self.partial.take_if(|(of, ..)| **of == *task) {
            Some(partial) if piece.seq > 0 => partial,
            _ if piece.seq > 0 => return None,
            _ => (task.into(), Vec::new(), quota()),
        };
        if held.size() + piece.bytes.len() > LARGEST || held.grow(piece.bytes.len()).is_err() {
            return Some(HomeEvent::Refused(task));
        }
        // A copy: what came shares the block in which it was read.
        pieces.push(Bytes::copy_from_slice(&piece.bytes));
        if piece.is_last {
            return Some(HomeEvent::Task(task, pieces, held));
        }
        self.partial = Some((task, pieces, held));
        None
    }

    /// Notes what a frame of the home does to its task. `false` if it is not about one.
    pub(super) fn note(&mut self, frame: &Bytes, is_leaving: bool) -> bool {
        let Ok(Some(frame)) = Frame::decode(frame) else { return false };
        let is_of_home = |task: &str| Process::of_task(task) == Some(self.home);
        match frame {
            Frame::Piece { task, piece } if is_of_home(task) && !self.tasks.contains(task) => {
                if is_leaving {
                    if piece.seq == 0 {
                        // It comes too late. Its home tries another channel.
                        self.push(Frame::Taken { task, status: REFUSED }.encode());
                    }
                    return false;
                }
                if self.tasks.len() >= MAX_TASKS {
                    // Of a registrar that posts its answers: their end is not seen here. The next POST of an older one is answered with
                    // 410 if its home is dead.
                    self.tasks.clear();
                }
                self.tasks.insert(task.into());
                true
            }
            Frame::Piece { task, .. } | Frame::Credit { task, .. } => is_of_home(task),
            Frame::Cancel { task } | Frame::Taken { task, .. } if is_of_home(task) => {
                self.tasks.remove(task);
                true
            }
            _ => false,
        }
    }
}

/// What a home has sent for a registrar that reads events.
pub(super) enum HomeEvent {
    /// With what counts it.
    Task(Arc<str>, Vec<Bytes>, BytesPermit),
    /// There is no memory for it.
    Refused(Arc<str>),
    Cancel(Arc<str>),
}

impl ChannelState {
    pub(super) fn push(&mut self, number: u64, frame: Bytes) {
        if let Some(relay) = self.relay(number) {
            relay.push(frame);
        }
    }

    /// Cancels the tasks of a home without a relay that have ended there.
    pub(super) fn end_broken(&mut self, home: Process, has_ended: impl Fn(&str) -> bool) {
        let Some(tasks) = self.broken.get_mut(&home) else { return };
        let ended = tasks.extract_if(|task| has_ended(task));
        self.control.extend(ended.map(|task| Frame::Cancel { task: &task }.encode()));
        if tasks.is_empty() {
            self.broken.remove(&home);
        }
        self.wake();
    }

    /// Memory in bytes of the registrar's frames that wait.
    pub(super) fn waiting(&self) -> usize {
        self.homes.iter().map(|relay| relay.waiting_bytes).sum()
    }
}

impl HomeRelay {
    fn push(&mut self, frame: Bytes) {
        self.waiting_bytes += frame.len() + FRAME_OVERHEAD;
        self.waiting.push_back(frame);
        self.has_more.notify_one();
    }

    /// The next frame for the home.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let frame = self.waiting.pop_front()?;
        self.waiting_bytes -= frame.len() + FRAME_OVERHEAD;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use wire::link::BodyKind;

    use super::*;
    use crate::quota::{ByteKind, ByteQuota, MemoryBudget, Quota};
    use crate::telemetry::Metrics;

    #[test]
    fn a_task_beyond_its_owners_memory_is_refused_once() {
        let memory =
            Arc::new(MemoryBudget::new(Some(1 << 30), Metrics::new().unwrap().of_machine().unwrap()));
        let quota = Quota::of_bytes(&memory, ByteKind::Sent);
        let counter = || ByteQuota::new(&quota, "eve", 1000, "tasks unread").empty();
        let mut relay = HomeRelay {
            home: Process::parse("b.bbbbbb").unwrap(),
            number: 1,
            is_begun: true,
            must_ask: false,
            arrived: Parts::default(),
            batch: Bytes::new(),
            partial: None,
            tasks: HashSet::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            has_more: Arc::default(),
        };
        let mut add = |task: &str, seq, is_last| {
            let piece = Piece { seq, kind: BodyKind::Json, is_last, bytes: vec![0; 400].into() };
            relay.add(task, &piece, counter)
        };
        assert!(add("one", 0, false).is_none() && add("one", 1, false).is_none());
        assert!(matches!(add("one", 2, false), Some(HomeEvent::Refused(task)) if *task == *"one"));
        assert_eq!(memory.held(), 0);
        assert!(add("one", 3, true).is_none(), "what is behind it begins no task");
        assert!(add("two", 0, false).is_none());
        let Some(HomeEvent::Task(task, pieces, held)) = add("two", 1, true) else {
            panic!("it is not whole")
        };
        assert_eq!((&*task, pieces.len(), memory.held()), ("two", 2, 800));
        drop(held);
        assert_eq!(memory.held(), 0);
    }
}
