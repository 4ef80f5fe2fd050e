//! How long to wait before the hub is tried again (SPEC.md section 6, `StreamActor`).
//!
//! The one module that touches the `backoff` crate: we implement its trait and use nothing else of it, for its
//! own policy adds jitter after the cap, stops after 15 minutes and keeps its own clock. Here time and randomness
//! are passed in.

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use backoff::backoff::Backoff;

/// A connection that lived this long was a good one: the next delay starts from the base again. Shorter ones do
/// not count, or a hub that closes every channel at once would be called at the base rate for ever.
pub const GOOD_AFTER: Duration = Duration::from_mins(1);

/// No hint of a hub raises a delay above this: a hub that comes back early is found within a minute.
pub const HIGHEST_HINT: Duration = Duration::from_mins(1);

/// Numbers from 0 to below 1, evenly spread. Injected, so that a test decides them.
pub type Random = Box<dyn FnMut() -> f64>;

/// Decorrelated jitter: each delay is random between the base and three times the last one.
///
/// 1,000 registrars that lose their hub together come back spread over 10 s with the first delay already
/// (base 5 s: 5 to 15 s), which no jitter on a fixed schedule does.
pub struct ReconnectDelay {
    base: Duration,
    max: Duration,
    last: Duration,
    /// `retry:` of the last channel; stays until another channel says otherwise.
    floor: Duration,
    /// `Retry-After` of the last answer; good for one delay.
    hint: Duration,
    random: Random,
}

impl ReconnectDelay {
    /// Delays between `base` and `max`. A `max` below `base` counts as `base`.
    pub fn new(base: Duration, max: Duration, random: Random) -> Self {
        let (floor, hint) = (Duration::ZERO, Duration::ZERO);
        Self { base, max: max.max(base), last: base, floor, hint, random }
    }

    /// A connection ended that was open for this long.
    pub fn was_open(&mut self, open_for: Duration) {
        if open_for >= GOOD_AFTER {
            self.reset();
        }
    }

    /// The next delay is at least this (`Retry-After`), 60 s at most.
    pub fn retry_after(&mut self, hint: Duration) {
        self.hint = self.hint.max(hint.min(HIGHEST_HINT));
    }

    /// Every delay from now on is at least this (`retry:` of an event stream), 60 s at most.
    pub fn retry_field(&mut self, floor: Duration) {
        self.floor = floor.min(HIGHEST_HINT);
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let span = self.last.saturating_mul(3).saturating_sub(self.base);
        let jittered = self.base.saturating_add(self.part_of(span)).min(self.max);
        self.last = jittered;
        let hint = std::mem::take(&mut self.hint).max(self.floor);
        if hint <= jittered {
            return jittered;
        }
        // Everybody whom a hub sends away gets the same hint: spread them over one more base.
        let spread = self.part_of(self.base);
        hint.saturating_add(spread).min(HIGHEST_HINT.max(jittered))
    }

    fn part_of(&mut self, span: Duration) -> Duration {
        let share = (self.random)().clamp(0.0, 1.0);
        // Whole milliseconds of at most an hour or so are exact in an f64.
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

/// The system's randomness.
pub fn system_random() -> Random {
    // Without randomness the middle is as good as any: the delay stays legal.
    Box::new(|| getrandom::u32().map_or(0.5, |bits| f64::from(bits) / (f64::from(u32::MAX) + 1.0)))
}
