//! Sums of a day that are not written yet, and which sums of the day there are. Pure.
//!
//! A sum is written by what it grew since it was written last. What is to be written is taken as a batch with a random number;
//! a batch that could not be written, or of which that is unknown, is written again with its number before the next one, so
//! that the store adds it once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Day, OTHERS, UsageCounts, UsageKey, UsageSum, UserId};
use crate::random;
use crate::store::Change;

/// Most sums of a user and a day: what 16 LLMs, called with 16 tokens, need.
const MAX_OF_USER: usize = 256;
/// Most sums of all users and a day: 50 for each of 200 users. Some 4 MiB.
const MAX_OF_DAY: usize = 10_000;
/// Days whose sums are known: a call may end while another has begun the next day, and a clock may be set.
const DAYS: usize = 2;
/// Most days with sums while the store cannot write. Calls of further days are sums of all others.
const MAX_DAYS: usize = 8;

#[derive(Default)]
pub(super) struct UsageSums {
    days: BTreeMap<Day, KnownSums>,
    /// What the sums grew since the last batch. Those that did not grow cost nothing.
    grown: HashMap<UsageKey, UsageCounts>,
    /// What is being written.
    batch: Option<Arc<Batch>>,
    /// Number of batches.
    batches: u64,
}

/// The sums that there are of a day.
#[derive(Default)]
struct KnownSums {
    by_user: HashMap<UserId, HashSet<UsageKey>>,
    count: usize,
    /// Number of batches before the last call.
    last_used: u64,
}

/// Sums that are written together.
pub(super) struct Batch {
    number: i64,
    sums: HashMap<UsageKey, UsageCounts>,
}

impl Batch {
    /// In the order of the keys: of two hubs that add to the same sums, one waits for the other.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        sums.into_iter().map(|(key, counts)| {
            let sum = UsageSum { key: key.clone(), counts: *counts };
            Change::AddUsage { sum: Box::new(sum), batch: self.number }
        })
    }
}

impl UsageSums {
    /// Restores the keys of sums that the store has, so that a restart does not double how many a user may have.
    pub(super) fn restore_keys(&mut self, keys: Vec<UsageKey>) {
        for key in keys {
            self.place(key);
        }
    }

    /// Adds the numbers of a call to its sum.
    pub(super) fn add(&mut self, key: UsageKey, counts: UsageCounts) {
        let key = self.place(key);
        self.grown.entry(key).or_default().add(counts);
    }

    /// The key of the sum for calls with `key`. One too many is that of the user's others; if all users have too many, that of all
    /// others.
    fn place(&mut self, key: UsageKey) -> UsageKey {
        let is_full = self.days.len() >= MAX_DAYS && !self.days.contains_key(&key.day);
        let of_day = self.days.entry(key.day).or_default();
        of_day.last_used = self.batches;
        if is_full {
            of_day.count = MAX_OF_DAY;
        }
        if of_day.by_user.get(&key.user).is_some_and(|keys| keys.contains(&key)) {
            return key;
        }
        let is_day_full = of_day.count >= MAX_OF_DAY;
        let user = if is_day_full { OTHERS } else { &key.user }.to_owned();
        let keys = of_day.by_user.entry(user.clone()).or_default();
        let key = if is_day_full || keys.len() >= MAX_OF_USER {
            // Of all others with the same error.
            UsageKey { day: key.day, user, llm: OTHERS.to_owned(), code: key.code, ..UsageKey::default() }
        } else {
            key
        };
        of_day.count += usize::from(keys.insert(key.clone()));
        key
    }

    /// The batch to write now, and whether it was taken before. It is taken again until [`written`](Self::written).
    pub(super) fn take(&mut self) -> (Option<Arc<Batch>>, bool) {
        let is_again = self.batch.is_some();
        if !is_again {
            let sums = std::mem::take(&mut self.grown);
            if !sums.is_empty() {
                self.batch = Some(Arc::new(Batch { number: i64::from_le_bytes(random::bytes()), sums }));
            }
            self.batches += 1;
            while self.days.len() > DAYS {
                let oldest = self.days.iter().min_by_key(|(_, sums)| sums.last_used).map(|(day, _)| *day);
                oldest.map(|day| self.days.remove(&day));
            }
        }
        (self.batch.clone(), is_again)
    }

    /// The last batch was written.
    pub(super) fn written(&mut self) {
        self.batch = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use testkit::procfs::thread_time;

    use super::*;

    fn key(day: i64, user: &str, llm: usize, code: &str) -> UsageKey {
        let (user, llm, code) = (user.to_owned(), format!("llm-{llm}"), code.to_owned());
        UsageKey { day: Day(day), user, token: "t".into(), llm, through: String::new(), code }
    }

    const ONE: UsageCounts = UsageCounts { calls: 1, input: 10, cached: 3, output: 5, counted: 2, millis: 7 };

    /// What a store has after the changes of some batches.
    #[derive(Default)]
    struct Stored(BTreeMap<UsageKey, (i64, UsageCounts)>);

    impl Stored {
        fn write(&mut self, (batch, _): (Option<Arc<Batch>>, bool)) {
            for change in batch.iter().flat_map(|batch| batch.changes()) {
                let Change::AddUsage { sum, batch } = change else { panic!("{change:?}") };
                let (last, counts) = self.0.entry(sum.key).or_default();
                if std::mem::replace(last, batch) != batch {
                    counts.add(sum.counts);
                }
            }
        }

        fn total(&self) -> UsageCounts {
            let mut total = UsageCounts::default();
            self.0.values().for_each(|(_, counts)| total.add(*counts));
            total
        }

        fn of(&self, user: &str) -> usize {
            self.0.keys().filter(|key| key.user == user).count()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

        /// F66: whatever calls end and however writes fail or stay unknown, each call is added once.
        #[test]
        fn sums_have_each_call_once(
            steps in prop::collection::vec((0..3_i64, 0..3_u8, 0..4_usize, 0..4_u8), 1..80)
        ) {
            let (mut sums, mut stored, mut calls) = (UsageSums::default(), Stored::default(), 0);
            for (day, user, llm, outcome) in steps {
                sums.add(key(day, &format!("u{user}"), llm, ""), ONE);
                calls += 1;
                match outcome {
                    // The write fails.
                    0 => drop(sums.take()),
                    // The write succeeds, which the hub does not learn.
                    1 => stored.write(sums.take()),
                    2 => {
                        stored.write(sums.take());
                        sums.written();
                    }
                    _ => {}
                }
            }
            for _ in 0..2 {
                stored.write(sums.take());
                sums.written();
            }
            let mut expected = UsageCounts::default();
            (0..calls).for_each(|_| expected.add(ONE));
            prop_assert_eq!(stored.total(), expected);
        }
    }

    fn written(sums: &mut UsageSums) -> Stored {
        let mut stored = Stored::default();
        stored.write(sums.take());
        sums.written();
        stored
    }

    /// A27: a user with too many sums has one for the rest, and takes none of another user's.
    #[test]
    fn what_is_over_the_bound_of_a_user_is_counted_as_its_others() {
        let mut sums = UsageSums::default();
        for n in 0..1000 {
            sums.add(key(1, "mallory", n, if n % 2 == 0 { "" } else { "caller_left" }), ONE);
            sums.add(key(1, "victim", n % 9, ""), ONE);
        }
        let stored = written(&mut sums);
        assert_eq!((stored.of("mallory"), stored.of("victim")), (MAX_OF_USER + 2, 9));
        assert_eq!(stored.total().calls, 2000);
        let others =
            UsageKey { token: String::new(), llm: OTHERS.into(), ..key(1, "mallory", 0, "caller_left") };
        assert_eq!(stored.0[&others].1.calls, (1000 - 256) / 2);
    }

    /// A27: however many users call, the sums of a day are bounded, also across a restart.
    #[test]
    fn what_is_over_the_bound_of_a_day_is_counted_as_all_others() {
        let mut sums = UsageSums::default();
        let add_all = |sums: &mut UsageSums| {
            for n in 0..200 * 256 {
                sums.add(key(1, &format!("u{}", n / 256), n % 256, ""), ONE);
            }
        };
        add_all(&mut sums);
        let stored = written(&mut sums);
        assert_eq!(stored.0.len(), MAX_OF_DAY + 1);
        assert_eq!((stored.of(OTHERS), stored.total().calls), (1, 200 * 256));
        let mut after_restart = UsageSums::default();
        after_restart.restore_keys(stored.0.into_keys().collect());
        assert!(after_restart.take().0.is_none());
        add_all(&mut after_restart);
        after_restart.add(key(1, "new", 0, ""), ONE);
        assert!(written(&mut after_restart).0.len() <= MAX_OF_DAY + 1);
    }

    /// A store that cannot write for days fills no memory.
    #[test]
    fn days_are_bounded_while_nothing_is_written() {
        let mut sums = UsageSums::default();
        sums.add(key(0, "u", 0, ""), ONE);
        assert!(!sums.take().1);
        for day in 0..400 {
            (0..300).for_each(|n| sums.add(key(day, "u", n, ""), ONE));
            assert!(sums.take().1);
        }
        let kept: usize = sums.days.values().flat_map(|day| day.by_user.values()).map(HashSet::len).sum();
        assert!(sums.grown.len() <= kept, "{}", sums.grown.len());
        assert!(kept <= MAX_DAYS * (MAX_OF_USER + 1) + 400, "{kept}");
        sums.written();
        assert_eq!(written(&mut sums).total().calls, 400 * 300);
        assert_eq!(sums.days.len(), DAYS);
    }

    /// Two hubs that write the same sums in different orders would wait for each other.
    #[test]
    fn the_sums_of_a_batch_are_in_the_order_of_their_keys() {
        let mut sums = UsageSums::default();
        for n in (0..50).rev() {
            sums.add(key(1, &format!("u{}", n % 7), n, ""), ONE);
        }
        let batch = sums.take().0.unwrap();
        let keys: Vec<_> = batch
            .changes()
            .map(
                |change| {
                    if let Change::AddUsage { sum, .. } = change { sum.key } else { panic!("{change:?}") }
                },
            )
            .collect();
        assert!(keys.len() == 50 && keys.is_sorted());
    }

    /// P7: each call that ends waits for this.
    #[test]
    fn a_batch_is_taken_in_the_same_time_however_many_sums_there_are() {
        let mut sums = UsageSums::default();
        for n in 0..2 * MAX_OF_DAY {
            sums.add(key(i64::from(n % 2 == 0), &format!("u{}", n / 100), n % 100, ""), ONE);
        }
        assert_eq!(written(&mut sums).0.len(), 2 * MAX_OF_DAY);
        let start = thread_time();
        for _ in 0..200 {
            sums.add(key(1, "u0", 0, ""), ONE);
            assert_eq!(written(&mut sums).0.len(), 1);
        }
        let took = thread_time().saturating_sub(start);
        assert!(took < Duration::from_millis(20), "{took:?}");
    }
}
