//! Queues of callers that wait for capacity. Users share it by tokens, and each user's callers are served first come, first
//! served. Pure.
//!
//! A caller waits in the queue of a name, that of a row or a pool. Each user has an account there: the tokens of its calls. The
//! next user is the one with the least, so that users who always wait get as many tokens, however many and large their calls are.
//! This is deficit round robin with a quantum of one token, whose empty rounds are skipped: a turn costs two look-ups in an ordered
//! map, whatever users owe. A user that comes begins where the one is that was served last, or at its own account if that is
//! greater: waiting and absence are no credit, and a user that was served just now is behind those that were not. What was used while
//! nobody waited is forgotten.
//!
//! The tokens of a call are known when it ends. Until then it is charged what its prompt takes, and what the user's last call took
//! beyond its prompt; [`settle`](CallerQueues::settle) corrects that.
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

use std::collections::HashMap;
use std::hash::Hash;

use queue::{Lane, LaneCallers, Queue, Waiting};
pub(super) use scan::{Cursor, Decision, ScanResult};

/// Least tokens that a call is charged, also one that fails: it has a place meanwhile.
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
    /// What the calls under way were charged, by the places of their callers.
    charges: HashMap<u64, Charge>,
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
        Self { numbers: 0, queues: HashMap::new(), charges: HashMap::new() }
    }
}

impl<C: Class, W> CallerQueues<C, W> {
    /// Adds a caller to the queue of `name`, whose prompt takes about `prompt` tokens. Returns the place for
    /// [`leave`](Self::leave) and [`settle`](Self::settle).
    pub(super) fn join(&mut self, name: &str, class: C, prompt: u64, caller: W) -> u64 {
        self.numbers += 1;
        let place = self.numbers;
        let queue = self.queues.entry(name.to_owned()).or_insert_with(|| Queue::new(place));
        let callers = queue.lane(&Lane::of(&class), place);
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

    /// Corrects what the call of the caller that had this place was charged: it took so many `tokens`.
    pub(super) fn settle(&mut self, place: u64, tokens: u64) {
        let Some(Charge { lane, queues, prompt, charged }) = self.charges.remove(&place) else { return };
        let tokens = tokens.max(LEAST);
        for (name, id) in queues {
            let Some(queue) = self.queues.get_mut(&name).filter(|queue| queue.id == id) else { continue };
            let is_earlier = queue.change(&lane, None, |account| {
                account.tokens += signed(tokens) - signed(charged);
                account.answer = tokens.saturating_sub(prompt);
            });
            if is_earlier {
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

    fn callers(&mut self, name: &str, lane: &Lane) -> Option<&mut LaneCallers<C, W>> {
        self.queues.get_mut(name)?.lanes.get_mut(lane)
    }

    /// Removes a lane without callers from the queue of `name`, and the queue if nobody waits in it.
    fn remove_empty(&mut self, name: &str, lane: &Lane) {
        let Some(queue) = self.queues.get_mut(name) else { return };
        if queue.lanes.get(lane).is_some_and(|callers| callers.classes.is_empty())
            && let Some(callers) = queue.lanes.remove(lane)
        {
            queue.turns.remove(&callers.turn(lane.is_bulk));
            queue.set_account(lane, callers.account);
        }
        if queue.lanes.is_empty() {
            self.queues.remove(name);
        }
    }
}

/// Tokens of a call as a part of an account, whose sum does not overflow.
fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens.min(1 << 40)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
