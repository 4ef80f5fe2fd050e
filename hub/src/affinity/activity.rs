//! How many conversations use each member of a pool: each counts once, where its last call went, and less with every later
//! call of the pool.

use std::collections::HashMap;

/// Calls per member of the pool after which a conversation counts half. Calls, not seconds: other conversations' calls
/// are what takes its place in the caches. With 16 conversations on each member an active one counts at least 0.7.
const HALF_LIFE: u32 = 32;
/// Counts are compared in quarters of a conversation: coarse, so that members are often equal and hubs agree; less than a
/// half, so that one conversation more is always seen.
pub(crate) const QUARTERS: u32 = 4;
/// Counts of a pool that are kept besides two for each of its members: of rows that left it, or sleep.
const SPARE: usize = 8;

/// Where a conversation counts, and since which age of its pool's activity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    pub(super) member: u64,
    age: f64,
}

/// The conversations of a pool.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Half-lives that have passed.
    age: f64,
    /// By member: what its conversations counted, and at which age.
    counts: HashMap<u64, (f64, f64)>,
}

impl Activity {
    /// Conversations that use `member`, in [`QUARTERS`].
    pub(super) fn of(&self, member: u64) -> u32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "never negative, and at most the calls of some half-lives"
        )]
        let quarters = (self.count(member) * f64::from(QUARTERS)).round() as u32;
        quarters
    }

    /// Counts a call on `member`, one of `members` of the pool, of a conversation that counted at `last` before.
    pub(super) fn record(&mut self, member: u64, members: usize, last: Option<Place>) -> Place {
        let members = u32::try_from(members).unwrap_or(u32::MAX).max(1);
        self.age += (f64::from(members) * f64::from(HALF_LIFE)).recip();
        if let Some(Place { member, age }) = last
            && self.counts.contains_key(&member)
        {
            let left = (self.count(member) - halved(self.age - age)).max(0.0);
            self.counts.insert(member, (left, self.age));
        }
        if !self.counts.contains_key(&member) {
            self.make_room(members);
        }
        self.counts.insert(member, (self.count(member) + 1.0, self.age));
        Place { member, age: self.age }
    }

    fn count(&self, member: u64) -> f64 {
        self.counts.get(&member).map_or(0.0, |(count, age)| count * halved(self.age - age))
    }

    /// Removes counts of less than half a conversation, if there are many. The others are at most 93 for each member: a call
    /// adds 1, so all together they never exceed 1.45 half-lives.
    fn make_room(&mut self, members: u32) {
        if self.counts.len() >= 2 * members as usize + SPARE {
            let now = self.age;
            self.counts.retain(|_, (count, age)| *count * halved(now - *age) >= 0.5);
        }
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.counts.len()
    }
}

/// What is left of 1 after `ages` half-lives. Ages of a pool whose counts were dropped in between may be negative.
fn halved(ages: f64) -> f64 {
    (-ages.max(0.0)).exp2()
}
