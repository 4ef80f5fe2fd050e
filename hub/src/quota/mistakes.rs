//! Budgets of mistakes, such as wrong tokens: a burst, then some more each second. Pure: the time is passed in.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use parking_lot::Mutex;

/// Keys with a budget of their own, some 100 bytes each. All others share one budget.
const MAX_KEYS: usize = 4096;

/// The verdict on a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Within the budget.
    Allowed,
    /// Beyond the budget: answer 429. `first` is true once until the budget is full again: log it then.
    Refused { first: bool },
}

/// A budget for each key `K`, for example an address or a user.
pub(crate) struct MistakeBudgets<K> {
    burst: i64,
    per_second: u32,
    table: Mutex<Table<K>>,
}

struct Table<K> {
    by_key: HashMap<K, Budget>,
    shared: Option<Budget>,
    /// When full budgets were last removed: at most once a second, since that reads the whole table.
    swept_at: Option<Duration>,
}

/// The budget of one key.
struct Budget {
    /// Mistakes left; negative while a debt is paid off.
    left: i64,
    /// Refills are counted in up to here.
    refilled_at: Duration,
    exhausted: bool,
}

impl<K: Hash + Eq> MistakeBudgets<K> {
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        let table = Table { by_key: HashMap::new(), shared: None, swept_at: None };
        Self { burst: burst.into(), per_second, table: Mutex::new(table) }
    }

    /// Charges `count` mistakes that have been made already. The budget may go into debt.
    pub(crate) fn charge(&self, key: K, count: u32, now: Duration) {
        self.with(key, now, |budget| budget.charge(count, now, self));
    }

    /// Spends one mistake of `key`, if its budget allows that.
    pub(crate) fn spend(&self, key: K, now: Duration) -> Verdict {
        self.with(key, now, |budget| budget.spend(now, self))
    }

    fn with<T>(&self, key: K, now: Duration, then: impl FnOnce(&mut Budget) -> T) -> T {
        let mut table = self.table.lock();
        let Table { by_key, shared, swept_at } = &mut *table;
        let is_due = swept_at.is_none_or(|last| now.saturating_sub(last) >= Duration::from_secs(1));
        if is_due && by_key.len() >= MAX_KEYS && !by_key.contains_key(&key) {
            *swept_at = Some(now);
            by_key.retain(|_, budget| !budget.is_full(now, self));
        }
        let fresh = || Budget { left: self.burst, refilled_at: now, exhausted: false };
        let budget = if by_key.len() < MAX_KEYS || by_key.contains_key(&key) {
            by_key.entry(key).or_insert_with(fresh)
        } else {
            shared.get_or_insert_with(fresh)
        };
        then(budget)
    }

    /// Returns one mistake to `key`. The shared budget gets none back.
    pub(crate) fn forgive(&self, key: &K) {
        if let Some(budget) = self.table.lock().by_key.get_mut(key) {
            budget.left = budget.left.saturating_add(1).min(self.burst);
        }
    }

    /// Whether `key` has no mistake left.
    pub(crate) fn is_spent(&self, key: &K, now: Duration) -> bool {
        let mut table = self.table.lock();
        let Table { by_key, shared, .. } = &mut *table;
        let is_full = by_key.len() >= MAX_KEYS;
        let budget = by_key.get_mut(key).or_else(|| shared.as_mut().filter(|_| is_full));
        budget.is_some_and(|budget| {
            budget.refill(now, self);
            budget.left <= 0
        })
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.table.lock().by_key.len()
    }
}

impl Budget {
    fn refill<K>(&mut self, now: Duration, of: &MistakeBudgets<K>) {
        // Whole seconds only: the rest counts with the next refill.
        let seconds = now.saturating_sub(self.refilled_at).as_secs();
        let more = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(of.per_second.into());
        self.left = self.left.saturating_add(more).min(of.burst);
        self.refilled_at += Duration::from_secs(seconds);
    }

    fn is_full<K>(&mut self, now: Duration, of: &MistakeBudgets<K>) -> bool {
        self.refill(now, of);
        self.left == of.burst
    }

    fn spend<K>(&mut self, now: Duration, of: &MistakeBudgets<K>) -> Verdict {
        if self.is_full(now, of) {
            self.exhausted = false;
        }
        if self.left > 0 {
            self.left -= 1;
            return Verdict::Allowed;
        }
        Verdict::Refused { first: !std::mem::replace(&mut self.exhausted, true) }
    }

    /// A budget that is spent goes no deeper into debt than one burst.
    fn charge<K>(&mut self, count: u32, now: Duration, of: &MistakeBudgets<K>) {
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

    fn seconds_until_allowed(budgets: &MistakeBudgets<&str>) -> u64 {
        (0..1000).find(|more| !budgets.is_spent(&"eve", NOW + Duration::from_secs(*more))).unwrap()
    }

    #[test]
    fn a_debt_decreases_with_time_and_is_at_most_one_burst() {
        for (count, seconds) in [(100, 1), (150, 6), (199, 10), (10_000, 11)] {
            let budgets = MistakeBudgets::new(100, 10);
            (0..count).for_each(|_| budgets.charge("eve", 1, NOW));
            assert_eq!(seconds_until_allowed(&budgets), seconds, "{count}");
        }
    }

    #[test]
    fn a_charge_that_was_allowed_counts_in_full() {
        let budgets = MistakeBudgets::new(100, 10);
        budgets.charge("eve", 500, NOW);
        budgets.charge("eve", 500, NOW);
        assert_eq!(seconds_until_allowed(&budgets), 41);
    }

    #[test]
    fn refused_mistakes_add_no_debt() {
        let budgets = MistakeBudgets::new(100, 10);
        for _ in 0..300 {
            budgets.spend("eve", NOW);
        }
        assert_eq!(seconds_until_allowed(&budgets), 1);
    }
}
