//! Synchronous inferences as `get task` shows them: in memory, those that run and the last ones that ended.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;
use wire::row::Timestamp;

use crate::model::{TaskState, UserId};
use crate::store::ListCursor;

/// How many ended ones are kept: a screenful or two. The audit has all.
const ENDED: usize = 200;

/// Bytes of an error's text that a record of it keeps: a publisher's may have megabytes.
const BRIEF: usize = 4 << 10;

/// The beginning of an error's text.
pub fn brief(text: &str) -> String {
    if text.len() <= BRIEF {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(BRIEF)])
}

/// One task, as callers read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    /// Random.
    pub id: String,
    /// Where it is in its life.
    pub status: TaskState,
    /// The name that was asked for.
    pub llm: String,
    /// The pool of the row that took it last.
    pub pool_name: Option<String>,
    /// The row that took it last.
    pub llm_name: Option<String>,
    /// The model behind that row.
    pub model: Option<String>,
    /// Whether chunks were asked for.
    pub streaming: bool,
    /// Whether it is kept over a restart.
    pub durable: bool,
    /// The session that took it last.
    pub worker: Option<String>,
    /// Whose it is.
    pub owner_id: UserId,
    /// Its place among those that wait, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The same as a code of SPEC.md section 5.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it came in.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// How many tasks run and wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sent to a publisher.
    pub running: usize,
    /// Waiting for one.
    pub queued: usize,
}

impl Counts {
    /// Both together.
    pub const fn plus(self, other: Self) -> Self {
        Self { running: self.running + other.running, queued: self.queued + other.queued }
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.running == 0 && self.queued == 0
    }

    /// One more in this state.
    pub const fn enter(&mut self, state: Option<TaskState>) {
        match state {
            Some(TaskState::Pending) => self.queued += 1,
            Some(TaskState::Claimed | TaskState::Running) => self.running += 1,
            _ => (),
        }
    }

    /// One less in this state.
    pub const fn leave(&mut self, state: Option<TaskState>) {
        match state {
            Some(TaskState::Pending) => self.queued -= 1,
            Some(TaskState::Claimed | TaskState::Running) => self.running -= 1,
            _ => (),
        }
    }
}

fn place(view: &TaskView) -> (Timestamp, &str) {
    (view.created_at, &view.id)
}

/// The `limit` newest, in no order.
fn newest<'a>(views: impl Iterator<Item = &'a TaskView>, limit: usize) -> Vec<TaskView> {
    let mut found: Vec<&TaskView> = views.collect();
    if found.len() > limit {
        found.select_nth_unstable_by(limit, |a, b| place(b).cmp(&place(a)));
        found.truncate(limit);
    }
    found.into_iter().cloned().collect()
}

#[derive(Default)]
pub(super) struct Recent {
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    next: u64,
    running: BTreeMap<u64, TaskView>,
    ended: VecDeque<TaskView>,
}

impl Recent {
    /// Adds one; the number stands for it.
    pub(super) fn add(&self, view: TaskView) -> u64 {
        let mut tasks = self.tasks.lock();
        tasks.next += 1;
        let number = tasks.next;
        tasks.running.insert(number, view);
        number
    }

    /// Changes one that runs.
    pub(super) fn update(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        if let Some(view) = self.tasks.lock().running.get_mut(&number) {
            change(view);
        }
    }

    /// Moves one to those that ended.
    pub(super) fn end(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        let mut tasks = self.tasks.lock();
        let Some(mut view) = tasks.running.remove(&number) else { return };
        change(&mut view);
        tasks.ended.truncate(ENDED - 1);
        tasks.ended.push_front(view);
    }

    /// Those whose owner passes and that came in before `before`: the `limit` newest, in no order.
    pub(super) fn list(
        &self,
        may_see: impl Fn(&str) -> bool,
        before: &ListCursor,
        limit: usize,
    ) -> Vec<TaskView> {
        let tasks = self.tasks.lock();
        let seen = tasks.running.values().chain(&tasks.ended).filter(|view| may_see(&view.owner_id));
        newest(seen.filter(|view| place(view) < (before.created_at, before.id.as_str())), limit)
    }

    /// Those whose owner passes: the `limit` newest that run, then the `limit` newest that have ended.
    pub(super) fn live(&self, may_see: impl Fn(&str) -> bool, limit: usize) -> Vec<TaskView> {
        let tasks = self.tasks.lock();
        let mut found = newest(tasks.running.values().filter(|view| may_see(&view.owner_id)), limit);
        found.extend(tasks.ended.iter().filter(|view| may_see(&view.owner_id)).take(limit).cloned());
        found
    }

    /// One of them.
    pub(super) fn one(&self, id: &str) -> Option<TaskView> {
        let tasks = self.tasks.lock();
        tasks.running.values().chain(&tasks.ended).find(|view| view.id == id).cloned()
    }

    /// How many of those whose owner passes run and wait.
    pub(super) fn counts(&self, may_see: impl Fn(&str) -> bool) -> Counts {
        let mut counts = Counts::default();
        let tasks = self.tasks.lock();
        for view in tasks.running.values().filter(|view| may_see(&view.owner_id)) {
            counts.enter(Some(view.status));
        }
        counts
    }
}
