//! How often a recipe runs, however often somebody asks. Pure.
//!
//! A run is a process, or a call that may cost money, and who asks for one is a hub or whoever calls there.

use std::time::Duration;

use tokio::time::Instant;

use super::run::Kind;

/// From a run to the next one, at first: as long as a backend that has just come up may take to be seen.
const FIRST: Duration = Duration::from_secs(2);

/// And after many that failed, each twice the one before.
const MOST: Duration = Duration::from_mins(1);

/// The recipe of one provider, as it went so far.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Before this no further run begins, and how long the wait was.
    next: Option<(Instant, Duration)>,
    /// Why the last run was in vain.
    failed: Option<String>,
    /// Whether the sleep recipe was the last that ran well: then a server that answers says nothing of its model.
    slept: bool,
}

/// What comes before a recipe runs.
#[derive(Debug, Clone)]
pub(super) struct First {
    /// Whether the backend may turn out to be up, so that nothing has to run.
    pub(super) look: bool,
    /// When it may run.
    pub(super) after: Instant,
    /// What is answered instead: it failed just now.
    pub(super) failed: Option<String>,
}

impl Pace {
    /// What comes before the run that is asked for at `now`. An owner's own word is not looked into and does not wait; a
    /// provider `has_looked` itself.
    pub(super) fn first(&self, now: Instant, by_owner: bool, has_looked: bool) -> First {
        let next = self.next.map(|(next, _)| next).filter(|next| *next > now && !by_owner);
        let failed = next.and_then(|_| self.failed.clone());
        let look = !self.slept && !by_owner && (!has_looked || next.is_some());
        First { look, after: next.unwrap_or(now), failed }
    }

    /// A run of `kind` has ended at `now`.
    pub(super) fn ended(&mut self, kind: Kind, failed: Option<&String>, now: Instant) {
        match (kind, failed) {
            (Kind::Sleep, Some(_)) => (),
            (Kind::Sleep, None) => self.slept = true,
            (Kind::Wake, failed) => {
                let again = self.next.filter(|_| self.failed.is_some() && failed.is_some());
                let pause = again.map_or(FIRST, |(_, pause)| (pause * 2).min(MOST));
                self.slept &= failed.is_some();
                self.failed = failed.cloned();
                self.next = Some((now + pause, pause));
            }
        }
    }

    /// The settings may have changed: what failed may run again.
    pub(super) fn forgive(&mut self) {
        (self.next, self.failed) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever becomes of the runs, and however fast they are asked for.
        #[test]
        fn asked_all_the_time_a_recipe_runs_every_two_seconds_and_a_bad_one_ever_more_seldom(
            outcomes in prop::collection::vec(any::<bool>(), 1..200), steps in prop::collection::vec(1_u64..900, 1..200)
        ) {
            let start = Instant::now();
            let (mut pace, mut now, mut runs) = (Pace::default(), start, Vec::new());
            let mut outcomes = outcomes.into_iter().cycle();
            for step in steps.into_iter().cycle().take(5_000) {
                now += Duration::from_millis(step);
                let first = pace.first(now, false, false);
                prop_assert!(first.look);
                prop_assert!(first.after <= now + MOST, "nobody waits for longer");
                prop_assert_eq!(pace.first(now, true, false).after, now);
                if first.after > now {
                    continue;
                }
                let fails = outcomes.next().unwrap();
                let failed = fails.then(|| "no".to_owned());
                pace.ended(Kind::Wake, failed.as_ref(), now);
                prop_assert_eq!(pace.first(now, false, true).failed, failed);
                runs.push((now, fails));
            }
            for pair in runs.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= FIRST);
            }
            for bad in runs.chunk_by(|one, next| one.1 && next.1).filter(|bad| bad.len() > 1) {
                let least: Duration = (1..bad.len()).map(|n| (FIRST * (1 << (n - 1).min(5))).min(MOST)).sum();
                prop_assert!(bad[bad.len() - 1].0 - bad[0].0 >= least, "{:?}", bad.len());
            }
        }
    }

    /// Who changed what failed need not wait until it may run again.
    #[test]
    fn what_failed_may_run_at_once_with_other_settings() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.ended(Kind::Wake, Some(&"no".to_owned()), now);
        assert!(pace.first(now, false, false).failed.is_some());
        pace.forgive();
        let first = pace.first(now, false, false);
        assert_eq!((first.after, first.failed), (now, None));
    }

    #[test]
    fn what_was_put_to_sleep_is_not_looked_at() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.ended(Kind::Sleep, None, now);
        assert!(!pace.first(now, false, false).look);
        pace.ended(Kind::Wake, Some(&"no".to_owned()), now);
        assert!(!pace.first(now, false, false).look);
        pace.ended(Kind::Wake, None, now);
        assert!(pace.first(now, false, false).look);
    }
}
