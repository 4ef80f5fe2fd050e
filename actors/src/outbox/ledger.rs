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
    /// It ended with this result.
    Answered(Bytes),
    /// It ended, and its result was not kept: it was streamed, cancelled, or too large.
    Spent,
}

/// Ids of tasks.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What stands for what each asks.
    running: HashMap<TaskId, u64>,
    ended: HashMap<TaskId, (u64, Option<Bytes>)>,
    /// The ended ones, oldest first.
    order: VecDeque<(Instant, TaskId)>,
    bytes: usize,
}

impl Ledger {
    /// Enters a dispatched id; `asked` stands for what the task asks. An id that comes again with something else is
    /// another task, of a hub that counts from the beginning after a restart: the result of the first is another caller's.
    pub(super) fn admit(&mut self, id: &TaskId, asked: u64, now: Instant) -> Seen {
        self.forget(now);
        match self.ended.get(id) {
            Some((first, Some(result))) if *first == asked => return Seen::Answered(result.clone()),
            Some((first, None)) if *first == asked => return Seen::Spent,
            _ => (),
        }
        if self.running.contains_key(id) {
            return Seen::Running;
        }
        self.running.insert(id.clone(), asked);
        Seen::New
    }

    /// The task ended, with the result to give again if it is asked for again.
    pub(super) fn end(&mut self, id: &TaskId, result: Option<Bytes>, now: Instant) {
        let Some((id, asked)) = self.running.remove_entry(id) else { return };
        // One that takes a fourth of the room would push everybody else out.
        let result = result.filter(|result| result.len() <= MAX_BYTES / 4);
        self.bytes += result.as_ref().map_or(0, Bytes::len);
        self.order.push_back((now, id.clone()));
        if let Some((_, Some(replaced))) = self.ended.insert(id, (asked, result)) {
            self.bytes -= replaced.len();
        }
        self.forget(now);
    }

    /// How many have not ended yet.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    fn forget(&mut self, now: Instant) {
        while let Some((ended_at, _)) = self.order.front() {
            let old = now.duration_since(*ended_at) >= REMEMBERED;
            if !old && self.order.len() <= MAX_ENDED && self.bytes <= MAX_BYTES {
                return;
            }
            let Some((_, id)) = self.order.pop_front() else { return };
            if let Some((_, Some(result))) = self.ended.remove(&id) {
                self.bytes -= result.len();
            }
        }
    }
}
