//! Sleep of a backend after `idleSeconds` without a task.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::ProviderActor;
use super::health::BackendState;
use crate::wake::messages::PutToSleep;

/// Counts down to `idleSeconds`.
#[derive(Debug, Default)]
pub(super) struct IdleTimer {
    /// When the last task ended.
    idle_since: Option<Instant>,
    pub(super) timer: Option<SpawnHandle>,
    /// Whether the sleep recipe runs.
    pub(super) falling_asleep: bool,
}

impl ProviderActor {
    /// Starts the idle timer if the provider is idle. Called whenever the provider may have become idle.
    pub(super) fn sleep_when_idle(&mut self, ctx: &mut Context<Self>) {
        let Some(idle) = self.config.sleep.as_ref().and_then(|sleep| sleep.idle) else { return };
        if self.queue.is_idle() && self.health.backend_state() == BackendState::Up {
            self.state.idle.idle_since = Some(Instant::now());
            self.start_idle_timer(idle, ctx);
        }
    }

    /// Starts the idle timer. If a task ran before it fires, it is started again for the rest of `idleSeconds`.
    fn start_idle_timer(&mut self, wait: Duration, ctx: &mut Context<Self>) {
        if self.state.idle.timer.is_some() {
            return;
        }
        self.state.idle.timer = Some(ctx.run_later(wait, |this, ctx| {
            this.state.idle.timer = None;
            let idle = this.config.sleep.as_ref().and_then(|sleep| sleep.idle);
            let (Some(idle), Some(since)) = (idle, this.state.idle.idle_since) else { return };
            if !this.queue.is_idle() || this.health.backend_state() != BackendState::Up {
                return;
            }
            match idle.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
                Some(left) => this.start_idle_timer(left, ctx),
                None => this.put_to_sleep(ctx),
            }
        }));
    }

    fn put_to_sleep(&mut self, ctx: &mut Context<Self>) {
        let name = self.config.name.clone();
        let request =
            self.links.put_to_sleep.send(PutToSleep { wire_name: self.config.wire_name.to_string() });
        // Tasks wait while the sleep recipe runs, because the backend may not answer then.
        self.state.idle.falling_asleep = true;
        ctx.spawn(request.into_actor(self).map(move |slept, this, ctx| {
            this.state.idle.falling_asleep = false;
            match slept {
                Ok(Ok(())) => {
                    wire::log_with!(info, [provider = name], "provider {name} sleeps: it was idle");
                    this.health.power_changed(false);
                }
                Ok(Err(reason)) => {
                    wire::log_with!(
                        warn,
                        [provider = name],
                        "provider {name} cannot be put to sleep: {reason}"
                    );
                    this.sleep_when_idle(ctx);
                }
                Err(_) => this.sleep_when_idle(ctx),
            }
            this.start_next(ctx);
        }));
    }
}
