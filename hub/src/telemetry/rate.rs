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
/// From so many rows on, and from twice as many as were left the last time, those that are idle are forgotten before a
/// new one is added: a walk over all of them, for as many new ones.
const PRUNE: usize = 256;

/// The meters of all rows.
pub(super) struct Rates {
    start: Instant,
    meters: Mutex<Meters>,
    /// What all who watch are told in the same second.
    told: Mutex<(u64, Arc<HashMap<String, f64>>)>,
}

struct Meters {
    of: HashMap<String, Arc<Meter>>,
    /// How many of them are too many.
    many: usize,
    /// Meters that were looked at.
    #[cfg(test)]
    looked: usize,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            many: PRUNE,
            #[cfg(test)]
            looked: 0,
        }
    }
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
        if let Some(meter) = meters.of.get(llm) {
            return meter.clone();
        }
        if meters.of.len() >= meters.many {
            #[cfg(test)]
            {
                meters.looked += meters.of.len();
            }
            meters.of.retain(|_, meter| Arc::strong_count(meter) > 1 || meter.per_second() > 0.0);
            meters.many = PRUNE.max(meters.of.len() * 2);
        }
        let meter = Arc::new(Meter { start: self.start, slots: Default::default() });
        meters.of.insert(llm.to_owned(), meter.clone());
        meter
    }

    /// Tokens a second of the rows that have some: whole seconds count, so that it is the same for one second.
    pub(super) fn all(&self) -> Arc<HashMap<String, f64>> {
        let mut told = self.told.lock();
        let second = self.start.elapsed().as_secs();
        if told.0 != second {
            let meters = self.meters.lock();
            let rates = meters.of.iter().map(|(llm, meter)| (llm.clone(), meter.per_second_at(second)));
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

    /// However many rows are busy, a new one costs a look at a few of the others.
    #[tokio::test]
    async fn a_row_without_a_meter_costs_no_walk_over_all_others() {
        let rates = Rates::default();
        let busy: Vec<_> = (0..8192).map(|row| rates.meter(&row.to_string())).collect();
        assert!(rates.meters.lock().looked < 8192 * 2);
        drop(busy);
        for row in 0..8192 {
            drop(rates.meter(&format!("idle-{row}")));
        }
        let meters = rates.meters.lock();
        assert!(meters.looked < 8192 * 4 && meters.of.len() <= PRUNE.max(meters.many), "{}", meters.looked);
    }
}
