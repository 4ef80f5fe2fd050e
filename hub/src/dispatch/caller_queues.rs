//! Queues of callers that wait for capacity. Within a queue users take turns, and each user's callers are served first come,
//! first served. Pure.
//!
//! A caller waits in the queue of a name, that of a row or a pool. The next user is the one that was served longest ago or
//! joined first; a user that was served goes behind all others. So a caller waits for at most one call of each other user,
//! however many these have. A user's callers are grouped by class: all callers of a class can use the same rows, so if the
//! first of them cannot be served, none can. Free capacity therefore costs one check per class at most, and mostly one.
//!
//! A scan can be interrupted, and continues at its [`Cursor`]. A queue has news from when there may be capacity for one of
//! its callers until a scan that began later has checked all of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Callers of one user that can use the same rows.
pub(super) trait Class: Clone + Eq + Hash {
    fn user(&self) -> &str;
}

/// The queues of all names, with callers `W` of classes `C`.
pub(super) struct CallerQueues<C, W> {
    /// The last number given out, as a place, a turn or a time.
    numbers: u64,
    queues: HashMap<String, Queue<C, W>>,
}

struct Queue<C, W> {
    users: HashMap<String, UserCallers<C, W>>,
    /// The users by turn.
    turns: BTreeMap<u64, String>,
    /// The time of the last news.
    news: u64,
    /// The time at which the last finished scan began.
    scanned: u64,
}

/// The position of an interrupted scan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The time at which the scan began; 0 before it begins.
    began: u64,
    /// The last finished turn.
    turn: u64,
    /// The interrupted turn, and the last place checked in it.
    within: (u64, u64),
}

/// One user's callers in one queue.
struct UserCallers<C, W> {
    turn: u64,
    classes: HashMap<C, VecDeque<(u64, W)>>,
    /// The first place of each class.
    heads: BTreeMap<u64, C>,
}

/// The decision on the first caller of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The caller leaves the queue: it was served if it was taken, else it no longer waits.
    Remove,
    /// There is no capacity for this class.
    Keep,
    /// There is no capacity for anybody.
    Stop,
    /// The caller was not checked: interrupt the scan.
    Interrupt,
}

/// The result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScanResult {
    /// There is no capacity for the callers that are left.
    Finished,
    /// The capacity was used up.
    Stopped,
    /// The scan continues at its cursor.
    Interrupted,
}

/// The result of one user's turn.
enum TurnResult {
    Served,
    /// There is no capacity for the user.
    Passed,
    Stopped,
    /// The turn continues behind this place.
    Interrupted(u64),
}

impl<C, W> Default for CallerQueues<C, W> {
    fn default() -> Self {
        Self { numbers: 0, queues: HashMap::new() }
    }
}

impl<C: Class, W> CallerQueues<C, W> {
    /// Adds a caller to the queue of `name`. Returns the place for [`leave`](Self::leave).
    pub(super) fn join(&mut self, name: &str, class: C, caller: W) -> u64 {
        self.numbers += 1;
        let place = self.numbers;
        let queue = self.queues.entry(name.to_owned()).or_insert_with(|| Queue {
            users: HashMap::new(),
            turns: BTreeMap::new(),
            news: 0,
            scanned: 0,
        });
        if !queue.users.contains_key(class.user()) {
            queue.turns.insert(place, class.user().to_owned());
        }
        let new = || UserCallers { turn: place, classes: HashMap::new(), heads: BTreeMap::new() };
        let of_user = queue.users.entry(class.user().to_owned()).or_insert_with(new);
        let of_class = of_user.classes.entry(class.clone()).or_default();
        if of_class.is_empty() {
            of_user.heads.insert(place, class);
        }
        of_class.push_back((place, caller));
        place
    }

    /// Removes a caller from its queue, if it is still there.
    pub(super) fn leave(&mut self, name: &str, class: &C, place: u64) {
        let Some(of_user) = self.of_user(name, class.user()) else { return };
        let Some(of_class) = of_user.classes.get_mut(class) else { return };
        let Ok(at) = of_class.binary_search_by_key(&place, |(place, _)| *place) else { return };
        of_class.remove(at);
        if at == 0 {
            of_user.replace_head(place, class);
            self.remove_empty(name, class.user());
        }
    }

    /// Whether a caller of this class waits for `name`.
    pub(super) fn has(&self, name: &str, class: &C) -> bool {
        let of_user = self.queues.get(name).and_then(|queue| queue.users.get(class.user()));
        of_user.is_some_and(|of_user| of_user.classes.contains_key(class))
    }

    /// Whether no caller waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The names that callers wait for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.queues.keys()
    }

    /// Notes that there may be capacity for callers of `name`; `false` if there are none.
    pub(super) fn note_news(&mut self, name: &str) -> bool {
        let Some(queue) = self.queues.get_mut(name) else { return false };
        self.numbers += 1;
        queue.news = self.numbers;
        true
    }

    /// Whether the queue of `name` has news that no finished scan covers.
    pub(super) fn has_news(&self, name: &str) -> bool {
        self.queues.get(name).is_some_and(|queue| queue.news > queue.scanned)
    }

    /// Scans the queues of `names` from `cursor` on, user by user in turn. A user in several of them has the earliest of
    /// its turns. `decide` takes a caller out of its option to serve it.
    pub(super) fn scan(
        &mut self,
        names: &[&str],
        cursor: &mut Cursor,
        mut decide: impl FnMut(&C, &mut Option<W>) -> Decision,
    ) -> ScanResult {
        if cursor.began == 0 {
            self.numbers += 1;
            cursor.began = self.numbers;
        }
        while let Some((turn, user)) = self.next_turn(names, cursor.turn) {
            let is_earlier = |name: &&str| self.turn_of(name, &user).is_some_and(|other| other < turn);
            if names.iter().any(is_earlier) {
                cursor.turn = turn;
                continue;
            }
            let checked = if cursor.within.0 == turn { cursor.within.1 } else { 0 };
            match self.scan_user(names, &user, checked, &mut decide) {
                TurnResult::Served => self.put_last(names, &user),
                TurnResult::Passed => (),
                TurnResult::Stopped => return ScanResult::Stopped,
                TurnResult::Interrupted(place) => {
                    cursor.within = (turn, place);
                    return ScanResult::Interrupted;
                }
            }
            cursor.turn = turn;
        }
        for name in names {
            if let Some(queue) = self.queues.get_mut(*name) {
                queue.scanned = queue.scanned.max(cursor.began);
            }
        }
        ScanResult::Finished
    }

    /// Checks the first caller of each of the user's classes behind the place `checked`, until one is served.
    fn scan_user(
        &mut self,
        names: &[&str],
        user: &str,
        mut checked: u64,
        decide: &mut impl FnMut(&C, &mut Option<W>) -> Decision,
    ) -> TurnResult {
        loop {
            let next = |name: &&str| {
                let of_user = self.queues.get(*name)?.users.get(user)?;
                of_user.heads.range(checked + 1..).next().map(|(place, _)| *place)
            };
            let first = names.iter().filter_map(|name| Some((next(name)?, *name))).min();
            let Some((place, name)) = first else { return TurnResult::Passed };
            checked = place;
            let Some(of_user) = self.of_user(name, user) else { return TurnResult::Passed };
            let Some(class) = of_user.heads.get(&place).cloned() else { return TurnResult::Passed };
            let Some(of_class) = of_user.classes.get_mut(&class) else { return TurnResult::Passed };
            let Some((place, caller)) = of_class.pop_front() else { return TurnResult::Passed };
            let mut caller = Some(caller);
            let decision = decide(&class, &mut caller);
            let is_served = caller.is_none();
            if let Some(caller) = caller.filter(|_| decision != Decision::Remove) {
                of_class.push_front((place, caller));
            } else {
                of_user.replace_head(place, &class);
                self.remove_empty(name, user);
            }
            match decision {
                Decision::Stop => return TurnResult::Stopped,
                Decision::Interrupt => return TurnResult::Interrupted(place - 1),
                Decision::Remove if is_served => return TurnResult::Served,
                Decision::Remove | Decision::Keep => (),
            }
        }
    }

    fn of_user(&mut self, name: &str, user: &str) -> Option<&mut UserCallers<C, W>> {
        self.queues.get_mut(name)?.users.get_mut(user)
    }

    fn turn_of(&self, name: &str, user: &str) -> Option<u64> {
        Some(self.queues.get(name)?.users.get(user)?.turn)
    }

    /// The first turn after `turn` in the queues of `names`, and its user.
    fn next_turn(&self, names: &[&str], turn: u64) -> Option<(u64, String)> {
        let next = |name: &&str| self.queues.get(*name)?.turns.range(turn + 1..).next();
        let (turn, user) = names.iter().filter_map(next).min()?;
        Some((*turn, user.clone()))
    }

    /// Moves a user behind all others in the queues of `names`.
    fn put_last(&mut self, names: &[&str], user: &str) {
        self.numbers += 1;
        for name in names {
            let Some(queue) = self.queues.get_mut(*name) else { continue };
            let Some(of_user) = queue.users.get_mut(user) else { continue };
            queue.turns.remove(&of_user.turn);
            of_user.turn = self.numbers;
            queue.turns.insert(of_user.turn, user.to_owned());
        }
    }

    /// Removes a user without callers from the queue of `name`, and the queue if it is empty.
    fn remove_empty(&mut self, name: &str, user: &str) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if queue.users.get(user).is_some_and(|of_user| of_user.classes.is_empty())
            && let Some(of_user) = queue.users.remove(user)
        {
            queue.turns.remove(&of_user.turn);
        }
        if queue.users.is_empty() {
            self.queues.remove(name);
        }
    }
}

impl<C: Class, W> UserCallers<C, W> {
    /// Makes the next caller of a class its head, after the head `place` has left.
    fn replace_head(&mut self, place: u64, class: &C) {
        self.heads.remove(&place);
        match self.classes.get(class).and_then(VecDeque::front) {
            Some((next, _)) => drop(self.heads.insert(*next, class.clone())),
            None => drop(self.classes.remove(class)),
        }
    }
}

#[cfg(test)]
mod tests;
