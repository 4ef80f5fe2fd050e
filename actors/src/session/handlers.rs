//! Message handlers of the `SessionActor`.

use actix::prelude::*;
use tokio::time::Instant;

use super::messages::{Publish, Register, RetryNow, SessionLost};
use super::{REFUSED_RETRY, RetryCause, SessionActor};
use crate::backoff::GOOD_AFTER;
use crate::news::hub_news;
use crate::stream::messages::{ChannelLost, ChannelOpened};

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

    fn handle(&mut self, _: ChannelOpened, _: &mut Self::Context) {
        self.channel_problem.clear();
    }
}

impl Handler<ChannelLost> for SessionActor {
    type Result = ();

    /// Registers after a delay. A registration that runs or is pending opens the channel by itself.
    fn handle(&mut self, lost: ChannelLost, ctx: &mut Self::Context) {
        let delay = &mut self.config.delay;
        delay.channel_lost(lost.open_for, lost.retry_hint);
        if lost.is_link {
            delay.link_lost(lost.open_for);
        }
        let delay = if lost.refused { REFUSED_RETRY } else { delay.next_delay() };
        if self.channel_problem.is_change(&lost.reason) {
            let (reason, seconds) = (lost.reason, delay.as_secs_f64());
            hub_news!(warn, "channels lost", "no control channel: {reason}; next try in {seconds:.1} s");
        }
        if !self.state.running && !self.is_registration_pending() {
            self.register_in(delay, RetryCause::Channel, ctx);
        }
    }
}

impl Handler<Publish> for SessionActor {
    type Result = ();

    fn handle(&mut self, published: Publish, ctx: &mut Self::Context) {
        self.published = published;
        if self.published.providers.is_empty() {
            self.state.pending = None;
        } else if self.state.running {
            self.state.again = true;
        } else {
            self.register(ctx);
        }
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
