//! The list of synchronous inferences: those that run, and the last ones that ended.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use wire::row::Timestamp;

use crate::model::{Caller, Role, TaskStatus, TokenCounts, UserId};
use crate::store::ListCursor;

/// Number of ended inferences that are kept, of all users together. The audit keeps all.
const MAX_ENDED: usize = 200;

/// Bytes of an error's text that a record keeps: the text of a publisher may have megabytes.
const MAX_ERROR: usize = 4 << 10;

/// Truncates an error's text for a record.
pub(crate) fn brief(text: &str) -> String {
    if text.len() <= MAX_ERROR {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MAX_ERROR)])
}

/// A task in the API, durable or not.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskView {
    pub id: String,
    pub status: TaskStatus,
    /// The row, pool or agent that the caller named.
    pub llm: String,
    /// The pool of `llm_name`.
    pub pool_name: Option<String>,
    /// The row that the task was last sent to.
    pub llm_name: Option<String>,
    /// The model of `llm_name`.
    pub model: Option<String>,
    pub streaming: bool,
    pub durable: bool,
    /// The session that the task was last sent to.
    pub worker: Option<String>,
    pub owner_id: UserId,
    /// The position in the queue of its target, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The code of `error` (SPEC.md section 5.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a task that has ended.
    #[serde(flatten)]
    pub tokens: Option<TokenCounts>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Numbers of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sent to a publisher.
    pub running: usize,
    /// Waiting for one.
    pub queued: usize,
}

impl Counts {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { running: self.running + other.running, queued: self.queued + other.queued }
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.running == 0 && self.queued == 0
    }

    /// Counts one more task of this status.
    pub(crate) const fn enter(&mut self, status: Option<TaskStatus>) {
        match status {
            Some(TaskStatus::Pending) => self.queued += 1,
            Some(TaskStatus::Claimed | TaskStatus::Running) => self.running += 1,
            _ => (),
        }
    }

    /// Counts one task of this status less.
    pub(crate) const fn leave(&mut self, status: Option<TaskStatus>) {
        match status {
            Some(TaskStatus::Pending) => self.queued -= 1,
            Some(TaskStatus::Claimed | TaskStatus::Running) => self.running -= 1,
            _ => (),
        }
    }
}

fn age(view: &TaskView) -> (Timestamp, &str) {
    (view.created_at, &view.id)
}

/// The `limit` newest views, in any order.
fn newest<'a>(views: impl Iterator<Item = &'a TaskView>, limit: usize) -> Vec<TaskView> {
    let mut found: Vec<&TaskView> = views.collect();
    if found.len() > limit {
        found.select_nth_unstable_by(limit, |a, b| age(b).cmp(&age(a)));
        found.truncate(limit);
    }
    found.into_iter().cloned().collect()
}

#[derive(Default)]
pub(super) struct RecentInferences {
    table: Mutex<InferenceTable>,
}

#[derive(Default)]
struct InferenceTable {
    last_number: u64,
    /// Incremented with each change.
    version: u64,
    running: BTreeMap<u64, TaskView>,
    /// The counts of all users together.
    counts: Counts,
    by_user: HashMap<UserId, UserInferences>,
    ended: BTreeMap<u64, TaskView>,
    /// The numbers of the ended inferences of each user that has any, in the order in which they ended.
    ended_by_user: HashMap<UserId, VecDeque<u64>>,
}

/// The running inferences of a user. Users without any inference are removed.
#[derive(Default)]
struct UserInferences {
    running: BTreeSet<u64>,
    counts: Counts,
    /// The version of the table at the user's last change.
    version: u64,
}

impl InferenceTable {
    /// Changes the inferences of `user`, and sets their version.
    fn change(&mut self, user: &str, change: impl FnOnce(&mut UserInferences)) {
        self.version += 1;
        let of = match self.by_user.get_mut(user) {
            Some(of) => of,
            None => self.by_user.entry(user.to_owned()).or_default(),
        };
        change(of);
        of.version = self.version;
        if of.running.is_empty() && !self.ended_by_user.contains_key(user) {
            self.by_user.remove(user);
        }
    }

    /// Updates the counts after a status changed.
    fn update_counts(&mut self, user: &str, from: Option<TaskStatus>, to: Option<TaskStatus>) {
        self.counts.leave(from);
        self.counts.enter(to);
        self.change(user, |of| {
            of.counts.leave(from);
            of.counts.enter(to);
        });
    }

    /// The running inferences that `caller` may see, oldest first.
    fn running<'a>(&'a self, caller: &Caller) -> Box<dyn DoubleEndedIterator<Item = &'a TaskView> + 'a> {
        if caller.role == Role::Admin {
            return Box::new(self.running.values());
        }
        let numbers = self.by_user.get(&caller.user).into_iter().flat_map(|of| &of.running);
        Box::new(numbers.filter_map(|number| self.running.get(number)))
    }

    /// The ended inferences that `caller` may see, last ended first.
    fn ended<'a>(&'a self, caller: &Caller) -> Box<dyn Iterator<Item = &'a TaskView> + 'a> {
        if caller.role == Role::Admin {
            return Box::new(self.ended.values().rev());
        }
        let numbers = self.ended_by_user.get(&caller.user).into_iter().flatten().rev();
        Box::new(numbers.filter_map(|number| self.ended.get(number)))
    }

    /// Adds an ended inference. If there are too many, removes the oldest of the user with the most, so that no user displaces
    /// the inferences of others.
    fn keep_ended(&mut self, view: TaskView) {
        self.last_number += 1;
        let (number, owner) = (self.last_number, view.owner_id.clone());
        self.ended.insert(number, view);
        self.ended_by_user.entry(owner).or_default().push_back(number);
        if self.ended.len() <= MAX_ENDED {
            return;
        }
        // A walk over at most `MAX_ENDED` users.
        let most = self.ended_by_user.iter().max_by_key(|(_, ended)| (ended.len(), Reverse(ended.front())));
        let Some(user) = most.map(|(user, _)| user.clone()) else { return };
        let Some(ended) = self.ended_by_user.get_mut(&user) else { return };
        if let Some(oldest) = ended.pop_front() {
            self.ended.remove(&oldest);
        }
        if ended.is_empty() {
            self.ended_by_user.remove(&user);
        }
        self.change(&user, |_| ());
    }
}

impl RecentInferences {
    /// Adds a running inference and returns its number.
    pub(super) fn add(&self, view: TaskView) -> u64 {
        let mut table = self.table.lock();
        table.last_number += 1;
        let number = table.last_number;
        table.change(&view.owner_id, |of| {
            of.running.insert(number);
        });
        table.update_counts(&view.owner_id, None, Some(view.status));
        table.running.insert(number, view);
        number
    }

    /// Changes a running inference.
    pub(super) fn update(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        let mut table = self.table.lock();
        let Some(view) = table.running.get_mut(&number) else { return };
        let before = view.status;
        change(view);
        let (now, owner) = (view.status, view.owner_id.clone());
        table.update_counts(&owner, Some(before), Some(now));
    }

    /// Moves an inference from the running to the ended ones.
    pub(super) fn end(&self, number: u64, change: impl FnOnce(&mut TaskView)) {
        let mut table = self.table.lock();
        let Some(mut view) = table.running.remove(&number) else { return };
        let before = view.status;
        change(&mut view);
        let owner = view.owner_id.clone();
        table.update_counts(&owner, Some(before), None);
        table.keep_ended(view);
        table.change(&owner, |of| {
            of.running.remove(&number);
        });
    }

    /// The `limit` newest inferences older than `before` that `caller` may see, in any order.
    pub(super) fn list(&self, caller: &Caller, before: &ListCursor, limit: usize) -> Vec<TaskView> {
        let table = self.table.lock();
        let seen = table.running(caller).chain(table.ended(caller));
        newest(seen.filter(|view| age(view) < (before.created_at, before.id.as_str())), limit)
    }

    /// The `limit` newest running inferences that `caller` may see, then the `limit` that ended last.
    pub(super) fn live(&self, caller: &Caller, limit: usize) -> Vec<TaskView> {
        let table = self.table.lock();
        let mut found: Vec<TaskView> = table.running(caller).rev().take(limit).cloned().collect();
        found.extend(table.ended(caller).take(limit).cloned());
        found
    }

    pub(super) fn one(&self, caller: &Caller, id: &str) -> Option<TaskView> {
        let table = self.table.lock();
        table.running(caller).chain(table.ended(caller)).find(|view| view.id == id).cloned()
    }

    /// The name that was called and the text of the error, of an inference that failed.
    pub(super) fn failure(&self, id: &str) -> Option<(String, String)> {
        let table = self.table.lock();
        let view = table.ended.values().find(|view| view.id == id)?;
        Some((view.llm.clone(), view.error.clone()?))
    }

    pub(super) fn counts(&self, caller: &Caller) -> Counts {
        let table = self.table.lock();
        if caller.role == Role::Admin {
            return table.counts;
        }
        table.by_user.get(&caller.user).map(|of| of.counts).unwrap_or_default()
    }

    /// A number that changes with the inferences that `caller` may see.
    pub(super) fn version(&self, caller: &Caller) -> u64 {
        let table = self.table.lock();
        if caller.role == Role::Admin {
            return table.version;
        }
        table.by_user.get(&caller.user).map_or(0, |of| of.version)
    }
}
