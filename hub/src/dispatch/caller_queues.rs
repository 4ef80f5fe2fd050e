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

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::ops::Bound;

/// Least tokens that a call is charged, also one that fails: it has a place meanwhile.
pub(super) const LEAST: u64 = 64;
/// Accounts of lanes that do not wait which are kept in any case: those of a team.
const MIN_ACCOUNTS: usize = 64;

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

struct Queue<C, W> {
    /// Its first place: tells it from an earlier queue of the name.
    id: u64,
    lanes: HashMap<Lane, LaneCallers<C, W>>,
    /// The waiting lanes by turn.
    turns: BTreeMap<Turn, Lane>,
    /// Of lanes that do not wait, and are ahead of `served`.
    accounts: HashMap<Lane, Account>,
    /// Number of these above which those that are not ahead any more are removed.
    most_accounts: usize,
    /// The greatest account with which a lane was served, of bulk callers and others.
    served: [i64; 2],
    /// The time of the last news.
    news: u64,
    /// The time at which the last finished scan began.
    scanned: u64,
}

/// A user, or its bulk callers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lane {
    is_bulk: bool,
    user: String,
}

/// The place of a lane among those that wait in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    is_bulk: bool,
    /// The tokens of its calls.
    tokens: i64,
    /// Of equal lanes the one that was served longest ago, or joined first, is next.
    number: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    tokens: i64,
    /// What the last call took beyond its prompt.
    answer: u64,
}

/// What a call was charged.
struct Charge {
    lane: Lane,
    /// The names of the queues, and their ids.
    queues: Vec<(String, u64)>,
    prompt: u64,
    charged: u64,
}

/// The position of an interrupted scan.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
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

/// The callers of a lane in one queue.
struct LaneCallers<C, W> {
    number: u64,
    account: Account,
    classes: HashMap<C, VecDeque<Waiting<W>>>,
    /// The first place of each class.
    heads: BTreeMap<u64, C>,
}

struct Waiting<W> {
    place: u64,
    /// Tokens of its prompt, as far as they are known.
    prompt: u64,
    caller: W,
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

/// The result of one lane's turn.
enum TurnResult {
    /// The caller of this place, with a prompt of so many tokens.
    Served(u64, u64),
    /// There is no capacity for the lane.
    Passed,
    Stopped,
    /// The turn continues behind this place.
    Interrupted(u64),
}

impl<C, W> Default for CallerQueues<C, W> {
    fn default() -> Self {
        Self { numbers: 0, queues: HashMap::new(), charges: HashMap::new() }
    }
}

impl Lane {
    fn of(class: &impl Class) -> Self {
        Self { is_bulk: class.is_bulk(), user: class.user().to_owned() }
    }

    /// The index of its accounts in `served`.
    fn tier(&self) -> usize {
        usize::from(self.is_bulk)
    }
}

impl<C, W> LaneCallers<C, W> {
    fn turn(&self, is_bulk: bool) -> Turn {
        Turn { is_bulk, tokens: self.account.tokens, number: self.number }
    }
}

impl<C: Class, W> Queue<C, W> {
    fn new(id: u64) -> Self {
        Self {
            id,
            lanes: HashMap::new(),
            turns: BTreeMap::new(),
            accounts: HashMap::new(),
            most_accounts: MIN_ACCOUNTS,
            served: [0; 2],
            news: 0,
            scanned: 0,
        }
    }

    /// The callers of a lane, which waits from now on if it did not.
    fn lane(&mut self, lane: &Lane, number: u64) -> &mut LaneCallers<C, W> {
        let account = self.account(lane);
        match self.lanes.entry(lane.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                self.accounts.remove(lane);
                let callers =
                    LaneCallers { number, account, classes: HashMap::new(), heads: BTreeMap::new() };
                self.turns.insert(callers.turn(lane.is_bulk), lane.clone());
                new.insert(callers)
            }
        }
    }

    /// The account of a lane that does not wait.
    fn account(&self, lane: &Lane) -> Account {
        let served = self.served[lane.tier()];
        let account = self.accounts.get(lane).filter(|account| account.tokens > served);
        account.copied().unwrap_or(Account { tokens: served, answer: 0 })
    }

    /// Sets the account of a lane that does not wait. One that is not ahead is as good as none; those that others have caught up
    /// with are removed when their number has doubled.
    fn set_account(&mut self, lane: &Lane, account: Account) {
        let served = self.served;
        if account.tokens <= served[lane.tier()] {
            self.accounts.remove(lane);
            return;
        }
        self.accounts.insert(lane.clone(), account);
        if self.accounts.len() > self.most_accounts {
            self.accounts.retain(|lane, account| account.tokens > served[lane.tier()]);
            self.most_accounts = MIN_ACCOUNTS.max(2 * self.accounts.len());
        }
    }

    fn turn(&self, lane: &Lane) -> Option<Turn> {
        Some(self.lanes.get(lane)?.turn(lane.is_bulk))
    }

    /// How far the turn is ahead of what was served: comparable between queues.
    fn ahead(&self, turn: Turn) -> i64 {
        turn.tokens - self.served[usize::from(turn.is_bulk)]
    }

    /// Changes the account of a lane. A lane that waits gets the turn of that, with a new `number` as the last of equal ones.
    /// Returns whether its turn is earlier now.
    fn change(&mut self, lane: &Lane, number: Option<u64>, change: impl FnOnce(&mut Account)) -> bool {
        let mut account = self.account(lane);
        if let Some(callers) = self.lanes.get_mut(lane) {
            let before = callers.turn(lane.is_bulk);
            change(&mut callers.account);
            callers.number = number.unwrap_or(callers.number);
            let after = callers.turn(lane.is_bulk);
            self.turns.remove(&before);
            self.turns.insert(after, lane.clone());
            return after < before;
        }
        change(&mut account);
        self.set_account(lane, account);
        false
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

    /// Scans the queues of `names` from `cursor` on, lane by lane in turn. A lane in several of them has the earliest of
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
                TurnResult::Served(place, prompt) => self.charge(names, &lane, place, prompt),
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
            let is_served = caller.is_none();
            if let Some(caller) = caller.filter(|_| decision != Decision::Remove) {
                of_class.push_front(Waiting { place, prompt, caller });
            } else {
                callers.replace_head(place, &class);
                if !is_served {
                    self.remove_empty(name, lane);
                }
            }
            match decision {
                Decision::Stop => return TurnResult::Stopped,
                Decision::Interrupt => return TurnResult::Interrupted(place - 1),
                Decision::Remove if is_served => return TurnResult::Served(place, prompt),
                Decision::Remove | Decision::Keep => (),
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

    /// Charges the lane, whose caller of this place was served, in the queues of `names`.
    fn charge(&mut self, names: &[&str], lane: &Lane, place: u64, prompt: u64) {
        self.numbers += 1;
        let number = self.numbers;
        let ahead = |name: &&str| {
            let queue = self.queues.get(*name)?;
            Some(queue.ahead(queue.turn(lane)?))
        };
        let ahead = names.iter().filter_map(ahead).min().unwrap_or(0).max(0);
        let answer = |name: &&str| Some(self.queues.get(*name)?.lanes.get(lane)?.account.answer);
        let answer = names.iter().filter_map(answer).max().unwrap_or(0);
        let charged = prompt.saturating_add(answer).max(LEAST);
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            let Some(queue) = self.queues.get_mut(*name) else { continue };
            queue.served[lane.tier()] += ahead;
            queue.change(lane, Some(number), |account| account.tokens += signed(charged));
            queues.push(((*name).to_owned(), queue.id));
        }
        self.charges.insert(place, Charge { lane: lane.clone(), queues, prompt, charged });
        for name in names {
            self.remove_empty(name, lane);
        }
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

impl<C: Class, W> LaneCallers<C, W> {
    /// Makes the next caller of a class its head, after the head `place` has left.
    fn replace_head(&mut self, place: u64, class: &C) {
        self.heads.remove(&place);
        match self.classes.get(class).and_then(VecDeque::front) {
            Some(next) => drop(self.heads.insert(next.place, class.clone())),
            None => drop(self.classes.remove(class)),
        }
    }
}

/// Tokens of a call as a part of an account, whose sum does not overflow.
fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens.min(1 << 40)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
