//! From SSE to a link, once one may be tried again (SPEC.md section 4.1).

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, timeout};

use super::{Connection, StreamActor};
use crate::hub_client::ControlChannel;

/// Least time between two tries, and between two looks whether tasks run.
const INTERVAL: Duration = Duration::from_secs(10);

impl StreamActor {
    /// Tries a link in place of the open SSE channel, as soon as one may be tried.
    pub(super) fn upgrade_later(&self, ctx: &mut Context<Self>) {
        if let Some(at) = self.hub.next_upgrade() {
            self.upgrade_in(at.saturating_duration_since(Instant::now()), ctx);
        }
    }

    fn upgrade_in(&self, delay: Duration, ctx: &mut Context<Self>) {
        let attempt = self.state.attempt;
        ctx.run_later(delay.max(INTERVAL), move |this, ctx| {
            if this.state.attempt == attempt {
                this.upgrade(ctx);
            }
        });
    }

    fn upgrade(&mut self, ctx: &mut Context<Self>) {
        let Some(connection) = &self.state.connection else { return };
        // A task ends on the channel on which it came.
        if self.router.has_tasks() {
            return self.upgrade_in(INTERVAL, ctx);
        }
        let attempt = self.state.attempt;
        let (hub, id, limit) = (Rc::clone(&self.hub), connection.session.clone(), self.idle_timeout);
        let opening = async move { timeout(limit, hub.upgrade(id)).await };
        self.state.unanswered = Some(Instant::now());
        ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| {
            if this.state.attempt != attempt {
                return;
            }
            match result {
                Ok(Some(channel)) => {
                    this.state.unanswered = None;
                    this.replace(channel, ctx);
                }
                _ => this.upgrade_later(ctx),
            }
        }));
    }

    /// Goes on with `channel` in place of the open one.
    fn replace(&mut self, channel: ControlChannel, ctx: &mut Context<Self>) {
        let Some(session) = self.state.connection.as_ref().map(|open| open.session.clone()) else { return };
        self.drop_channel(ctx);
        self.state.decoder = wire::sse::Decoder::new();
        self.state.discarded = 0;
        self.state.connection = Some(Connection::new(session, SpawnHandle::default()));
        self.opened(channel, ctx);
    }
}
