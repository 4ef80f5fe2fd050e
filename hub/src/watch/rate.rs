//! Tokens a second, by row: counted on the hot path without a lock, read by those who watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The rate is over so many whole seconds: short enough to be live, long enough not to flicker.
const WINDOW: u64 = 5;
/// The seconds of the window, the one that runs, and one that a slow writer may still hold.
const SLOTS: usize = 7;
/// From so many rows on, those that are idle are forgotten before a new one is added.
const PRUNE: usize = 256;

/// The meters of all rows.
pub(super) struct Rates {
    start: Instant,
    meters: Mutex<HashMap<String, Arc<Meter>>>,
    /// What all who watch are told in the same second.
    told: Mutex<(u64, Arc<HashMap<String, f64>>)>,
}

/// One row's tokens in the last seconds. A slot holds its second in the upper half, its count in the lower.
pub(super) struct Meter {
    start: Instant,
    slots: [AtomicU64; SLOTS],
}

impl Default for Rates {
    fn default() -> Self {
        Self { start: Instant::now(), meters: Mutex::default(), told: Mutex::new((u64::MAX, Arc::default())) }
    }
}

impl Rates {
    /// The meter of a row.
    pub(super) fn meter(&self, llm: &str) -> Arc<Meter> {
        let mut meters = self.meters.lock();
        if let Some(meter) = meters.get(llm) {
            return meter.clone();
        }
        if meters.len() >= PRUNE {
            meters.retain(|_, meter| Arc::strong_count(meter) > 1 || meter.per_second() > 0.0);
        }
        let meter = Arc::new(Meter { start: self.start, slots: Default::default() });
        meters.insert(llm.to_owned(), meter.clone());
        meter
    }

    /// Tokens a second of the rows that have some: whole seconds count, so that it is the same for one second.
    pub(super) fn all(&self) -> Arc<HashMap<String, f64>> {
        let mut told = self.told.lock();
        let second = self.start.elapsed().as_secs();
        if told.0 != second {
            let meters = self.meters.lock();
            let rates = meters.iter().map(|(llm, meter)| (llm.clone(), meter.per_second_at(second)));
            *told = (second, Arc::new(rates.filter(|(_, rate)| *rate > 0.0).collect()));
        }
        told.1.clone()
    }
}

impl Meter {
    /// Tokens came.
    pub(super) fn add(&self, tokens: u64) {
        self.add_at(self.start.elapsed().as_secs(), tokens);
    }

    fn per_second(&self) -> f64 {
        self.per_second_at(self.start.elapsed().as_secs())
    }

    fn add_at(&self, second: u64, tokens: u64) {
        let tokens = tokens.min(u64::from(u32::MAX));
        // Its remainder is below SLOTS.
        let slot = &self.slots[usize::try_from(second).unwrap_or(0) % SLOTS];
        // One writer: the hub's thread. A race would cost a count in a display, nothing else.
        let held = slot.load(Ordering::Relaxed);
        let count = if held >> 32 == second { held & u64::from(u32::MAX) } else { 0 };
        let count = (count + tokens).min(u64::from(u32::MAX));
        slot.store(second << 32 | count, Ordering::Relaxed);
    }

    fn per_second_at(&self, now: u64) -> f64 {
        let whole = now.saturating_sub(WINDOW)..now;
        let held = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed));
        let sum: u64 =
            held.filter(|held| whole.contains(&(held >> 32))).map(|held| held & u64::from(u32::MAX)).sum();
        #[expect(clippy::cast_precision_loss, reason = "a display: 2^52 tokens a second are out of reach")]
        let rate = sum as f64 / WINDOW as f64;
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_is_that_of_the_last_five_whole_seconds_and_fades_to_nothing() {
        let rates = Rates::default();
        let meter = rates.meter("a");
        for second in 0..10 {
            meter.add_at(second, 10);
            meter.add_at(second, 30);
        }
        assert!((meter.per_second_at(10) - 40.0).abs() < f64::EPSILON);
        assert!((meter.per_second_at(12) - 24.0).abs() < f64::EPSILON);
        assert!(meter.per_second_at(15).abs() < f64::EPSILON);
        assert_eq!(rates.all().get("unknown"), None);
    }
}
