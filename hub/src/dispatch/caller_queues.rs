//! Queues of callers that wait for capacity. Users share it by tokens, and each user's callers are served first come, first
//! served. Pure.
//!
//! A caller waits in the queue of a name, that of a row or a pool. Each user has an account there: the tokens of its calls. The
//! next user is the one with the least, so that users who always wait get as many tokens, however many and large their calls are.
//! This is start-time fair queueing, whose virtual time is `served`: the account of the user that was served last, before that
//! call. A turn costs two look-ups in an ordered map. A user that comes begins at the virtual time, or at its own account if that
//! is greater: waiting and absence are no credit, and a user that was served just now is behind those that were not.
//!
//! The queue of a pool and those of its rows are one line: a call is charged in all of them that its row serves, and a user that
//! comes to one is as far ahead there as in the others. What was used while nobody waited in the line is forgotten.
//!
//! The tokens of a call are known when it ends. Until then it is charged what its prompt takes, and what the user's last call took
//! beyond its prompt; [`settle`](CallerQueues::settle) corrects that. A call without a whole answer is never charged less: it has
//! had its slot, whatever its caller waited for.
//!
//! Bulk callers are behind all others, with accounts of their own.
//!
//! A user's callers are grouped by class: all callers of a class can use the same rows, so if the first of them cannot be served,
//! none can. Free capacity therefore costs one check per class at most, and mostly one.
//!
//! A scan can be interrupted, and continues at its [`Cursor`]. A queue has news from when there may be capacity for one of
//! its callers until a scan that began later has checked all of them.

mod queue;
mod scan;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use queue::{Lane, LaneCallers, Queue, Waiting};
pub(super) use scan::{Cursor, Decision, ScanResult};

/// Least tokens that a call is charged, and one without a whole answer for each second.
pub(super) const LEAST: u64 = 64;

/// Callers of one user that can use the same rows.
pub(super) trait Class: Clone + Eq + Hash {
    fn user(&self) -> &str;

    /// Whether they are served when no others wait.
    fn is_bulk(&self) -> bool;
}

/// The queues of all names, with callers `W` of classes `C`.
pub(super) struct CallerQueues<C, W> {
    /// The last number given out, as a place, a turn or a time.
    numbers: u64,
    queues: HashMap<String, Queue<C, W>>,
    lines: HashMap<String, Line>,
    /// What the calls under way were charged, by the places of their callers.
    charges: HashMap<u64, Charge>,
}

/// Queues whose callers compete, as long as somebody waits in one of them.
#[derive(Default)]
struct Line {
    names: HashSet<String>,
    /// How many of them have callers.
    waiting: usize,
}

/// What a call took, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// Tokens of its prompt, and of its answer as far as that was seen.
    pub(super) tokens: u64,
    /// Whether these are all, since the answer is complete.
    pub(super) is_whole: bool,
    /// How long it had its slot.
    pub(super) millis: u64,
}

/// What a call was charged.
struct Charge {
    lane: Lane,
    /// The names of the queues, and their ids.
    queues: Vec<(String, u64)>,
    prompt: u64,
    charged: u64,
}

impl<C, W> Default for CallerQueues<C, W> {
    fn default() -> Self {
        Self { numbers: 0, queues: HashMap::new(), lines: HashMap::new(), charges: HashMap::new() }
    }
}

impl<C: Class, W> CallerQueues<C, W> {
    /// Adds a caller to the queue of `name`, a part of the line of `pool`, whose prompt takes about `prompt` tokens. A pool and
    /// its rows are one line. Returns the place for [`leave`](Self::leave) and [`settle`](Self::settle).
    pub(super) fn join(&mut self, pool: &str, name: &str, class: C, prompt: u64, caller: W) -> u64 {
        self.numbers += 1;
        let place = self.numbers;
        let lane = Lane::of(&class);
        let ahead = self.ahead_in_line(pool, name, &lane);
        let callers = self.waiting_queue(pool, name, place).lane(&lane, place, ahead);
        let of_class = callers.classes.entry(class.clone()).or_default();
        if of_class.is_empty() {
            callers.heads.insert(place, class);
        }
        of_class.push_back(Waiting { place, prompt, caller });
        place
    }

    /// Removes a caller from its queue, if it is still there.
    pub(super) fn leave(&mut self, name: &str, class: &C, place: u64) {
        let lane = Lane::of(class);
        let Some(callers) = self.callers(name, &lane) else { return };
        let Some(of_class) = callers.classes.get_mut(class) else { return };
        let Ok(at) = of_class.binary_search_by_key(&place, |waiting| waiting.place) else { return };
        of_class.remove(at);
        if at == 0 {
            callers.replace_head(place, class);
            self.remove_empty(name, &lane);
        }
    }

    /// Corrects what the call of the caller that had this place was charged.
    pub(super) fn settle(&mut self, place: u64, spent: Spent) {
        let Some(Charge { lane, queues, prompt, charged }) = self.charges.remove(&place) else { return };
        for (name, id) in queues {
            let Some(queue) = self.queues.get_mut(&name).filter(|queue| queue.id == id) else { continue };
            if queue.settle(&lane, prompt, charged, spent) {
                // A scan that has passed its old turn would miss it.
                self.note_news(&name);
            }
        }
    }

    /// Whether a caller of this class waits for `name`.
    pub(super) fn has(&self, name: &str, class: &C) -> bool {
        let callers = self.queues.get(name).and_then(|queue| queue.lanes.get(&Lane::of(class)));
        callers.is_some_and(|callers| callers.classes.contains_key(class))
    }

    /// Whether no caller waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The names that callers wait for.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.queues.iter().filter(|(_, queue)| !queue.lanes.is_empty()).map(|(name, _)| name)
    }

    /// Notes that there may be capacity for callers of `name`; `false` if there are none.
    pub(super) fn note_news(&mut self, name: &str) -> bool {
        let waiting = self.queues.get_mut(name).filter(|queue| !queue.lanes.is_empty());
        let Some(queue) = waiting else { return false };
        self.numbers += 1;
        queue.news = self.numbers;
        true
    }

    /// Whether the queue of `name` has news that no finished scan covers.
    pub(super) fn has_news(&self, name: &str) -> bool {
        self.queues.get(name).is_some_and(|queue| queue.news > queue.scanned)
    }

    fn callers(&mut self, name: &str, lane: &Lane) -> Option<&mut LaneCallers<C, W>> {
        self.queues.get_mut(name)?.lanes.get_mut(lane)
    }

    /// How far a lane that comes to the queue of `name` is ahead: as far as in the other queues of the line that have callers for
    /// the same rows. It is not behind what was served, unless it waits in one of them.
    fn ahead_in_line(&self, pool: &str, name: &str, lane: &Lane) -> i64 {
        let of_line =
            self.lines.get(pool).filter(|_| name == pool).into_iter().flat_map(|found| &found.names);
        let others = of_line.map(String::as_str).chain(Some(pool)).filter(|other| *other != name);
        let queues = others.filter_map(|other| self.queues.get(other));
        let known = queues.filter_map(|queue| Some((queue.ahead_of(lane)?, queue.lanes.contains_key(lane))));
        known
            .reduce(|one, other| (one.0.max(other.0), one.1 || other.1))
            .map_or(0, |(ahead, waits)| if waits { ahead } else { ahead.max(0) })
    }

    /// The queue of `name`, which has callers from now on if it had none.
    fn waiting_queue(&mut self, line: &str, name: &str, id: u64) -> &mut Queue<C, W> {
        let queue = self.queues.entry(name.to_owned()).or_insert_with(|| Queue::new(id));
        if queue.lanes.is_empty() {
            // Its row may have moved to another pool.
            let old = std::mem::replace(&mut queue.line, line.to_owned());
            if let Some(old) = self.lines.get_mut(&old).filter(|_| old != line) {
                old.names.remove(name);
            }
            let line = self.lines.entry(line.to_owned()).or_default();
            line.names.insert(name.to_owned());
            line.waiting += 1;
        }
        queue
    }

    /// Removes a lane without callers from the queue of `name`, and the line if nobody waits in it.
    fn remove_empty(&mut self, name: &str, lane: &Lane) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if !queue.remove_empty(lane) || !queue.lanes.is_empty() {
            return;
        }
        let Some(shared) = self.lines.get_mut(&queue.line) else { return };
        shared.waiting -= 1;
        if shared.waiting == 0 {
            let ended = self.lines.remove(&queue.line);
            for name in ended.into_iter().flat_map(|ended| ended.names) {
                self.queues.remove(&name);
            }
        }
    }
}

/// Tokens of a call as a part of an account, whose sum does not overflow.
fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens.min(1 << 40)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
