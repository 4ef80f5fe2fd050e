//! The queue of one name: its lanes in the order of their turns, and what each has used.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Class;

/// Accounts of lanes that do not wait which are kept in any case: those of a team.
const MIN_ACCOUNTS: usize = 64;

/// The callers that wait for one name.
pub(super) struct Queue<C, W> {
    /// Its first place: tells it from an earlier queue of the name.
    pub(super) id: u64,
    pub(super) lanes: HashMap<Lane, LaneCallers<C, W>>,
    /// The waiting lanes by turn.
    pub(super) turns: BTreeMap<Turn, Lane>,
    /// Of lanes that do not wait, and are ahead of `served`.
    pub(super) accounts: HashMap<Lane, Account>,
    /// Number of these above which those that are not ahead any more are removed.
    pub(super) most_accounts: usize,
    /// The greatest account with which a lane was served, of bulk callers and others.
    pub(super) served: [i64; 2],
    /// The time of the last news.
    pub(super) news: u64,
    /// The time at which the last finished scan began.
    pub(super) scanned: u64,
}

/// A user, or its bulk callers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Lane {
    pub(super) is_bulk: bool,
    pub(super) user: String,
}

/// The place of a lane among those that wait in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) is_bulk: bool,
    /// The tokens of its calls.
    pub(super) tokens: i64,
    /// Of equal lanes the one that was served longest ago, or joined first, is next.
    pub(super) number: u64,
}

/// What a lane has used of a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) tokens: i64,
    /// What the last call took beyond its prompt.
    pub(super) answer: u64,
}

/// The callers of a lane in one queue.
pub(super) struct LaneCallers<C, W> {
    pub(super) number: u64,
    pub(super) account: Account,
    pub(super) classes: HashMap<C, VecDeque<Waiting<W>>>,
    /// The first place of each class.
    pub(super) heads: BTreeMap<u64, C>,
}

/// A caller that waits.
pub(super) struct Waiting<W> {
    pub(super) place: u64,
    /// Tokens of its prompt, as far as they are known.
    pub(super) prompt: u64,
    pub(super) caller: W,
}

impl Lane {
    pub(super) fn of(class: &impl Class) -> Self {
        Self { is_bulk: class.is_bulk(), user: class.user().to_owned() }
    }

    /// The index of its accounts in `served`.
    pub(super) fn tier(&self) -> usize {
        usize::from(self.is_bulk)
    }
}

impl<C, W> LaneCallers<C, W> {
    pub(super) fn turn(&self, is_bulk: bool) -> Turn {
        Turn { is_bulk, tokens: self.account.tokens, number: self.number }
    }
}

impl<C: Class, W> LaneCallers<C, W> {
    /// Makes the next caller of a class its head, after the head `place` has left.
    pub(super) fn replace_head(&mut self, place: u64, class: &C) {
        self.heads.remove(&place);
        match self.classes.get(class).and_then(VecDeque::front) {
            Some(next) => drop(self.heads.insert(next.place, class.clone())),
            None => drop(self.classes.remove(class)),
        }
    }
}

impl<C: Class, W> Queue<C, W> {
    pub(super) fn new(id: u64) -> Self {
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
    pub(super) fn lane(&mut self, lane: &Lane, number: u64) -> &mut LaneCallers<C, W> {
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
    pub(super) fn account(&self, lane: &Lane) -> Account {
        let served = self.served[lane.tier()];
        let account = self.accounts.get(lane).filter(|account| account.tokens > served);
        account.copied().unwrap_or(Account { tokens: served, answer: 0 })
    }

    /// Sets the account of a lane that does not wait. One that is not ahead is as good as none; those that others have caught up
    /// with are removed when their number has doubled.
    pub(super) fn set_account(&mut self, lane: &Lane, account: Account) {
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

    pub(super) fn turn(&self, lane: &Lane) -> Option<Turn> {
        Some(self.lanes.get(lane)?.turn(lane.is_bulk))
    }

    /// How far the turn is ahead of what was served: comparable between queues.
    pub(super) fn ahead(&self, turn: Turn) -> i64 {
        turn.tokens - self.served[usize::from(turn.is_bulk)]
    }

    /// Changes the account of a lane. A lane that waits gets the turn of that, with a new `number` as the last of equal ones.
    /// Returns whether its turn is earlier now.
    pub(super) fn change(
        &mut self,
        lane: &Lane,
        number: Option<u64>,
        change: impl FnOnce(&mut Account),
    ) -> bool {
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
