//! Decides when a recipe may run again. Pure.
//!
//! A run starts a process, or makes a call that may cost money, and any caller of the hub can request one.

use std::time::Duration;

use tokio::time::Instant;

use super::recipe::RecipeKind;

/// Pause after a run, in which a backend that has just come up is noticed.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// Limit of the pause, which doubles with each run that fails.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The recent runs of one provider's recipes.
#[derive(Debug, Default)]
pub(super) struct RecipeBackoff {
    /// End and length of the pause.
    pause: Option<(Instant, Duration)>,
    /// Error of the last wake run.
    failure: Option<String>,
    /// Whether the last successful recipe was the sleep recipe. Then an answer of the server does not show that the model is awake.
    asleep: bool,
}

/// How a wake run starts.
#[derive(Debug, Clone)]
pub(super) struct StartPlan {
    /// Whether to check first that the backend is down.
    pub(super) check_first: bool,
    pub(super) not_before: Instant,
    /// The error to return instead of a run, because the last run has just failed.
    pub(super) failure: Option<String>,
}

impl RecipeBackoff {
    /// Plans a run that is requested at `now`. The owner gets a run at once, without a check. `was_checked` means that the provider
    /// has already checked its backend.
    pub(super) fn plan(&self, now: Instant, by_owner: bool, was_checked: bool) -> StartPlan {
        let pause_end = self.pause.map(|(end, _)| end).filter(|end| *end > now && !by_owner);
        let failure = pause_end.and_then(|_| self.failure.clone());
        let check_first = !self.asleep && !by_owner && (!was_checked || pause_end.is_some());
        StartPlan { check_first, not_before: pause_end.unwrap_or(now), failure }
    }

    /// Records a run that ended at `now`.
    pub(super) fn ended(&mut self, kind: RecipeKind, failure: Option<&String>, now: Instant) {
        match (kind, failure) {
            (RecipeKind::Sleep, Some(_)) => (),
            (RecipeKind::Sleep, None) => self.asleep = true,
            (RecipeKind::Wake, failure) => {
                let earlier = self.pause.filter(|_| self.failure.is_some() && failure.is_some());
                let pause = earlier.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
                self.asleep &= failure.is_some();
                self.failure = failure.cloned();
                self.pause = Some((now + pause, pause));
            }
        }
    }

    /// Ends the pause, because the settings may have changed.
    pub(super) fn reset(&mut self) {
        (self.pause, self.failure) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The pause is 2 s, and doubles up to a minute while runs fail.
        #[test]
        fn a_recipe_that_is_requested_constantly_keeps_its_pauses(
            outcomes in prop::collection::vec(any::<bool>(), 1..200), steps in prop::collection::vec(1_u64..900, 1..200)
        ) {
            let start = Instant::now();
            let (mut backoff, mut now, mut runs) = (RecipeBackoff::default(), start, Vec::new());
            let mut outcomes = outcomes.into_iter().cycle();
            for step in steps.into_iter().cycle().take(5_000) {
                now += Duration::from_millis(step);
                let plan = backoff.plan(now, false, false);
                prop_assert!(plan.check_first);
                prop_assert!(plan.not_before <= now + LONGEST_PAUSE);
                prop_assert_eq!(backoff.plan(now, true, false).not_before, now);
                if plan.not_before > now {
                    continue;
                }
                let fails = outcomes.next().unwrap();
                let failed = fails.then(|| "no".to_owned());
                backoff.ended(RecipeKind::Wake, failed.as_ref(), now);
                prop_assert_eq!(backoff.plan(now, false, true).failure, failed);
                runs.push((now, fails));
            }
            for pair in runs.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= FIRST_PAUSE);
            }
            for failed in runs.chunk_by(|one, next| one.1 && next.1).filter(|failed| failed.len() > 1) {
                let least: Duration = (1..failed.len()).map(|n| (FIRST_PAUSE * (1 << (n - 1).min(5))).min(LONGEST_PAUSE)).sum();
                prop_assert!(failed[failed.len() - 1].0 - failed[0].0 >= least, "{:?}", failed.len());
            }
        }
    }

    #[test]
    fn a_failed_recipe_may_run_at_once_with_new_settings() {
        let (mut backoff, now) = (RecipeBackoff::default(), Instant::now());
        backoff.ended(RecipeKind::Wake, Some(&"no".to_owned()), now);
        assert!(backoff.plan(now, false, false).failure.is_some());
        backoff.reset();
        let plan = backoff.plan(now, false, false);
        assert_eq!((plan.not_before, plan.failure), (now, None));
    }

    #[test]
    fn a_backend_put_to_sleep_is_not_checked() {
        let (mut backoff, now) = (RecipeBackoff::default(), Instant::now());
        backoff.ended(RecipeKind::Sleep, None, now);
        assert!(!backoff.plan(now, false, false).check_first);
        backoff.ended(RecipeKind::Wake, Some(&"no".to_owned()), now);
        assert!(!backoff.plan(now, false, false).check_first);
        backoff.ended(RecipeKind::Wake, None, now);
        assert!(backoff.plan(now, false, false).check_first);
    }
}
