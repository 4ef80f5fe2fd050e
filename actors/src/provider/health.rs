//! What a provider knows of its backend, what it reports, and when the backend may sleep.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;
use wire::register::ProviderStatus;
use wire::row::Status;

use super::ProviderActor;
use super::messages::ProviderReport;
use crate::backend::BackendHealth;
use crate::wake::messages::PutToSleep;

/// Between two reports of changes. A busy provider changes with every task; the hub is told once a second.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// Checks in a row that went unanswered before the backend counts as away: its owner may use the model meanwhile.
const MAX_SILENT: u32 = 3;

/// What is known of the backend. Pure.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Why it is away; `None` while it is there. Not asked yet, it counts as available until it says otherwise.
    away: Option<&'static str>,
    /// Checks in a row without an answer.
    silent: u32,
    /// We put it to sleep. Its server may well answer meanwhile: it sleeps until it is woken, or has been away and is
    /// back, which means that somebody else woke it.
    slept: Option<Slept>,
}

#[derive(Debug, Default)]
struct Slept {
    was_away: bool,
}

/// On the way to `idleSeconds`.
#[derive(Debug, Default)]
pub(super) struct ProbeDelay {
    /// When the last task ended.
    idle_since: Option<Instant>,
    /// The timer that looks at it.
    pub(super) timer: Option<SpawnHandle>,
    /// Whether the sleep recipe runs.
    pub(super) begins: bool,
}

/// How a backend stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackendState {
    /// It answers, as far as is known.
    Up,
    /// It did not answer when it was last asked.
    Down,
    /// We put it to sleep.
    Asleep,
}

impl Health {
    /// Takes in a check. `busy`: tasks ran meanwhile, and a backend at work may have no time to answer.
    pub(super) fn looked(&mut self, look: BackendHealth, busy: bool) {
        self.away = match look {
            BackendHealth::Up => None,
            // Its tasks will tell.
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
        match &mut self.slept {
            Some(slept) if self.away.is_some() => slept.was_away = true,
            Some(slept) if slept.was_away => self.slept = None,
            _ => (),
        }
    }

    /// Takes in that a task reached the backend, or did not.
    pub(super) fn met(&mut self, up: bool) {
        self.silent = 0;
        self.away = (!up).then_some("a task could not reach it");
        if up {
            self.slept = None;
        }
    }

    /// Takes in that a recipe woke it, or put it to sleep.
    pub(super) fn turned(&mut self, awake: bool) {
        self.silent = 0;
        self.slept = (!awake).then(Slept::default);
        self.away = (!awake).then_some("it was put to sleep");
    }

    pub(super) fn backend_state(&self) -> BackendState {
        match (&self.slept, self.away) {
            (Some(_), _) => BackendState::Asleep,
            (None, Some(_)) => BackendState::Down,
            (None, None) => BackendState::Up,
        }
    }

    /// Why it is away, for people.
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
        let asking = self.backend.health().into_actor(self);
        self.state.check = Some(ctx.spawn(asking.map(|look, this, ctx| {
            this.state.check = None;
            this.health.looked(look, this.admission.running() > 0);
            this.changed(ctx);
        })));
    }

    /// Tells the listeners, if there is something new, soon.
    pub(super) fn changed(&mut self, ctx: &mut Context<Self>) {
        self.log_standing();
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

    /// Logs each change of mind about the backend, once.
    fn log_standing(&mut self) {
        let backend_state = self.health.backend_state();
        let before = std::mem::replace(&mut self.stood, backend_state);
        let name = &self.config.name;
        match (before, backend_state) {
            // One that can be woken is not missed.
            (BackendState::Up, BackendState::Down) if self.config.wake.is_some() => {
                log::info!("provider {name} sleeps: {}", self.health.reason());
            }
            (BackendState::Up, BackendState::Down) => {
                log::warn!("provider {name}: the backend is away: {}", self.health.reason());
            }
            (BackendState::Down, BackendState::Up) => log::info!("provider {name}: the backend is back"),
            // A recipe's own lines tell of sleep.
            _ => (),
        }
    }

    pub(super) fn report(&self) -> ProviderReport {
        let paused = self.admission.is_paused();
        let word = if self.config.wake.is_some() { "sleeps" } else { "is away" };
        let away = format!("the backend {word}: {}", self.health.reason());
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
                in_flight: count(self.admission.running()),
                queued: count(self.admission.waiting()),
                max_concurrency: count(self.config.max_concurrency),
                paused,
                paused_until: self.pause.and_then(|pause| pause.until),
            },
            reason: reason.map(str::to_owned),
            tasks_done: self.tasks_done,
            tokens_per_second: self.tokens_per_second,
            paused,
        }
    }

    /// With nothing to do for `idleSeconds`, the backend may sleep. Called whenever it may have become idle.
    pub(super) fn rest_when_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(idle) = self.config.sleep.as_ref().and_then(|sleep| sleep.idle) else { return };
        if self.admission.is_idle() && self.health.backend_state() == BackendState::Up {
            self.state.rest.idle_since = Some(Instant::now());
            self.watch_idleness(idle, ctx);
        }
    }

    /// One timer, however often it becomes idle: at its end it looks how long it has been.
    fn watch_idleness(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if self.state.rest.timer.is_some() {
            return;
        }
        self.state.rest.timer = Some(ctx.run_later(wait, |this, ctx| {
            this.state.rest.timer = None;
            let idle = this.config.sleep.as_ref().and_then(|sleep| sleep.idle);
            let (Some(idle), Some(since)) = (idle, this.state.rest.idle_since) else { return };
            if !this.admission.is_idle() || this.health.backend_state() != BackendState::Up {
                return;
            }
            match idle.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
                Some(left) => this.watch_idleness(left, ctx),
                None => this.put_to_sleep(ctx),
            }
        }));
    }

    fn put_to_sleep(&mut self, ctx: &mut Context<Self>) {
        let name = self.config.name.clone();
        let asking =
            self.links.put_to_sleep.send(PutToSleep { wire_name: self.config.wire_name.to_string() });
        // A task that arrives meanwhile waits: half asleep, a backend answers nobody.
        self.state.rest.begins = true;
        ctx.spawn(asking.into_actor(self).map(move |slept, this, ctx| {
            this.state.rest.begins = false;
            match slept {
                Ok(Ok(())) => {
                    log::info!("provider {name} sleeps: nothing to do");
                    this.health.turned(false);
                }
                Ok(Err(reason)) => {
                    log::warn!("provider {name} cannot be put to sleep: {reason}");
                    this.rest_when_idle(ctx);
                }
                Err(_) => this.rest_when_idle(ctx),
            }
            this.start_next(ctx);
        }));
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
    fn a_backend_that_was_put_to_sleep_sleeps_though_its_server_answers() {
        assert_eq!(
            after(&[|it| it.turned(false), |it| it.looked(BackendHealth::Up, false)]),
            BackendState::Asleep
        );
        assert_eq!(after(&[|it| it.turned(false), |it| it.turned(true)]), BackendState::Up);
        assert_eq!(after(&[|it| it.turned(false), |it| it.met(true)]), BackendState::Up);
    }

    #[test]
    fn one_that_was_away_and_is_back_was_woken_by_somebody_else() {
        let back: [fn(&mut Health); 3] =
            [|it| it.turned(false), |it| it.looked(AWAY, false), |it| it.looked(BackendHealth::Up, false)];
        assert_eq!(after(&back[..2]), BackendState::Asleep);
        assert_eq!(after(&back), BackendState::Up);
    }

    #[test]
    fn a_refused_connection_is_an_outage_at_once_and_silence_after_three_checks_in_a_row() {
        assert_eq!(after(&[|it| it.looked(AWAY, false)]), BackendState::Down);
        let silent: fn(&mut Health) = |it| it.looked(SILENT, false);
        assert_eq!(after(&[silent, silent]), BackendState::Up);
        assert_eq!(after(&[silent, silent, silent]), BackendState::Down);
        assert_eq!(
            after(&[silent, silent, |it| it.looked(BackendHealth::Up, false), silent, silent]),
            BackendState::Up
        );
        assert_eq!(after(&[silent, silent, |it| it.met(true), silent]), BackendState::Up);
        let busy: fn(&mut Health) = |it| it.looked(SILENT, true);
        assert_eq!(after(&[busy; 9]), BackendState::Up, "one at work has no time to answer");
        assert_eq!(after(&[|it| it.looked(AWAY, false), |it| it.met(true)]), BackendState::Up);
        assert_eq!(after(&[|it| it.met(false), silent]), BackendState::Down);
    }
}
