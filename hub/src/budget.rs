//! How many mistakes somebody may make: many at once, and some more each second. Pure: the time is passed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Who makes mistakes is told apart up to this number, some 100 bytes each; those beyond share one budget.
const MANY: usize = 4096;

/// What came of a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is one.
    Mistake,
    /// One too many: 429. `first` since its maker was calm, so that it is worth a line in the log.
    TooMany {
        /// Whether it is.
        first: bool,
    },
}

/// The budgets of all.
pub(crate) struct Budgets<K> {
    burst: i64,
    per_second: u32,
    all: Mutex<All<K>>,
}

struct All<K> {
    of: HashMap<K, Budget>,
    others: Option<Budget>,
    /// When room was made last: a search of the whole table, not for each of those who flood it.
    swept: Option<Duration>,
}

/// What somebody has left; less than nothing where one mistake was worth many.
struct Budget {
    left: i64,
    /// Up to when refills are counted in.
    at: Duration,
    exhausted: bool,
}

impl<K: Hash + Eq> Budgets<K> {
    /// So many at once, and so many more a second.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        let all = All { of: HashMap::new(), others: None, swept: None };
        Self { burst: burst.into(), per_second, all: Mutex::new(all) }
    }

    /// A mistake of `who`'s.
    pub(crate) fn mistake(&self, who: K, now: Duration) -> Verdict {
        self.mistakes(who, 1, now)
    }

    /// So many at once.
    pub(crate) fn mistakes(&self, who: K, count: u32, now: Duration) -> Verdict {
        let mut all = self.all.lock();
        let All { of, others, swept } = &mut *all;
        let due = swept.is_none_or(|last| now.saturating_sub(last) >= Duration::from_secs(1));
        if due && of.len() >= MANY && !of.contains_key(&who) {
            *swept = Some(now);
            of.retain(|_, budget| !budget.is_full(now, self));
        }
        let fresh = || Budget { left: self.burst, at: now, exhausted: false };
        let budget = if of.len() < MANY || of.contains_key(&who) {
            of.entry(who).or_insert_with(fresh)
        } else {
            others.get_or_insert_with(fresh)
        };
        budget.spend(count, now, self)
    }

    /// One of `who`'s was none. Of those who share a budget it is not told whose it was.
    pub(crate) fn forgive(&self, who: &K) {
        if let Some(budget) = self.all.lock().of.get_mut(who) {
            budget.left = budget.left.saturating_add(1).min(self.burst);
        }
    }

    /// Whether `who` may make no more of them now.
    pub(crate) fn is_spent(&self, who: &K, now: Duration) -> bool {
        let mut all = self.all.lock();
        let All { of, others, .. } = &mut *all;
        let is_full = of.len() >= MANY;
        let budget = of.get_mut(who).or_else(|| others.as_mut().filter(|_| is_full));
        budget.is_some_and(|budget| {
            budget.refill(now, self);
            budget.left <= 0
        })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.all.lock().of.len()
    }
}

impl Budget {
    fn refill<K>(&mut self, now: Duration, of: &Budgets<K>) {
        // Whole seconds only: what is left of one counts when it is over.
        let seconds = now.saturating_sub(self.at).as_secs();
        let more = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(of.per_second.into());
        self.left = self.left.saturating_add(more).min(of.burst);
        self.at += Duration::from_secs(seconds);
    }

    fn is_full<K>(&mut self, now: Duration, of: &Budgets<K>) -> bool {
        self.refill(now, of);
        self.left == of.burst
    }

    fn spend<K>(&mut self, count: u32, now: Duration, of: &Budgets<K>) -> Verdict {
        if self.is_full(now, of) {
            self.exhausted = false;
        }
        if self.left > 0 {
            self.left -= i64::from(count);
            return Verdict::Mistake;
        }
        Verdict::TooMany { first: !std::mem::replace(&mut self.exhausted, true) }
    }
}
