//! Synchronous inferences as `get task` shows them: in memory, those that run and the last ones that ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;
use wire::row::Timestamp;

use crate::model::{Caller, Role, TaskStatus, UserId};
use crate::store::ListCursor;

/// How many ended ones are kept, of all users: a screenful or two. The audit has all.
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
    pub status: TaskStatus,
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
    pub const fn enter(&mut self, state: Option<TaskStatus>) {
        match state {
            Some(TaskStatus::Pending) => self.queued += 1,
            Some(TaskStatus::Claimed | TaskStatus::Running) => self.running += 1,
            _ => (),
        }
    }

    /// One less in this state.
    pub const fn leave(&mut self, state: Option<TaskStatus>) {
        match state {
            Some(TaskStatus::Pending) => self.queued -= 1,
            Some(TaskStatus::Claimed | TaskStatus::Running) => self.running -= 1,
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
    /// Counts changes.
    version: u64,
    running: BTreeMap<u64, TaskView>,
    /// How many of all users run and wait.
    counts: Counts,
    of: HashMap<UserId, OfUser>,
    ended: BTreeMap<u64, TaskView>,
    /// The numbers of those of each user that has some, in the order in which they ended.
    ended_of: HashMap<UserId, VecDeque<u64>>,
}

/// Those of one user; one who has none is not there.
#[derive(Default)]
struct OfUser {
    running: BTreeSet<u64>,
    counts: Counts,
    /// The version of the last change.
    version: u64,
}

impl Tasks {
    /// Something of `user`'s changes.
    fn change(&mut self, user: &str, change: impl FnOnce(&mut OfUser)) {
        self.version += 1;
        let of = match self.of.get_mut(user) {
            Some(of) => of,
            None => self.of.entry(user.to_owned()).or_default(),
        };
        change(of);
        of.version = self.version;
        if of.running.is_empty() && !self.ended_of.contains_key(user) {
            self.of.remove(user);
        }
    }

    /// A running one was in a state, and is in another one.
    fn moved(&mut self, user: &str, from: Option<TaskStatus>, to: Option<TaskStatus>) {
        self.counts.leave(from);
        self.counts.enter(to);
        self.change(user, |of| {
            of.counts.leave(from);
            of.counts.enter(to);
        });
    }

    /// Those that run and `caller` may see, in the order in which they came.
    fn running<'a>(&'a self, caller: &Caller) -> Box<dyn DoubleEndedIterator<Item = &'a TaskView> + 'a> {
        if caller.role == Role::Admin {
            return Box::new(self.running.values());
        }
        let numbers = self.of.get(&caller.user).into_iter().flat_map(|of| &of.running);
        Box::new(numbers.filter_map(|number| self.running.get(number)))
    }

    /// Those that have ended and `caller` may see, the last one first.
    fn ended<'a>(&'a self, caller: &Caller) -> Box<dyn Iterator<Item = &'a TaskView> + 'a> {
        if caller.role == Role::Admin {
            return Box::new(self.ended.values().rev());
        }
        let numbers = self.ended_of.get(&caller.user).into_iter().flatten().rev();
        Box::new(numbers.filter_map(|number| self.ended.get(number)))
    }

    /// One has ended. Of too many the one goes that ended first of those of the user who has most: nobody pushes out what
    /// others did.
    fn keep_ended(&mut self, view: TaskView) {
        self.next += 1;
        let (number, owner) = (self.next, view.owner_id.clone());
        self.ended.insert(number, view);
        self.ended_of.entry(owner).or_default().push_back(number);
        if self.ended.len() <= ENDED {
            return;
        }
        // There are no more users here than ended ones.
        let most = self.ended_of.iter().max_by_key(|(_, ended)| (ended.len(), Reverse(ended.front())));
        let Some(user) = most.map(|(user, _)| user.clone()) else { return };
        let Some(ended) = self.ended_of.get_mut(&user) else { return };
        if let Some(oldest) = ended.pop_front() {
            self.ended.remove(&oldest);
        }
        if ended.is_empty() {
            self.ended_of.remove(&user);
        }
        self.change(&user, |_| ());
    }
}

impl Recent {
    /// Adds one; the number stands for it.
    pub(super) fn add(&self, view: TaskView) -> u64 {
        let mut tasks = self.tasks.lock();
        tasks.next += 1;
        let number = tasks.next;
        tasks.change(&view.owner_id, |of| {
            of.running.insert(number);
        });
        tasks.moved(&view.owner_id, None, Some(view.status));
        tasks.running.insert(number, view);
        number
    }

    /// Changes one that runs.
    pub(super) fn update(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        let mut tasks = self.tasks.lock();
        let Some(view) = tasks.running.get_mut(&number) else { return };
        let before = view.status;
        change(view);
        let (now, owner) = (view.status, view.owner_id.clone());
        tasks.moved(&owner, Some(before), Some(now));
    }

    /// Moves one to those that ended.
    pub(super) fn end(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        let mut tasks = self.tasks.lock();
        let Some(mut view) = tasks.running.remove(&number) else { return };
        let before = view.status;
        change(&mut view);
        let owner = view.owner_id.clone();
        tasks.moved(&owner, Some(before), None);
        tasks.keep_ended(view);
        tasks.change(&owner, |of| {
            of.running.remove(&number);
        });
    }

    /// Those that `caller` may see and that came in before `before`: the `limit` newest, in no order.
    pub(super) fn list(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        let tasks = self.tasks.lock();
        let seen = tasks.running(caller).chain(tasks.ended(caller));
        newest(seen.filter(|view| place(view) < (before.created_at, before.id.as_str())), limit)
    }

    /// Those that `caller` may see: the `limit` newest that run, then the `limit` newest that have ended.
    pub(super) fn live(&self, caller: &Caller, limit: usize) -> Vec<TaskView> {
        let tasks = self.tasks.lock();
        let mut found: Vec<TaskView> = tasks.running(caller).rev().take(limit).cloned().collect();
        found.extend(tasks.ended(caller).take(limit).cloned());
        found
    }

    /// One of them.
    pub(super) fn one(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        let tasks = self.tasks.lock();
        tasks.running(caller).chain(tasks.ended(caller)).find(|view| view.id == id).cloned()
    }

    /// How many of those that `caller` may see run and wait.
    pub(super) fn counts(&self, caller: &Caller) -> Counts {
        let tasks = self.tasks.lock();
        if caller.role == Role::Admin {
            return tasks.counts;
        }
        tasks.of.get(&caller.user).map(|of| of.counts).unwrap_or_default()
    }

    /// Another number than before when something of what `caller` may see has changed.
    pub(super) fn version(&self, caller: &Caller) -> u64 {
        let tasks = self.tasks.lock();
        if caller.role == Role::Admin {
            return tasks.version;
        }
        tasks.of.get(&caller.user).map_or(0, |of| of.version)
    }
}
