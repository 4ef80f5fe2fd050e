//! The tasks that wait, in a line for each target. Pure.
//!
//! Numbers ascend as tasks come in. Sorted deques make a place in a line a binary search, and taking the first one or
//! adding a last one constant.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;

use crate::model::UserId;

/// All lines.
#[derive(Default)]
pub(super) struct Lines {
    /// Ordered, so that a walk over all of them can go on where it stopped.
    by_target: BTreeMap<String, Line>,
    /// The targets that may be served by what has room under a name: of a row, a pool or an agent.
    served_by: HashMap<String, HashSet<String>>,
    len: usize,
}

/// The tasks that wait for one target.
#[derive(Default)]
struct Line {
    all: VecDeque<u64>,
    /// Those that may be claimed now; a user who has none is not in it.
    ready: HashMap<UserId, VecDeque<u64>>,
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

impl Lines {
    /// Adds a task to the line of `target`, at its place; it cannot be claimed yet.
    pub(super) fn enter(&mut self, target: &str, number: u64) {
        let line = self.by_target.entry(target.to_owned()).or_default();
        insert(&mut line.all, number);
        self.len += 1;
    }

    /// The task may be claimed from now on.
    pub(super) fn make_ready(&mut self, target: &str, user: &str, number: u64) {
        let Some(line) = self.by_target.get_mut(target) else { return };
        match line.ready.get_mut(user) {
            Some(numbers) => insert(numbers, number),
            None => drop(line.ready.insert(user.to_owned(), VecDeque::from([number]))),
        }
    }

    /// Takes a task out.
    pub(super) fn leave(&mut self, target: &str, user: &str, number: u64) {
        let Some(line) = self.by_target.get_mut(target) else { return };
        if remove(&mut line.all, number) {
            self.len -= 1;
        }
        if let Some(numbers) = line.ready.get_mut(user) {
            remove(numbers, number);
            if numbers.is_empty() {
                line.ready.remove(user);
            }
        }
        if line.all.is_empty() {
            self.set_names(target, Vec::new());
            self.by_target.remove(target);
        }
    }

    /// Says under which names there may be room for the tasks of `target`.
    pub(super) fn set_names(&mut self, target: &str, names: Vec<String>) {
        let Some(line) = self.by_target.get_mut(target) else { return };
        if line.names == names {
            return;
        }
        for name in std::mem::replace(&mut line.names, names.clone()) {
            if let Some(targets) = self.served_by.get_mut(&name) {
                targets.remove(target);
                if targets.is_empty() {
                    self.served_by.remove(&name);
                }
            }
        }
        for name in names {
            self.served_by.entry(name).or_default().insert(target.to_owned());
        }
    }

    /// The targets that what has room under `name` may serve.
    pub(super) fn served_by(&self, name: &str) -> impl Iterator<Item = &String> {
        self.served_by.get(name).into_iter().flatten()
    }

    /// A waiting task's place among those for the same target, from 1.
    pub(super) fn position(&self, target: &str, number: u64) -> Option<usize> {
        Some(self.by_target.get(target)?.all.binary_search(&number).ok()? + 1)
    }

    /// The users who have tasks in the line of `target` that may be claimed, and the first of each.
    pub(super) fn heads(&self, target: &str) -> Vec<(u64, UserId)> {
        let ready = self.by_target.get(target).into_iter().flat_map(|line| &line.ready);
        ready.filter_map(|(user, numbers)| Some((*numbers.front()?, user.clone()))).collect()
    }

    /// The first task of `user` in the line of `target` that may be claimed.
    pub(super) fn head(&self, target: &str, user: &str) -> Option<u64> {
        self.by_target.get(target)?.ready.get(user)?.front().copied()
    }

    /// At most `count` targets behind `after`, in their order; from the first one where there is none behind it.
    pub(super) fn some_after(&self, after: &str, count: usize) -> Vec<String> {
        let behind = self.by_target.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let found: Vec<String> = behind.take(count).map(|(target, _)| target.clone()).collect();
        if found.is_empty() { self.by_target.keys().take(count).cloned().collect() } else { found }
    }

    /// The targets, and how many tasks wait for each.
    pub(super) fn targets(&self) -> impl Iterator<Item = (&str, usize)> {
        self.by_target.iter().map(|(target, line)| (target.as_str(), line.all.len()))
    }

    /// How many tasks wait.
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

    /// A task as a plain list has it.
    #[derive(Debug, Clone, PartialEq)]
    struct Task {
        number: u64,
        target: usize,
        user: usize,
        waits: bool,
        ready: bool,
    }

    proptest! {
        /// Places, heads and counts are those of a plain list that is searched from its beginning.
        #[test]
        fn lines_tell_what_a_plain_list_tells(ops in prop::collection::vec(any_op(), 0..80)) {
            let mut lines = Lines::default();
            let mut tasks: Vec<Task> = Vec::new();
            for op in ops {
                match op {
                    Op::Come { target, user, ready } => {
                        let number = u64::try_from(tasks.len()).unwrap();
                        lines.enter(TARGETS[target], number);
                        if ready {
                            lines.make_ready(TARGETS[target], USERS[user], number);
                        }
                        tasks.push(Task { number, target, user, waits: true, ready });
                    }
                    Op::Ready(index) | Op::Leave(index) | Op::Back(index) if !tasks.is_empty() => {
                        let index = index % tasks.len();
                        let task = &mut tasks[index];
                        let (target, user) = (TARGETS[task.target], USERS[task.user]);
                        match op {
                            Op::Ready(_) if task.waits => {
                                lines.make_ready(target, user, task.number);
                                task.ready = true;
                            }
                            Op::Leave(_) => {
                                lines.leave(target, user, task.number);
                                (task.waits, task.ready) = (false, false);
                            }
                            Op::Back(_) if !task.waits => {
                                lines.enter(target, task.number);
                                task.waits = true;
                            }
                            _ => (),
                        }
                    }
                    _ => (),
                }
                prop_assert_eq!(lines.len(), tasks.iter().filter(|task| task.waits).count());
                for (target, name) in TARGETS.iter().enumerate() {
                    let line: Vec<&Task> = tasks.iter().filter(|task| task.target == target && task.waits).collect();
                    for (at, task) in line.iter().enumerate() {
                        prop_assert_eq!(lines.position(name, task.number), Some(at + 1));
                    }
                    let told = lines.targets().find(|(told, _)| told == name).map_or(0, |(_, count)| count);
                    prop_assert_eq!(told, line.len());
                    for (user, user_name) in USERS.iter().enumerate() {
                        let head = line.iter().find(|task| task.user == user && task.ready).map(|task| task.number);
                        prop_assert_eq!(lines.head(name, user_name), head);
                    }
                }
            }
        }
    }

    #[test]
    fn a_name_leads_to_the_lines_that_it_serves_as_long_as_somebody_waits_there() {
        let mut lines = Lines::default();
        for (number, target) in (1..).zip(["agent", "row"]) {
            lines.enter(target, number);
        }
        lines.set_names("agent", vec!["agent".into(), "row".into(), "pool".into()]);
        lines.set_names("row", vec!["row".into()]);
        let served = |lines: &Lines, name: &str| {
            let mut targets: Vec<String> = lines.served_by(name).cloned().collect();
            targets.sort();
            targets
        };
        assert_eq!(served(&lines, "row"), ["agent", "row"]);
        assert_eq!(served(&lines, "pool"), ["agent"]);
        lines.set_names("agent", vec!["agent".into(), "other".into()]);
        assert_eq!(served(&lines, "row"), ["row"]);
        assert_eq!(served(&lines, "other"), ["agent"]);
        lines.leave("agent", "alice", 1);
        assert!(served(&lines, "agent").is_empty() && served(&lines, "other").is_empty());
        assert_eq!(lines.served_by.len(), 1);
    }

    #[test]
    fn a_walk_over_all_lines_comes_round() {
        let mut lines = Lines::default();
        for (number, target) in (1..).zip(["a", "b", "c"]) {
            lines.enter(target, number);
        }
        assert_eq!(lines.some_after("", 2), ["a", "b"]);
        assert_eq!(lines.some_after("b", 2), ["c"]);
        assert_eq!(lines.some_after("c", 2), ["a", "b"]);
    }
}
