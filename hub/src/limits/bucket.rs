//! A token bucket of requests. Pure: the time is passed in.

use std::time::Duration;

/// The time in which an empty bucket becomes full.
const MINUTE: Duration = Duration::from_mins(1);

/// A bucket that is refilled evenly. It has no counter: what is missing is known by the time at which it is full again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    full_at: Duration,
}

/// What a bucket has, for the headers of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) left: u32,
    /// Until it is full.
    pub(super) reset: Duration,
}

impl Bucket {
    /// Time until a request may be taken from a bucket of `size` requests; `None` if one may now.
    pub(super) fn wait(self, size: u32, now: Duration) -> Option<Duration> {
        let wait = (self.missing(now) + interval(size)).saturating_sub(full(size));
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// Takes one request, which the bucket has.
    pub(super) fn take(&mut self, size: u32, now: Duration) {
        self.full_at = self.full_at.max(now) + interval(size);
    }

    /// Takes requests that other hubs accepted: at most all that the bucket may have.
    pub(super) fn take_others(&mut self, requests: u64, size: u32, now: Duration) {
        let requests = u32::try_from(requests.min(size.into())).unwrap_or(size);
        let full_at = self.full_at.max(now) + interval(size) * requests;
        self.full_at = full_at.min(now + full(size));
    }

    pub(super) fn level(self, size: u32, now: Duration) -> Level {
        let reset = self.missing(now);
        let left = full(size).saturating_sub(reset).as_nanos() / interval(size).as_nanos().max(1);
        Level { left: u32::try_from(left).unwrap_or(u32::MAX), reset }
    }

    /// What is missing, as the time in which it is refilled.
    fn missing(self, now: Duration) -> Duration {
        self.full_at.saturating_sub(now)
    }
}

/// The time in which one request is refilled.
fn interval(size: u32) -> Duration {
    MINUTE / size.max(1)
}

/// The time in which all requests are refilled: a minute, less what the division left.
fn full(size: u32) -> Duration {
    interval(size) * size
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_has_its_size_and_refills_evenly() {
        let (mut bucket, now) = (Bucket::default(), Duration::from_secs(100));
        for left in (0..3).rev() {
            assert_eq!(bucket.wait(3, now), None);
            bucket.take(3, now);
            assert_eq!(bucket.level(3, now).left, left);
        }
        assert_eq!(bucket.wait(3, now), Some(Duration::from_secs(20)));
        assert_eq!(bucket.level(3, now).reset, MINUTE);
        let later = now + Duration::from_secs(20);
        assert_eq!((bucket.wait(3, later), bucket.level(3, later).left), (None, 1));
        assert_eq!(bucket.level(3, now + MINUTE), Level { left: 3, reset: Duration::ZERO });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(testkit::cases()) })]

        /// In any time, at most the size of the bucket and what is refilled meanwhile are taken; a wait that is told is
        /// enough, and not too long.
        #[test]
        fn no_more_is_taken_than_was_full_and_refilled(
            size in 1..5000_u32,
            steps in prop::collection::vec(0..3_000_000_u64, 1..400),
        ) {
            let (mut bucket, mut now, mut taken) = (Bucket::default(), Duration::from_secs(7), 0_u64);
            let begin = now;
            for micros in steps {
                now += Duration::from_micros(micros);
                if let Some(wait) = bucket.wait(size, now) {
                    prop_assert_eq!(bucket.level(size, now).left, 0);
                    prop_assert!(wait <= interval(size));
                    prop_assert_eq!(bucket.wait(size, now + wait), None);
                } else {
                    prop_assert!(bucket.level(size, now).left >= 1);
                    bucket.take(size, now);
                    taken += 1;
                }
                let refilled = now.saturating_sub(begin).as_nanos() / interval(size).as_nanos();
                prop_assert!(u128::from(taken) <= u128::from(size) + refilled + 1);
            }
        }
    }
}
