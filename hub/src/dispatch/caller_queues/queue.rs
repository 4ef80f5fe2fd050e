//! The queue of one name: its lanes in the order of their turns, and what each has used.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{Class, LEAST, Spent, signed};

/// Accounts of lanes that do not wait which are kept in any case: those of a team.
const MIN_ACCOUNTS: usize = 64;
/// The time of calls after which those before count half for the pace.
const PACE_MILLIS: u64 = 600_000;

/// The callers that wait for one name.
pub(super) struct Queue<C, W> {
    /// Its first place: tells it from an earlier queue of the name.
    pub(super) id: u64,
    /// The line that it is a part of.
    pub(super) line: String,
    pub(super) lanes: HashMap<Lane, LaneCallers<C, W>>,
    /// The waiting lanes by turn.
    pub(super) turns: BTreeMap<Turn, Lane>,
    /// Of lanes that do not wait.
    pub(super) accounts: HashMap<Lane, Account>,
    /// Number of these above which those that matter no more are removed.
    pub(super) most_accounts: usize,
    /// The greatest account with which a lane was served, of bulk callers and others.
    pub(super) served: [i64; 2],
    pace: Pace,
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
    /// Calls under way, which were charged and not settled.
    pub(super) running: u32,
}

/// How many tokens whole answers took in how much time.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    tokens: u64,
    millis: u64,
}

impl Pace {
    fn add(&mut self, spent: Spent) {
        if self.millis > PACE_MILLIS {
            (self.tokens, self.millis) = (self.tokens / 2, self.millis / 2);
        }
        self.tokens = self.tokens.saturating_add(spent.tokens);
        self.millis = self.millis.saturating_add(spent.millis);
    }

    /// What a call has taken after `millis`, about.
    fn tokens(self, millis: u64) -> u64 {
        let of_others = u128::from(self.tokens) * u128::from(millis) / u128::from(self.millis.max(1000));
        let least = u128::from(LEAST) * u128::from(millis) / 1000;
        u64::try_from(of_others.max(least)).unwrap_or(u64::MAX)
    }
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
            line: String::new(),
            lanes: HashMap::new(),
            turns: BTreeMap::new(),
            accounts: HashMap::new(),
            most_accounts: MIN_ACCOUNTS,
            served: [0; 2],
            pace: Pace::default(),
            news: 0,
            scanned: 0,
        }
    }

    /// The callers of a lane, which waits from now on if it did not: as far `ahead` of what was served, or at its own account.
    pub(super) fn lane(&mut self, lane: &Lane, number: u64, ahead: i64) -> &mut LaneCallers<C, W> {
        let least = self.served[lane.tier()] + ahead;
        match self.lanes.entry(lane.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let account = at_least(self.accounts.remove(lane), least);
                let callers =
                    LaneCallers { number, account, classes: HashMap::new(), heads: BTreeMap::new() };
                self.turns.insert(callers.turn(lane.is_bulk), lane.clone());
                new.insert(callers)
            }
        }
    }

    /// Removes a lane if it has no callers; whether it did.
    pub(super) fn remove_empty(&mut self, lane: &Lane) -> bool {
        if self.lanes.get(lane).is_none_or(|callers| !callers.classes.is_empty()) {
            return false;
        }
        if let Some(callers) = self.lanes.remove(lane) {
            self.turns.remove(&callers.turn(lane.is_bulk));
            self.set_account(lane, callers.account);
        }
        true
    }

    /// What is known of a lane, whether it waits or not.
    pub(super) fn account(&self, lane: &Lane) -> Option<Account> {
        let waiting = self.lanes.get(lane).map(|callers| callers.account);
        waiting.or_else(|| self.accounts.get(lane).copied())
    }

    /// How far a lane is ahead of what was served, if anything is known of it.
    pub(super) fn ahead_of(&self, lane: &Lane) -> Option<i64> {
        Some(self.account(lane)?.tokens - self.served[lane.tier()])
    }

    /// Sets the account of a lane that does not wait. When the number of accounts has doubled, those are removed that others have
    /// caught up with.
    fn set_account(&mut self, lane: &Lane, account: Account) {
        let served = self.served;
        self.accounts.insert(lane.clone(), account);
        if self.accounts.len() > self.most_accounts {
            self.accounts.retain(|lane, account| account.running > 0 || account.tokens > served[lane.tier()]);
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

    /// Charges a lane that is served, and was so far `ahead` where it waited. It becomes the last of equal ones, by `number`.
    pub(super) fn charge(&mut self, lane: &Lane, number: u64, ahead: i64, tokens: u64) {
        let served = &mut self.served[lane.tier()];
        let least = *served + ahead;
        *served += ahead.max(0);
        if !self.lanes.contains_key(lane) {
            let account = at_least(self.accounts.get(lane).copied(), least);
            self.set_account(lane, account);
        }
        self.change(lane, Some(number), |account| {
            account.tokens += signed(tokens);
            account.running += 1;
        });
    }

    /// Corrects what a call of a lane was charged. Returns whether the lane's turn is earlier now.
    pub(super) fn settle(&mut self, lane: &Lane, prompt: u64, charged: u64, spent: Spent) -> bool {
        let tokens = if spent.is_whole {
            self.pace.add(spent);
            spent.tokens.max(LEAST)
        } else {
            spent.tokens.max(charged).max(self.pace.tokens(spent.millis))
        };
        let answer = tokens.saturating_sub(prompt);
        self.change(lane, None, |account| {
            account.tokens += signed(tokens) - signed(charged);
            account.answer = if spent.is_whole { answer } else { account.answer.max(answer) };
            account.running = account.running.saturating_sub(1);
        })
    }

    /// Changes the account of a lane, of which something is known. A lane that waits gets the turn of that. Returns whether its turn
    /// is earlier now.
    fn change(&mut self, lane: &Lane, number: Option<u64>, change: impl FnOnce(&mut Account)) -> bool {
        if let Some(callers) = self.lanes.get_mut(lane) {
            let before = callers.turn(lane.is_bulk);
            change(&mut callers.account);
            callers.number = number.unwrap_or(callers.number);
            let after = callers.turn(lane.is_bulk);
            self.turns.remove(&before);
            self.turns.insert(after, lane.clone());
            return after < before;
        }
        if let Some(account) = self.accounts.get_mut(lane) {
            change(account);
        }
        false
    }
}

fn at_least(known: Option<Account>, tokens: i64) -> Account {
    let account = known.unwrap_or(Account { tokens, ..Account::default() });
    Account { tokens: account.tokens.max(tokens), ..account }
}
