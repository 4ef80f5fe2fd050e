//! What a provider knows of its backend, what it reports, and when the backend may sleep.

use std::time::Duration;

use actix::prelude::*;
use wire::register::ProviderStatus;
use wire::row::Status;

use super::ProviderActor;
use super::messages::ProviderReport;
use crate::wake::messages::PutToSleep;

/// Between two reports of changes. A busy provider changes with every task; the hub is told once a second.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What is known of the backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Health {
    /// Not asked yet: it counts as available until it says otherwise.
    #[default]
    Unknown,
    /// It answered.
    Up,
    /// It did not.
    Down,
}

impl Health {
    /// What was seen last is true.
    pub(super) fn saw(&mut self, up: bool) {
        *self = if up { Self::Up } else { Self::Down };
    }

    /// Whether a task should look before it calls.
    pub(super) fn is_asleep(self) -> bool {
        self == Self::Down
    }
}

impl ProviderActor {
    pub(super) fn watch_health(&mut self, ctx: &mut Context<Self>) {
        self.check_health(ctx);
        ctx.run_interval(self.links.check_every, Self::check_health);
    }

    pub(super) fn check_health(&mut self, ctx: &mut Context<Self>) {
        let asking = self.backend.available().into_actor(self);
        ctx.spawn(asking.map(|up, this, ctx| {
            this.state.health.saw(up);
            this.changed(ctx);
        }));
    }

    /// Tells the listeners, if there is something new, soon.
    pub(super) fn changed(&mut self, ctx: &mut Context<Self>) {
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

    pub(super) fn report(&self) -> ProviderReport {
        let paused = self.gate.is_paused();
        let down = self.state.health == Health::Down;
        let (status, reason) = match (paused, down, self.config.wake.is_some()) {
            (true, ..) => (Status::Inactive, Some("paused by its owner")),
            (_, false, _) => (Status::Active, None),
            (_, true, true) => (Status::Hibernating, Some("the backend sleeps")),
            (_, true, false) => (Status::Inactive, Some("the backend does not answer")),
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        ProviderReport {
            status: ProviderStatus {
                name: self.config.wire_name.to_string(),
                status,
                in_flight: count(self.gate.running()),
                queued: count(self.gate.waiting()),
                max_concurrency: count(self.config.max_concurrency),
            },
            reason: reason.map(str::to_owned),
            tasks_done: self.tasks_done,
            tokens_per_second: self.tokens_per_second,
            paused,
        }
    }

    /// With nothing to do for `idleSeconds`, the backend may sleep.
    pub(super) fn rest_when_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(idle) = self.config.sleep.as_ref().and_then(|sleep| sleep.idle) else { return };
        if !self.gate.is_idle() || self.state.health == Health::Down {
            return;
        }
        self.state.idle_turn += 1;
        let turn = self.state.idle_turn;
        ctx.run_later(idle, move |this, ctx| {
            // A later turn has a timer of its own.
            if this.gate.is_idle() && this.state.idle_turn == turn {
                this.put_to_sleep(ctx);
            }
        });
    }

    fn put_to_sleep(&mut self, ctx: &mut Context<Self>) {
        let name = self.config.name.clone();
        let asking =
            self.links.put_to_sleep.send(PutToSleep { wire_name: self.config.wire_name.to_string() });
        ctx.spawn(asking.into_actor(self).map(move |slept, this, ctx| match slept {
            Ok(Ok(())) => {
                log::info!("provider {name} sleeps: nothing to do");
                this.state.health.saw(false);
                this.changed(ctx);
            }
            Ok(Err(reason)) => {
                log::warn!("provider {name} cannot be put to sleep: {reason}");
                this.rest_when_idle(ctx);
            }
            Err(_) => this.rest_when_idle(ctx),
        }));
    }
}
