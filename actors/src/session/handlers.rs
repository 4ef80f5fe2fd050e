//! Message handlers of the `SessionActor`.

use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::messages::{BackendReturned, Publish, Register, RetryNow, SessionLost};
use super::{REFUSED_RETRY, REGISTER_AFTER, REGISTER_SPREAD, RESTART, RetryCause, SessionActor};
use crate::backoff::GOOD_AFTER;
use crate::news::hub_news;
use crate::stream::messages::{ChannelLost, ChannelOpened, Restart};

impl Handler<Register> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Register, ctx: &mut Self::Context) {
        if !self.is_registration_pending() {
            self.register(ctx);
        }
    }
}

impl Handler<SessionLost> for SessionActor {
    type Result = ();

    fn handle(&mut self, lost: SessionLost, ctx: &mut Self::Context) {
        let is_current = self.id.as_ref() == Some(&lost.session);
        if !is_current || self.is_registration_pending() || self.state.running {
            return;
        }
        self.state.reopen = true;
        let now = Instant::now();
        let before = self.state.lost_at.replace(now);
        // A hub that loses each session at once must not be called in a tight loop.
        if before.is_some_and(|at| now - at < GOOD_AFTER) {
            let delay = self.config.delay.next_delay();
            let seconds = delay.as_secs_f64();
            hub_news!(
                warn,
                "sessions lost at once",
                "the hub dropped the session right after registration; next try in {seconds:.1} s"
            );
            self.register_in(delay, RetryCause::Registration, ctx);
        } else {
            hub_news!(info, "sessions lost", "the hub dropped this session: registering again");
            self.register(ctx);
        }
    }
}

impl Handler<ChannelOpened> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: ChannelOpened, ctx: &mut Self::Context) {
        self.channel_problem.clear();
        self.state.link.restart = None;
        if std::mem::take(&mut self.state.link.is_unregistered) && self.state.pending.is_none() {
            // The hub may have restarted with other data, and another session may have taken a name over.
            let delay = REGISTER_AFTER + self.config.delay.random_part(REGISTER_SPREAD);
            self.register_in(delay, RetryCause::Channel, ctx);
        }
    }
}

impl Handler<ChannelLost> for SessionActor {
    type Result = ();

    /// Registers after a delay. A registration that runs or is pending opens the channel by itself.
    fn handle(&mut self, lost: ChannelLost, ctx: &mut Self::Context) {
        if let Some(delay) = self.restart_delay(&lost) {
            if !self.state.running && !self.is_registration_pending() {
                self.register_in(delay, RetryCause::Link, ctx);
            }
            return;
        }
        let delay = &mut self.config.delay;
        delay.channel_lost(lost.open_for, lost.retry_hint);
        let is_quick = lost.is_link && delay.link_lost(lost.open_for, lost.has_tasks) && !lost.refused;
        let delay = if lost.refused { REFUSED_RETRY } else { delay.next_delay() };
        if self.channel_problem.is_change(&lost.reason) {
            let (reason, seconds) = (lost.reason, delay.as_secs_f64());
            hub_news!(warn, "channels lost", "no control channel: {reason}; next try in {seconds:.1} s");
        }
        if !self.state.running && !self.is_registration_pending() {
            let cause = if is_quick { RetryCause::Link } else { RetryCause::Channel };
            self.register_in(delay, cause, ctx);
        }
    }
}

impl SessionActor {
    /// The delay of the next try at a hub that restarts; `None` for any other loss.
    fn restart_delay(&mut self, lost: &ChannelLost) -> Option<Duration> {
        let now = Instant::now();
        let next = |restart: Restart| restart.going.until_next(now - restart.since);
        if let Some(restart) = lost.restart {
            self.state.link.restart = Some((restart, now + RESTART));
            return Some(next(restart));
        }
        let (restart, until) = self.state.link.restart.take()?;
        // A channel that was open has ended the restart, and a refusal is not the answer of a hub that restarts.
        if lost.open_for.is_some() || lost.refused || now >= until {
            return None;
        }
        self.state.link.restart = Some((restart, until));
        Some(next(restart))
    }
}

impl Handler<Publish> for SessionActor {
    type Result = ();

    fn handle(&mut self, published: Publish, ctx: &mut Self::Context) {
        self.published = published;
        self.learned.retain(&self.published.providers);
        if self.published.providers.is_empty() {
            self.state.pending = None;
        } else if self.state.running {
            self.state.again = true;
        } else {
            self.register(ctx);
        }
    }
}

impl Handler<BackendReturned> for SessionActor {
    type Result = ();

    fn handle(&mut self, BackendReturned(config): BackendReturned, ctx: &mut Self::Context) {
        self.state.questions.reset();
        self.learned.doubt(&config);
        self.ask_abilities(ctx);
    }
}

impl Handler<RetryNow> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: RetryNow, ctx: &mut Self::Context) {
        if self.state.pending.is_some() {
            self.register(ctx);
        }
    }
}
