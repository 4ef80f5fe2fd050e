//! Scans: who is served when there is capacity, lane by lane in turn.

use std::ops::Bound;

use super::queue::{Lane, Turn, Waiting};
use super::{CallerQueues, Charge, Class, LEAST};

/// The position of an interrupted scan.
#[derive(Debug, Clone, Default)]
pub(in crate::dispatch) struct Cursor {
    /// The time at which the scan began; 0 before it begins.
    began: u64,
    /// The last finished turn in each queue.
    passed: Vec<(String, Turn)>,
    /// The number of the interrupted turn, and the last place checked in it.
    within: (u64, u64),
}

impl Cursor {
    fn position(&self, name: &str) -> Option<Turn> {
        self.passed.iter().find(|(passed, _)| passed == name).map(|(_, turn)| *turn)
    }

    fn pass(&mut self, name: &str, turn: Turn) {
        match self.passed.iter_mut().find(|(passed, _)| passed == name) {
            Some((_, last)) => *last = turn,
            None => self.passed.push((name.to_owned(), turn)),
        }
    }
}

/// The decision on the first caller of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dispatch) enum Decision {
    /// The caller was taken, and is served by a row that callers of these names wait for.
    Served(Vec<String>),
    /// The caller no longer waits, and leaves the queue.
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
pub(in crate::dispatch) enum ScanResult {
    /// There is no capacity for the callers that are left.
    Finished,
    /// The capacity was used up.
    Stopped,
    /// The scan continues at its cursor.
    Interrupted,
}

/// The result of one lane's turn.
enum TurnResult {
    Served(Served),
    /// There is no capacity for the lane.
    Passed,
    Stopped,
    /// The turn continues behind this place.
    Interrupted(u64),
}

/// A caller that was served.
struct Served {
    /// The names in whose queues it is charged.
    names: Vec<String>,
    place: u64,
    prompt: u64,
}

impl<C: Class, W> CallerQueues<C, W> {
    /// Scans the queues of `names` from `cursor` on, lane by lane in turn. A lane in several of them has the earliest of
    /// its turns. `decide` takes a caller out of its option to serve it.
    pub(in crate::dispatch) fn scan(
        &mut self,
        names: &[&str],
        cursor: &mut Cursor,
        mut decide: impl FnMut(&C, &mut Option<W>) -> Decision,
    ) -> ScanResult {
        if cursor.began == 0 {
            self.numbers += 1;
            cursor.began = self.numbers;
        }
        while let Some((name, turn, lane)) = self.next_turn(names, cursor) {
            // All its callers were checked when its turn in another queue came.
            let was_checked = names.iter().filter(|other| **other != name).any(|other| {
                let turn = self.queues.get(*other).and_then(|queue| queue.turn(&lane));
                turn.is_some_and(|turn| cursor.position(other).is_some_and(|passed| turn <= passed))
            });
            if was_checked {
                cursor.pass(name, turn);
                continue;
            }
            let checked = if cursor.within.0 == turn.number { cursor.within.1 } else { 0 };
            match self.scan_lane(names, &lane, checked, &mut decide) {
                TurnResult::Served(served) => self.charge(&lane, served),
                TurnResult::Passed => (),
                TurnResult::Stopped => return ScanResult::Stopped,
                TurnResult::Interrupted(place) => {
                    cursor.within = (turn.number, place);
                    return ScanResult::Interrupted;
                }
            }
            cursor.pass(name, turn);
        }
        for name in names {
            if let Some(queue) = self.queues.get_mut(*name) {
                queue.scanned = queue.scanned.max(cursor.began);
            }
        }
        ScanResult::Finished
    }

    /// Checks the first caller of each of the lane's classes behind the place `checked`, until one is served.
    fn scan_lane(
        &mut self,
        names: &[&str],
        lane: &Lane,
        mut checked: u64,
        decide: &mut impl FnMut(&C, &mut Option<W>) -> Decision,
    ) -> TurnResult {
        loop {
            let next = |name: &&str| {
                let callers = self.queues.get(*name)?.lanes.get(lane)?;
                callers.heads.range(checked + 1..).next().map(|(place, _)| *place)
            };
            let first = names.iter().filter_map(|name| Some((next(name)?, *name))).min();
            let Some((place, name)) = first else { return TurnResult::Passed };
            checked = place;
            let Some(callers) = self.callers(name, lane) else { return TurnResult::Passed };
            let Some(class) = callers.heads.get(&place).cloned() else { return TurnResult::Passed };
            let Some(of_class) = callers.classes.get_mut(&class) else { return TurnResult::Passed };
            let Some(Waiting { place, prompt, caller }) = of_class.pop_front() else {
                return TurnResult::Passed;
            };
            let mut caller = Some(caller);
            let decision = decide(&class, &mut caller);
            if let Some(caller) = caller.filter(|_| decision != Decision::Remove) {
                of_class.push_front(Waiting { place, prompt, caller });
            } else {
                callers.replace_head(place, &class);
            }
            match decision {
                Decision::Stop => return TurnResult::Stopped,
                Decision::Interrupt => return TurnResult::Interrupted(place - 1),
                Decision::Served(mut names) => {
                    if !names.iter().any(|charged| charged == name) {
                        names.push(name.to_owned());
                    }
                    return TurnResult::Served(Served { names, place, prompt });
                }
                Decision::Remove => self.remove_empty(name, lane),
                Decision::Keep => (),
            }
        }
    }

    /// The first turn in the queues of `names` that the cursor has not passed: its name, and its lane.
    fn next_turn<'a>(&self, names: &[&'a str], cursor: &Cursor) -> Option<(&'a str, Turn, Lane)> {
        let next = |name: &&'a str| {
            let queue = self.queues.get(*name)?;
            let passed = cursor.position(name).map_or(Bound::Unbounded, Bound::Excluded);
            let (turn, lane) = queue.turns.range((passed, Bound::Unbounded)).next()?;
            Some(((turn.is_bulk, queue.ahead(*turn), turn.number), *name, *turn, lane))
        };
        let (_, name, turn, lane) = names.iter().filter_map(next).min_by_key(|(order, ..)| *order)?;
        Some((name, turn, lane.clone()))
    }

    /// Charges the lane for its caller that was served.
    fn charge(&mut self, lane: &Lane, Served { names, place, prompt }: Served) {
        self.numbers += 1;
        let number = self.numbers;
        let queues = || names.iter().filter_map(|name| self.queues.get(name));
        let ahead = queues().filter_map(|queue| Some(queue.ahead(queue.turn(lane)?))).min().unwrap_or(0);
        let answer = queues().filter_map(|queue| Some(queue.account(lane)?.answer)).max().unwrap_or(0);
        let charged = prompt.saturating_add(answer).max(LEAST);
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            let Some(queue) = self.queues.get_mut(&name) else { continue };
            queue.charge(lane, number, ahead, charged);
            queues.push((name, queue.id));
        }
        for (name, _) in &queues {
            self.remove_empty(name, lane);
        }
        self.charges.insert(place, Charge { lane: lane.clone(), queues, prompt, charged });
    }
}
