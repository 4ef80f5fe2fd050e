//! The waiting tasks, in a queue for each target. Pure.
//!
//! Task numbers ascend, so a queue is a sorted deque: its position is found by binary search, and the first task is removed
//! and a new last one added in constant time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use crate::model::UserId;

#[derive(Default)]
pub(super) struct Queues {
    /// Ordered, so that a walk over all targets can continue where it stopped.
    by_target: BTreeMap<String, Queue>,
    /// The targets that are served by the capacity of a row, pool or agent, by its name.
    targets_of: HashMap<String, HashSet<String>>,
    len: usize,
}

/// The waiting tasks of one target.
#[derive(Default)]
struct Queue {
    all: VecDeque<u64>,
    /// The tasks that may be claimed now, of each user that has any.
    ready: HashMap<UserId, VecDeque<u64>>,
    /// The names whose capacity serves the target.
    names: Vec<String>,
}

fn insert(numbers: &mut VecDeque<u64>, number: u64) {
    if let Err(at) = numbers.binary_search(&number) {
        numbers.insert(at, number);
    }
}

fn remove(numbers: &mut VecDeque<u64>, number: u64) -> bool {
    let found = numbers.binary_search(&number);
    found.is_ok_and(|at| numbers.remove(at).is_some())
}

impl Queues {
    /// Adds a task to the queue of `target`, at the position of its number. It cannot be claimed yet.
    pub(super) fn insert(&mut self, target: &str, number: u64) {
        let queue = self.by_target.entry(target.to_owned()).or_default();
        insert(&mut queue.all, number);
        self.len += 1;
    }

    /// Allows that the task is claimed.
    pub(super) fn make_ready(&mut self, target: &str, user: &str, number: u64) {
        let Some(queue) = self.by_target.get_mut(target) else { return };
        match queue.ready.get_mut(user) {
            Some(numbers) => insert(numbers, number),
            None => drop(queue.ready.insert(user.to_owned(), VecDeque::from([number]))),
        }
    }

    pub(super) fn remove(&mut self, target: &str, user: &str, number: u64) {
        let Some(queue) = self.by_target.get_mut(target) else { return };
        if remove(&mut queue.all, number) {
            self.len -= 1;
        }
        if let Some(numbers) = queue.ready.get_mut(user) {
            remove(numbers, number);
            if numbers.is_empty() {
                queue.ready.remove(user);
            }
        }
        if queue.all.is_empty() {
            self.set_names(target, Vec::new());
            self.by_target.remove(target);
        }
    }

    /// Sets the names whose capacity serves `target`.
    pub(super) fn set_names(&mut self, target: &str, names: Vec<String>) {
        let Some(queue) = self.by_target.get_mut(target) else { return };
        if queue.names == names {
            return;
        }
        for name in std::mem::replace(&mut queue.names, names.clone()) {
            if let Some(targets) = self.targets_of.get_mut(&name) {
                targets.remove(target);
                if targets.is_empty() {
                    self.targets_of.remove(&name);
                }
            }
        }
        for name in names {
            self.targets_of.entry(name).or_default().insert(target.to_owned());
        }
    }

    /// The targets with waiting tasks that the capacity of `name` serves.
    pub(super) fn targets_of(&self, name: &str) -> impl Iterator<Item = &String> {
        self.targets_of.get(name).into_iter().flatten()
    }

    /// The position of a waiting task in the queue of its target, from 1.
    pub(super) fn position(&self, target: &str, number: u64) -> Option<usize> {
        Some(self.by_target.get(target)?.all.binary_search(&number).ok()? + 1)
    }

    /// Whether tasks wait for `target`.
    pub(super) fn has(&self, target: &str) -> bool {
        self.by_target.contains_key(target)
    }

    /// The tasks that wait for `target`.
    pub(super) fn waiting(&self, target: &str) -> impl Iterator<Item = u64> {
        self.by_target.get(target).into_iter().flat_map(|queue| &queue.all).copied()
    }

    /// The first claimable task for `target` of each user.
    pub(super) fn heads(&self, target: &str) -> Vec<(u64, UserId)> {
        let ready = self.by_target.get(target).into_iter().flat_map(|queue| &queue.ready);
        ready.filter_map(|(user, numbers)| Some((*numbers.front()?, user.clone()))).collect()
    }

    /// The first claimable task for `target` of `user` behind the task `after`.
    pub(super) fn next(&self, target: &str, user: &str, after: u64) -> Option<u64> {
        let numbers = self.by_target.get(target)?.ready.get(user)?;
        numbers.get(numbers.partition_point(|number| *number <= after)).copied()
    }

    /// At most `count` targets after the target `after`, in order; the first ones if there is none.
    pub(super) fn targets_after(&self, after: &str, count: usize) -> Vec<String> {
        let targets = self.by_target.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let found: Vec<String> = targets.take(count).map(|(target, _)| target.clone()).collect();
        if found.is_empty() { self.by_target.keys().take(count).cloned().collect() } else { found }
    }

    /// The targets with the number of their waiting tasks.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_target.iter().map(|(target, queue)| (target.as_str(), queue.all.len()))
    }

    /// The number of all waiting tasks.
    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGETS: [&str; 3] = ["a", "b", "pool"];
    const USERS: [&str; 3] = ["alice", "bob", "carol"];

    #[derive(Debug, Clone)]
    enum Op {
        Come { target: usize, user: usize, ready: bool },
        Ready(usize),
        Leave(usize),
        Back(usize),
    }

    fn any_op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..TARGETS.len(), 0..USERS.len(), any::<bool>())
                .prop_map(|(target, user, ready)| Op::Come { target, user, ready }),
            2 => any::<usize>().prop_map(Op::Ready),
            3 => any::<usize>().prop_map(Op::Leave),
            1 => any::<usize>().prop_map(Op::Back),
        ]
    }

    /// A task in the model.
    #[derive(Debug, Clone, PartialEq)]
    struct Task {
        number: u64,
        target: usize,
        user: usize,
        waits: bool,
        ready: bool,
    }

    proptest! {
        /// Positions, heads and counts agree with a model: a plain list that is searched from its beginning.
        #[test]
        fn queues_agree_with_a_plain_list(ops in prop::collection::vec(any_op(), 0..80)) {
            let mut queues = Queues::default();
            let mut tasks: Vec<Task> = Vec::new();
            for op in ops {
                match op {
                    Op::Come { target, user, ready } => {
                        let number = u64::try_from(tasks.len()).unwrap();
                        queues.insert(TARGETS[target], number);
                        if ready {
                            queues.make_ready(TARGETS[target], USERS[user], number);
                        }
                        tasks.push(Task { number, target, user, waits: true, ready });
                    }
                    Op::Ready(index) | Op::Leave(index) | Op::Back(index) if !tasks.is_empty() => {
                        let index = index % tasks.len();
                        let task = &mut tasks[index];
                        let (target, user) = (TARGETS[task.target], USERS[task.user]);
                        match op {
                            Op::Ready(_) if task.waits => {
                                queues.make_ready(target, user, task.number);
                                task.ready = true;
                            }
                            Op::Leave(_) => {
                                queues.remove(target, user, task.number);
                                (task.waits, task.ready) = (false, false);
                            }
                            Op::Back(_) if !task.waits => {
                                queues.insert(target, task.number);
                                task.waits = true;
                            }
                            _ => (),
                        }
                    }
                    _ => (),
                }
                prop_assert_eq!(queues.len(), tasks.iter().filter(|task| task.waits).count());
                for (target, name) in TARGETS.iter().enumerate() {
                    let queue: Vec<&Task> = tasks.iter().filter(|task| task.target == target && task.waits).collect();
                    for (at, task) in queue.iter().enumerate() {
                        prop_assert_eq!(queues.position(name, task.number), Some(at + 1));
                    }
                    let counted = queues.targets().find(|(target, _)| target == name).map_or(0, |(_, count)| count);
                    prop_assert_eq!(counted, queue.len());
                    for (user, user_name) in USERS.iter().enumerate() {
                        let mut ready = queue.iter().filter(|task| task.user == user && task.ready).map(|task| task.number);
                        let head = ready.next();
                        let heads = queues.heads(name);
                        let found = heads.iter().find(|(_, user)| user == user_name);
                        prop_assert_eq!(found.map(|(number, _)| *number), head);
                        prop_assert_eq!(head.and_then(|head| queues.next(name, user_name, head)), ready.next());
                    }
                }
            }
        }
    }

    #[test]
    fn a_name_leads_to_the_targets_that_it_serves_while_tasks_wait() {
        let mut queues = Queues::default();
        for (number, target) in (1..).zip(["agent", "row"]) {
            queues.insert(target, number);
        }
        queues.set_names("agent", vec!["agent".into(), "row".into(), "pool".into()]);
        queues.set_names("row", vec!["row".into()]);
        let served = |queues: &Queues, name: &str| {
            let mut targets: Vec<String> = queues.targets_of(name).cloned().collect();
            targets.sort();
            targets
        };
        assert_eq!(served(&queues, "row"), ["agent", "row"]);
        assert_eq!(served(&queues, "pool"), ["agent"]);
        queues.set_names("agent", vec!["agent".into(), "other".into()]);
        assert_eq!(served(&queues, "row"), ["row"]);
        assert_eq!(served(&queues, "other"), ["agent"]);
        queues.remove("agent", "alice", 1);
        assert!(served(&queues, "agent").is_empty() && served(&queues, "other").is_empty());
        assert_eq!(queues.targets_of.len(), 1);
    }

    #[test]
    fn a_walk_over_all_targets_starts_over_at_the_end() {
        let mut queues = Queues::default();
        for (number, target) in (1..).zip(["a", "b", "c"]) {
            queues.insert(target, number);
        }
        assert_eq!(queues.targets_after("", 2), ["a", "b"]);
        assert_eq!(queues.targets_after("b", 2), ["c"]);
        assert_eq!(queues.targets_after("c", 2), ["a", "b"]);
    }
}
