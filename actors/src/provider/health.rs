//! The health of a provider's backend: checks and reports.

use std::time::Duration;

use actix::prelude::*;
use wire::register::ProviderStatus;
use wire::row::Status;

use super::ProviderActor;
use crate::backend::BackendHealth;
use crate::status::{Pace, ProviderReport};

/// Shortest interval of reports to other actors, because a busy provider changes with every task.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Unanswered checks in a row before the backend counts as away; its owner may be using the model meanwhile.
const MAX_SILENT: u32 = 3;

/// The health of a backend. Pure.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Why the backend is away; `None` while it is available, and before the first check.
    away: Option<&'static str>,
    /// Checks in a row without an answer.
    silent: u32,
    /// Set when the sleep recipe ran. The server may answer while its model sleeps, so this ends when a recipe or a task
    /// wakes the model, or when the server was away and is back: then another program woke it.
    sleep: Option<Sleep>,
}

#[derive(Debug, Default)]
struct Sleep {
    was_away: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendState {
    /// The last check was answered, or there was none.
    Up,
    /// The last check failed.
    Down,
    /// The sleep recipe ran.
    Asleep,
}

impl Health {
    /// Records the result of a check. If `busy`, tasks ran meanwhile, and the backend may have had no time to answer.
    pub(super) fn record_check(&mut self, check: BackendHealth, busy: bool) {
        self.away = match check {
            BackendHealth::Up => None,
            _ if busy => return,
            BackendHealth::Away(reason) => Some(reason),
            BackendHealth::Silent(reason) => {
                self.silent += 1;
                if self.silent < MAX_SILENT {
                    return;
                }
                Some(reason)
            }
        };
        if self.away.is_none() {
            self.silent = 0;
        }
        match &mut self.sleep {
            Some(sleep) if self.away.is_some() => sleep.was_away = true,
            Some(sleep) if sleep.was_away => self.sleep = None,
            _ => (),
        }
    }

    /// Records whether a task reached the backend.
    pub(super) fn observed(&mut self, reached: bool) {
        self.silent = 0;
        self.away = (!reached).then_some("a task could not reach it");
        if reached {
            self.sleep = None;
        }
    }

    /// Records that a recipe woke the backend, or put it to sleep.
    pub(super) fn power_changed(&mut self, awake: bool) {
        self.silent = 0;
        self.sleep = (!awake).then(Sleep::default);
        self.away = (!awake).then_some("it was put to sleep");
    }

    pub(super) fn backend_state(&self) -> BackendState {
        match (&self.sleep, self.away) {
            (Some(_), _) => BackendState::Asleep,
            (None, Some(_)) => BackendState::Down,
            (None, None) => BackendState::Up,
        }
    }

    fn reason(&self) -> &'static str {
        self.away.unwrap_or("it does not answer")
    }
}

impl ProviderActor {
    pub(super) fn watch_health(&mut self, ctx: &mut Context<Self>) {
        self.check_health(ctx);
        ctx.run_interval(self.links.check_every, Self::check_health);
    }

    pub(super) fn check_health(&mut self, ctx: &mut Context<Self>) {
        if self.state.check.is_some() {
            return;
        }
        let checking = self.backend.health().into_actor(self);
        self.state.check = Some(ctx.spawn(checking.map(|health, this, ctx| {
            this.state.check = None;
            this.health.record_check(health, this.queue.running() > 0);
            this.changed(ctx);
        })));
    }

    /// Sends a report to the listeners within [`REPORT_EVERY`], if it differs from the last one.
    pub(super) fn changed(&mut self, ctx: &mut Context<Self>) {
        self.log_backend_state();
        if self.state.reporting {
            return;
        }
        self.state.reporting = true;
        ctx.run_later(REPORT_EVERY, |this, _| {
            this.state.reporting = false;
            let report = this.report();
            if this.state.reported.as_ref() != Some(&report) {
                for listener in &this.links.changed {
                    listener.do_send(report.clone());
                }
                this.state.reported = Some(report);
            }
        });
    }

    /// Logs each change of the backend's state once.
    fn log_backend_state(&mut self) {
        let backend_state = self.health.backend_state();
        let before = std::mem::replace(&mut self.logged_state, backend_state);
        let name = &self.config.name;
        match (before, backend_state) {
            // A backend with a wake recipe may sleep.
            (BackendState::Up, BackendState::Down) if self.config.wake.is_some() => {
                wire::log_with!(info, [provider = name], "provider {name} sleeps: {}", self.health.reason());
            }
            (BackendState::Up, BackendState::Down) => {
                wire::log_with!(
                    warn,
                    [provider = name],
                    "provider {name}: the backend is away: {}",
                    self.health.reason()
                );
            }
            (BackendState::Down, BackendState::Up) => {
                wire::log_with!(info, [provider = name], "provider {name}: the backend is back");
            }
            // Recipes log that they run.
            _ => (),
        }
    }

    pub(super) fn report(&self) -> ProviderReport {
        let paused = self.queue.is_paused();
        let verb = if self.config.wake.is_some() { "sleeps" } else { "is away" };
        let away = format!("the backend {verb}: {}", self.health.reason());
        let (status, reason) = match (paused, self.health.backend_state(), self.config.wake.is_some()) {
            (true, ..) => (Status::Inactive, Some("paused by its owner")),
            (_, BackendState::Up, _) => (Status::Active, None),
            (_, BackendState::Asleep, _) => (Status::Hibernating, Some("it was put to sleep")),
            (_, BackendState::Down, true) => (Status::Hibernating, Some(away.as_str())),
            (_, BackendState::Down, false) => (Status::Inactive, Some(away.as_str())),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ProviderReport {
            status: ProviderStatus {
                name: self.config.wire_name.to_string(),
                status,
                in_flight: count(self.queue.running()),
                queued: count(self.queue.waiting()),
                max_concurrency: count(self.config.max_concurrency),
                // The heartbeat knows the way to the hub.
                ahead: 0,
                paused,
                paused_until: self.pause.and_then(|pause| pause.until),
            },
            reason: reason.map(str::to_owned),
            tasks_done: self.tasks_done,
            tasks_refused: self.tasks_refused,
            tokens_per_second: self.tokens_per_second,
            paused,
            pace: Pace { max_queue: count(self.config.max_queue), ..self.pace },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(steps: &[fn(&mut Health)]) -> BackendState {
        let mut health = Health::default();
        for step in steps {
            step(&mut health);
        }
        health.backend_state()
    }

    const AWAY: BackendHealth = BackendHealth::Away("nobody takes connections there");
    const SILENT: BackendHealth = BackendHealth::Silent("it does not answer in time");

    #[test]
    fn a_backend_put_to_sleep_counts_as_asleep_although_its_server_answers() {
        assert_eq!(
            after(&[|it| it.power_changed(false), |it| it.record_check(BackendHealth::Up, false)]),
            BackendState::Asleep
        );
        assert_eq!(after(&[|it| it.power_changed(false), |it| it.power_changed(true)]), BackendState::Up);
        assert_eq!(after(&[|it| it.power_changed(false), |it| it.observed(true)]), BackendState::Up);
    }

    #[test]
    fn a_sleeping_backend_that_was_away_and_returns_counts_as_awake() {
        let back: [fn(&mut Health); 3] = [
            |it| it.power_changed(false),
            |it| it.record_check(AWAY, false),
            |it| it.record_check(BackendHealth::Up, false),
        ];
        assert_eq!(after(&back[..2]), BackendState::Asleep);
        assert_eq!(after(&back), BackendState::Up);
    }

    #[test]
    fn a_refused_connection_is_an_outage_at_once() {
        assert_eq!(after(&[|it| it.record_check(AWAY, false)]), BackendState::Down);
        assert_eq!(after(&[|it| it.record_check(AWAY, false), |it| it.observed(true)]), BackendState::Up);
        assert_eq!(
            after(&[|it| it.observed(false), |it| it.record_check(SILENT, false)]),
            BackendState::Down
        );
    }

    #[test]
    fn three_unanswered_checks_in_a_row_are_an_outage() {
        let silent: fn(&mut Health) = |it| it.record_check(SILENT, false);
        assert_eq!(after(&[silent, silent]), BackendState::Up);
        assert_eq!(after(&[silent, silent, silent]), BackendState::Down);
        let up: fn(&mut Health) = |it| it.record_check(BackendHealth::Up, false);
        assert_eq!(after(&[silent, silent, up, silent, silent]), BackendState::Up);
        assert_eq!(after(&[silent, silent, |it| it.observed(true), silent]), BackendState::Up);
    }

    #[test]
    fn unanswered_checks_of_a_busy_backend_are_no_outage() {
        let busy: fn(&mut Health) = |it| it.record_check(SILENT, true);
        assert_eq!(after(&[busy; 9]), BackendState::Up);
    }
}
