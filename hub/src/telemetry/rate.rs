//! Tokens a second of each row. They are counted without a lock, since each token of each answer is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Whole seconds of which a rate is the average: few enough to be current, enough not to flicker.
const WINDOW: u64 = 5;
/// The seconds of the window, the current second, and one that a slow writer may still use.
const SLOTS: usize = 7;
/// Number of meters from which on idle ones are removed before a new one is added. It is at least twice the number that the
/// last walk left, so that a walk over all meters is paid for by as many new ones.
const MIN_PRUNE: usize = 256;

/// The meters of all rows.
pub(super) struct Rates {
    start: Instant,
    meters: Mutex<Meters>,
    /// The rates of the second in which they were last read.
    cached: Mutex<(u64, Arc<HashMap<String, f64>>)>,
}

struct Meters {
    by_llm: HashMap<String, Arc<Meter>>,
    /// The number of meters at which idle ones are removed.
    prune_at: usize,
    /// The number of meters that were visited to remove idle ones.
    #[cfg(test)]
    visited: usize,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            by_llm: HashMap::new(),
            prune_at: MIN_PRUNE,
            #[cfg(test)]
            visited: 0,
        }
    }
}

/// The tokens of a row in the last seconds. The upper half of a slot is its second, the lower half the count.
pub(super) struct Meter {
    start: Instant,
    slots: [AtomicU64; SLOTS],
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            meters: Mutex::default(),
            cached: Mutex::new((u64::MAX, Arc::default())),
        }
    }
}

impl Rates {
    pub(super) fn meter(&self, llm: &str) -> Arc<Meter> {
        let mut meters = self.meters.lock();
        if let Some(meter) = meters.by_llm.get(llm) {
            return meter.clone();
        }
        if meters.by_llm.len() >= meters.prune_at {
            #[cfg(test)]
            {
                meters.visited += meters.by_llm.len();
            }
            meters.by_llm.retain(|_, meter| Arc::strong_count(meter) > 1 || meter.per_second() > 0.0);
            meters.prune_at = MIN_PRUNE.max(meters.by_llm.len() * 2);
        }
        let meter = Arc::new(Meter { start: self.start, slots: Default::default() });
        meters.by_llm.insert(llm.to_owned(), meter.clone());
        meter
    }

    /// Tokens a second of all rows with a rate above zero, computed once a second.
    pub(super) fn all(&self) -> Arc<HashMap<String, f64>> {
        let mut cached = self.cached.lock();
        let second = self.start.elapsed().as_secs();
        if cached.0 != second {
            let meters = self.meters.lock();
            let rates = meters.by_llm.iter().map(|(llm, meter)| (llm.clone(), meter.per_second_at(second)));
            *cached = (second, Arc::new(rates.filter(|(_, rate)| *rate > 0.0).collect()));
        }
        cached.1.clone()
    }
}

impl Meter {
    pub(super) fn add(&self, tokens: u64) {
        self.add_at(self.start.elapsed().as_secs(), tokens);
    }

    fn per_second(&self) -> f64 {
        self.per_second_at(self.start.elapsed().as_secs())
    }

    fn add_at(&self, second: u64, tokens: u64) {
        let tokens = tokens.min(u64::from(u32::MAX));
        let slot = &self.slots[usize::try_from(second).unwrap_or(0) % SLOTS];
        // A race between two threads loses a count, which only changes a display.
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
    async fn a_rate_is_the_average_of_the_last_five_whole_seconds() {
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

    /// A27: the rates are computed once a second for all watchers.
    #[tokio::test(start_paused = true)]
    async fn watchers_share_the_rates_of_a_second() {
        let rates = Rates::default();
        let first = rates.all();
        assert!(Arc::ptr_eq(&first, &rates.all()));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(!Arc::ptr_eq(&first, &rates.all()));
    }

    /// Creating a meter examines only a few other meters, however many there are.
    #[tokio::test]
    async fn a_new_meter_examines_only_a_few_others() {
        let rates = Rates::default();
        let busy: Vec<_> = (0..8192).map(|row| rates.meter(&row.to_string())).collect();
        assert!(rates.meters.lock().visited < 8192 * 2);
        drop(busy);
        for row in 0..8192 {
            drop(rates.meter(&format!("idle-{row}")));
        }
        let meters = rates.meters.lock();
        assert!(
            meters.visited < 8192 * 4 && meters.by_llm.len() <= MIN_PRUNE.max(meters.prune_at),
            "{}",
            meters.visited
        );
    }
}
