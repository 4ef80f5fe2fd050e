//! Which tasks run and which have ended: a task id that comes twice runs once. Without a clock.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wire::TaskId;

/// How long an ended id is remembered: longer than a hub that lost our answer waits before it asks again.
pub(super) const REMEMBERED: Duration = Duration::from_mins(10);
/// How many are: 10 minutes at nearly two a second, which no workstation's model sustains.
pub(super) const MAX_ENDED: usize = 1024;
/// Bytes of their results: a thousand long answers of 8 KiB.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// What the ledger knows of an id that was just dispatched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Never seen, or forgotten: it runs now.
    New,
    /// It runs, or its result is on its way.
    Running,
    /// One of this id runs, or its result is on its way, and it asked something else: what becomes of it may not be said
    /// any more, for the hub would take it for this one's.
    Clash,
    /// It ended with this result.
    Answered(Bytes),
    /// It ended, and its result was not kept: it was streamed, cancelled, or too large.
    Spent,
}

/// Ids of tasks.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    running: HashMap<TaskId, Running>,
    ended: HashMap<TaskId, Ended>,
    /// The ended ones, oldest first, with the number of their ending.
    order: VecDeque<(Instant, TaskId, u64)>,
    endings: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Running {
    /// What stands for what it asks.
    asked: u64,
    /// Whether the hub has given its id to another.
    disowned: bool,
}

#[derive(Debug)]
struct Ended {
    asked: u64,
    result: Option<Bytes>,
    /// The place in `order` that is its own: an id that ended twice has two.
    ending: u64,
}

impl Ledger {
    /// Enters a dispatched id; `asked` stands for what the task asks. An id that comes again with something else is
    /// another task, of a hub that counts from the beginning after a restart: the result of the first is another caller's.
    pub(super) fn admit(&mut self, id: &TaskId, asked: u64, now: Instant) -> Seen {
        self.forget(now);
        if let Some(first) = self.running.get_mut(id) {
            first.disowned |= first.asked != asked;
            return if first.disowned { Seen::Clash } else { Seen::Running };
        }
        match self.ended.get(id).filter(|ended| ended.asked == asked) {
            Some(Ended { result: Some(result), .. }) => return Seen::Answered(result.clone()),
            Some(Ended { result: None, .. }) => return Seen::Spent,
            None => (),
        }
        self.running.insert(id.clone(), Running { asked, disowned: false });
        Seen::New
    }

    /// The task ended, with the result to give again if it is asked for again.
    pub(super) fn end(&mut self, id: &TaskId, result: Option<Bytes>, now: Instant) {
        let Some((id, Running { asked, .. })) = self.running.remove_entry(id) else { return };
        // One that takes a fourth of the room would push everybody else out.
        let result = result.filter(|result| result.len() <= MAX_BYTES / 4);
        self.bytes += result.as_ref().map_or(0, Bytes::len);
        self.endings += 1;
        let ending = self.endings;
        self.order.push_back((now, id.clone(), ending));
        if let Some(replaced) = self.ended.insert(id, Ended { asked, result, ending }) {
            self.bytes -= replaced.result.map_or(0, |result| result.len());
        }
        self.forget(now);
    }

    /// Whether the hub has given the id of this one, which has not ended, to another.
    pub(super) fn is_disowned(&self, id: &TaskId) -> bool {
        self.running.get(id).is_some_and(|running| running.disowned)
    }

    /// How many have not ended yet.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((ended_at, ..)) = self.order.front() {
            let old = now.duration_since(*ended_at) >= REMEMBERED;
            if !old && self.order.len() <= MAX_ENDED && self.bytes <= MAX_BYTES {
                return;
            }
            let Some((_, id, ending)) = self.order.pop_front() else { return };
            if self.ended.get(&id).is_some_and(|ended| ended.ending == ending)
                && let Some(Ended { result: Some(result), .. }) = self.ended.remove(&id)
            {
                self.bytes -= result.len();
            }
        }
    }
}
