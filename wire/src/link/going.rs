//! The times at which registrars of a hub that shuts down connect again.

use std::time::Duration;

/// When the registrars of a hub that shuts down connect again: each at times of its own, so that they do not come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Going {
    /// Delay of the first try in milliseconds, after the frame.
    pub delay_ms: u32,
    /// Time between further tries in milliseconds.
    pub interval_ms: u32,
}

impl Going {
    /// Least interval: a hub that restarts needs about half a second.
    const MIN_INTERVAL_MS: u32 = 1000;
    /// Time between the tries of two registrars: 200 a second.
    const SLOT_MS: u32 = 5;
    /// Longest delay and interval, as for any hint of a hub.
    const MAX_MS: u32 = 60_000;

    /// The times of the registrar number `index` of `count`, which is told `elapsed` after the first one. Those of all
    /// registrars are spread evenly over one interval.
    #[must_use]
    pub fn of(index: u32, count: u32, elapsed: Duration) -> Self {
        let count = count.max(1);
        let interval = count.saturating_mul(Self::SLOT_MS).clamp(Self::MIN_INTERVAL_MS, Self::MAX_MS);
        let slot = u64::from(index % count) * u64::from(interval) / u64::from(count);
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) % u64::from(interval);
        let delay = (slot + u64::from(interval) - elapsed) % u64::from(interval);
        Self { delay_ms: u32::try_from(delay).unwrap_or(interval), interval_ms: interval }
    }

    /// The delay of the first try, 60 s at most.
    pub fn delay(self) -> Duration {
        Duration::from_millis(self.delay_ms.min(Self::MAX_MS).into())
    }

    /// The time until the next try, `elapsed` after the frame. Tries are an interval of 1 s to 60 s apart, whatever becomes
    /// of them, so that each registrar keeps its place between the others.
    pub fn until_next(self, elapsed: Duration) -> Duration {
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let delay = u64::from(self.delay_ms.min(Self::MAX_MS));
        let interval = u64::from(self.interval_ms.clamp(Self::MIN_INTERVAL_MS, Self::MAX_MS));
        Duration::from_millis(match elapsed.checked_sub(delay) {
            None => delay - elapsed,
            Some(since) => interval - since % interval,
        })
    }
}
