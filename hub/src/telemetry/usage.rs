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
    grown: HashMap<UsageKey, GrownSum>,
    /// What is being written.
    batch: Option<Arc<Batch>>,
    /// Number of batches.
    batches: u64,
}

/// What a sum grew, and the owner of its LLM.
struct GrownSum {
    owner: UserId,
    counts: UsageCounts,
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
    sums: HashMap<UsageKey, GrownSum>,
}

impl Batch {
    /// In the order of the keys: of two hubs that add to the same sums, one waits for the other.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change> {
        let mut sums: Vec<_> = self.sums.iter().collect();
        sums.sort_unstable_by_key(|(key, _)| *key);
        sums.into_iter().map(|(key, GrownSum { owner, counts })| {
            let sum = UsageSum { key: key.clone(), owner: owner.clone(), counts: *counts };
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

    /// Adds the numbers of a call of an LLM of `owner` to its sum. One of several owners has none: a name may change hands.
    pub(super) fn add(&mut self, key: UsageKey, owner: &str, counts: UsageCounts) {
        let key = self.place(key);
        let owner = if key.llm == OTHERS { "" } else { owner };
        let new = || GrownSum { owner: owner.to_owned(), counts: UsageCounts::default() };
        let sum = self.grown.entry(key).or_insert_with(new);
        if sum.owner != owner {
            sum.owner.clear();
        }
        sum.counts.add(counts);
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
mod tests;
