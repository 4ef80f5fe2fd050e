//! The delay before the next call of the hub (SPEC.md section 6, `SessionActor`).
//!
//! The only module that names the `backoff` crate, and it uses only its trait: the policy of the crate adds jitter after
//! the cap, stops after 15 minutes and reads a clock. Here randomness is passed in, and no clock is read.

#[cfg(test)]
mod tests;

use std::time::Duration;

use backoff::backoff::Backoff;

/// A connection that was open for this long resets the delay. Shorter ones do not: a hub that closes every channel at once
/// would be called at the base rate forever.
pub(crate) const GOOD_AFTER: Duration = Duration::from_mins(1);

/// Longest first delay after a link: 1,000 registrars make 250 connections a second.
const QUICK: Duration = Duration::from_secs(4);
/// The same of a registrar with tasks, whose callers wait at other hubs.
const QUICK_WITH_TASKS: Duration = Duration::from_secs(2);

/// Limit for a hub's hint, so that a registrar finds a returning hub within a minute.
const HIGHEST_HINT: Duration = Duration::from_mins(1);

/// Uniform numbers in `0.0..1.0`, injected for tests.
pub(crate) type Random = Box<dyn FnMut() -> f64>;

/// Decorrelated jitter: each delay is random between the base and three times the last one.
///
/// The first delay of 1,000 registrars that lose their hub together is spread over 10 s (base 5 s: 5 to 15 s), which jitter
/// on a fixed schedule does not do.
pub(crate) struct ReconnectDelay {
    base: Duration,
    max: Duration,
    last: Duration,
    /// `retry:` of the last open channel.
    floor: Duration,
    /// `Retry-After` of the last answer, for one delay.
    hint: Duration,
    /// The longest next delay, if that is a short one.
    quick: Option<Duration>,
    random: Random,
}

impl ReconnectDelay {
    /// Delays between `base` and `max`. A `max` below `base` counts as `base`.
    pub(crate) fn new(base: Duration, max: Duration, random: Random) -> Self {
        let (floor, hint) = (Duration::ZERO, Duration::ZERO);
        Self { base, max: max.max(base), last: base, floor, hint, quick: None, random }
    }

    /// Records the loss of a channel. `hint` is the channel's `retry:` field if it was open, else the answer's `Retry-After`.
    pub(crate) fn channel_lost(&mut self, open_for: Option<Duration>, hint: Option<Duration>) {
        let hint = hint.unwrap_or_default();
        match open_for {
            Some(open_for) => {
                if open_for >= GOOD_AFTER {
                    self.reset();
                }
                self.floor = hint.min(HIGHEST_HINT);
            }
            None => self.retry_after(hint),
        }
    }

    /// Records the loss of a link that was open for `open_for`. Returns whether it was for [`GOOD_AFTER`], or with
    /// tasks for the base delay. The next delay is then between 0 and [`QUICK`], with tasks [`QUICK_WITH_TASKS`], at
    /// most the base delay: running tasks wait, and a hub that restarts is back at once. The delays of 1,000 registrars
    /// are spread as much as the base delay would spread them.
    pub(crate) fn link_lost(&mut self, open_for: Option<Duration>, has_tasks: bool) -> bool {
        let (good_after, quick) = if has_tasks { (self.base, QUICK_WITH_TASKS) } else { (GOOD_AFTER, QUICK) };
        self.quick = open_for.filter(|open_for| *open_for >= good_after.min(GOOD_AFTER)).map(|_| quick);
        self.quick.is_some()
    }

    /// Raises the next delay to `hint` (`Retry-After`), 60 s at most.
    pub(crate) fn retry_after(&mut self, hint: Duration) {
        self.hint = self.hint.max(hint.min(HIGHEST_HINT));
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        if let Some(quick) = self.quick.take()
            && self.hint.is_zero()
        {
            return self.random_part(quick.min(self.base));
        }
        let span = self.last.saturating_mul(3).saturating_sub(self.base);
        let jittered = self.base.saturating_add(self.random_part(span)).min(self.max);
        self.last = jittered;
        let hint = std::mem::take(&mut self.hint).max(self.floor);
        if hint <= jittered {
            return jittered;
        }
        // A hub gives every registrar the same hint, so the delays are spread over one more base.
        let spread = self.random_part(self.base);
        hint.saturating_add(spread).min(HIGHEST_HINT.max(jittered))
    }

    /// A random part of `span`.
    pub(crate) fn random_part(&mut self, span: Duration) -> Duration {
        let share = (self.random)().clamp(0.0, 1.0);
        Duration::try_from_secs_f64(span.as_secs_f64() * share).unwrap_or(span)
    }
}

impl Backoff for ReconnectDelay {
    fn reset(&mut self) {
        self.last = self.base;
    }

    /// Never `None`: a registrar does not stop trying.
    fn next_backoff(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

/// Numbers from the system's random source.
pub(crate) fn system_random() -> Random {
    // A system without randomness gets the middle of each range.
    Box::new(|| getrandom::u32().map_or(0.5, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0)))
}
