//! Ids of running and ended tasks, so that a task that the hub sends twice runs once. Pure.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use wire::TaskId;

/// How long an ended id is kept: longer than the time after which a hub that lost the result sends the task again.
pub(super) const KEEP_ENDED: Duration = Duration::from_mins(10);
/// Number of ended ids that are kept: 10 minutes at nearly two a second, more than a workstation's model sustains.
pub(super) const MAX_ENDED: usize = 1024;
/// Bytes of the results that are kept: a thousand long answers of 8 KiB.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// The state of an id that was dispatched.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdState {
    /// Not known: the task runs now.
    New,
    /// The task runs, or its result is on its way.
    Running,
    /// Another task of this id is `Running`. Its result must not be sent any more, because the hub would take it for the result of
    /// the new task.
    Clash,
    /// The task ended with this result.
    Answered(Bytes),
    /// The task ended, and its result was not kept: it was streamed, cancelled, or too large.
    NotKept,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    running: HashMap<TaskId, RunningTask>,
    ended: HashMap<TaskId, EndedTask>,
    /// Ended ids, oldest first, with the number of their ending.
    order: VecDeque<(Instant, TaskId, u64)>,
    endings: u64,
    /// Bytes of the results in `ended`.
    bytes: usize,
}

#[derive(Debug)]
struct RunningTask {
    fingerprint: u64,
    /// Whether the hub has given the id to another task.
    disowned: bool,
}

#[derive(Debug)]
struct EndedTask {
    fingerprint: u64,
    result: Option<Bytes>,
    /// Its number in `order`: an id that ended twice has two entries there.
    ending: u64,
}

impl Ledger {
    /// Enters a dispatched task. A known id with another fingerprint is another task, from a hub whose ids begin anew after a
    /// restart: the result of the first task belongs to another caller.
    pub(super) fn accept(&mut self, id: &TaskId, fingerprint: u64, now: Instant) -> IdState {
        self.expire(now);
        if let Some(first) = self.running.get_mut(id) {
            first.disowned |= first.fingerprint != fingerprint;
            return if first.disowned { IdState::Clash } else { IdState::Running };
        }
        match self.ended.get(id).filter(|ended| ended.fingerprint == fingerprint) {
            Some(EndedTask { result: Some(result), .. }) => return IdState::Answered(result.clone()),
            Some(EndedTask { result: None, .. }) => return IdState::NotKept,
            None => (),
        }
        self.running.insert(id.clone(), RunningTask { fingerprint, disowned: false });
        IdState::New
    }

    /// Ends a task. `result` is sent again if the hub sends the task again.
    pub(super) fn end(&mut self, id: &TaskId, result: Option<Bytes>, now: Instant) {
        let Some((id, RunningTask { fingerprint, .. })) = self.running.remove_entry(id) else { return };
        // A larger result would push out too many others.
        let result = result.filter(|result| result.len() <= MAX_BYTES / 4);
        self.bytes += result.as_ref().map_or(0, Bytes::len);
        self.endings += 1;
        let ending = self.endings;
        self.order.push_back((now, id.clone(), ending));
        if let Some(replaced) = self.ended.insert(id, EndedTask { fingerprint, result, ending }) {
            self.bytes -= replaced.result.map_or(0, |result| result.len());
        }
        self.expire(now);
    }

    /// Whether the hub has given the id of this running task to another one.
    pub(super) fn is_disowned(&self, id: &TaskId) -> bool {
        self.running.get(id).is_some_and(|running| running.disowned)
    }

    /// Number of tasks that have not ended.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    fn expire(&mut self, now: Instant) {
        while let Some((ended_at, ..)) = self.order.front() {
            let old = now.duration_since(*ended_at) >= KEEP_ENDED;
            if !old && self.order.len() <= MAX_ENDED && self.bytes <= MAX_BYTES {
                return;
            }
            let Some((_, id, ending)) = self.order.pop_front() else { return };
            if self.ended.get(&id).is_some_and(|ended| ended.ending == ending)
                && let Some(EndedTask { result: Some(result), .. }) = self.ended.remove(&id)
            {
                self.bytes -= result.len();
            }
        }
    }
}
