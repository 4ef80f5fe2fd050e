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

    /// So many at once, which were made whether they were allowed or not: what was too much is paid off before anything is
    /// allowed again.
    pub(crate) fn mistakes(&self, who: K, count: u32, now: Duration) {
        self.with(who, now, |budget| budget.owe(count, now, self));
    }

    /// A mistake of `who`'s, if that is allowed.
    pub(crate) fn mistake(&self, who: K, now: Duration) -> Verdict {
        self.with(who, now, |budget| budget.spend(now, self))
    }

    fn with<T>(&self, who: K, now: Duration, then: impl FnOnce(&mut Budget) -> T) -> T {
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
        then(budget)
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

    fn spend<K>(&mut self, now: Duration, of: &Budgets<K>) -> Verdict {
        if self.is_full(now, of) {
            self.exhausted = false;
        }
        if self.left > 0 {
            self.left -= 1;
            return Verdict::Mistake;
        }
        Verdict::TooMany { first: !std::mem::replace(&mut self.exhausted, true) }
    }

    /// Whoever has nothing left owes a burst at most.
    fn owe<K>(&mut self, count: u32, now: Duration, of: &Budgets<K>) {
        if self.is_full(now, of) {
            self.exhausted = false;
        }
        let left = self.left - i64::from(count);
        self.left = if self.left > 0 { left } else { left.max(self.left.min(-of.burst)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn seconds_until_allowed(budgets: &Budgets<&str>) -> u64 {
        (0..1000).find(|more| !budgets.is_spent(&"eve", NOW + Duration::from_secs(*more))).unwrap()
    }

    /// What is beyond the budget is owed, up to as much as the budget again.
    #[test]
    fn mistakes_beyond_the_budget_are_paid_off() {
        let budgets = Budgets::new(100, 10);
        budgets.mistakes("eve", 100, NOW);
        assert_eq!(seconds_until_allowed(&budgets), 1);
        for (count, seconds) in [(150, 6), (199, 10), (10_000, 11)] {
            let budgets = Budgets::new(100, 10);
            (0..count).for_each(|_| budgets.mistakes("eve", 1, NOW));
            assert_eq!(seconds_until_allowed(&budgets), seconds, "{count}");
        }
        let budgets = Budgets::new(100, 10);
        budgets.mistakes("eve", 500, NOW);
        budgets.mistakes("eve", 500, NOW);
        assert_eq!(
            seconds_until_allowed(&budgets),
            41,
            "of one that was allowed all counts, and is not less for more"
        );
    }

    /// One who is refused and asks again is not refused for longer.
    #[test]
    fn what_is_refused_is_not_owed() {
        let budgets = Budgets::new(100, 10);
        for _ in 0..300 {
            budgets.mistake("eve", NOW);
        }
        assert_eq!(seconds_until_allowed(&budgets), 1);
    }
}
