//! Synchronous inferences as `get task` shows them: in memory, those that run and the last ones that ended.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;
use wire::row::Timestamp;

use crate::model::{TaskState, UserId};

/// How many ended ones are kept: a screenful or two. The audit has all.
const ENDED: usize = 200;

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

    /// Those whose owner passes, newest first; running before ended.
    pub(super) fn list(&self, may_see: impl Fn(&str) -> bool) -> Vec<TaskView> {
        let tasks = self.tasks.lock();
        let all = tasks.running.values().rev().chain(&tasks.ended);
        all.filter(|view| may_see(&view.owner_id)).cloned().collect()
    }
}
