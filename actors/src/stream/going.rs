//! A hub that shuts down: what follows its `going` (SPEC.md section 4.1).

use std::rc::Rc;

use actix::prelude::*;
use tokio::time::{Instant, timeout};
use wire::link::Going;

use super::channel_events::ChannelEvent;
use super::messages::{HubGoing, Restart};
use super::{Connection, StreamActor};
use crate::hub_client::{ControlChannel, LinkEvent};
use crate::news::hub_news;

impl StreamActor {
    /// The hub shuts down: tries to open a channel at another hub of the same address. The open one stays until it ends.
    pub(super) fn going(&mut self, going: Going, ctx: &mut Context<Self>) {
        let Some(connection) = &mut self.state.connection else { return };
        // A hub says it once. Later words of another one must not make this registrar try more often.
        if connection.restart.replace(Restart { going, since: Instant::now() }).is_some() {
            return;
        }
        hub_news!(
            info,
            "hub shuts down",
            "the hub shuts down: running tasks end on this channel, new ones come over the next one"
        );
        self.links.going.do_send(HubGoing);
        let attempt = self.state.attempt;
        ctx.run_later(going.delay(), move |this, ctx| {
            if this.state.attempt == attempt {
                this.open_ahead(ctx);
            }
        });
    }

    /// Opens a channel beside the open one. The hub that shuts down refuses it; then the open one goes on to its end.
    fn open_ahead(&mut self, ctx: &mut Context<Self>) {
        let Some(connection) = &self.state.connection else { return };
        let attempt = self.state.attempt;
        let (hub, id, limit) = (Rc::clone(&self.hub), connection.session.clone(), self.idle_timeout);
        let opening = async move { timeout(limit, hub.open_channel(id)).await };
        self.state.unanswered = Some(Instant::now());
        ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| match result {
            Ok(Ok(channel)) if this.state.attempt == attempt => {
                this.state.unanswered = None;
                this.move_to(channel, ctx);
            }
            Ok(Err(_)) => this.state.unanswered = None,
            // The older channel has ended, and another delay runs.
            Ok(Ok(_)) | Err(_) => (),
        }));
    }

    /// Takes new tasks from `channel`, and lets the open one finish its own.
    fn move_to(&mut self, channel: ControlChannel, ctx: &mut Context<Self>) {
        let Some(older) = self.state.connection.take() else { return };
        self.state.connection = Some(Connection::new(older.session.clone(), SpawnHandle::default()));
        if let Some((_, oldest)) = self.state.leaving.replace((self.state.attempt, older)) {
            ctx.cancel_future(oldest.reading);
        }
        self.state.attempt += 1;
        self.state.decoder = wire::sse::Decoder::new();
        self.state.discarded = 0;
        self.opened(channel, ctx);
    }

    /// Handles an event of the connection number `attempt`, if that is the one of a hub that shuts down.
    pub(super) fn leaving_event(&mut self, attempt: u64, event: ChannelEvent) {
        let Some((_, leaving)) = self.state.leaving.as_ref().filter(|(number, _)| *number == attempt) else {
            return;
        };
        match event {
            ChannelEvent::Link(LinkEvent::Task(data)) if !self.router.is_overrun() => {
                self.router.task(&data, leaving.features);
            }
            ChannelEvent::Link(LinkEvent::Cancel(id)) => self.router.cancel_task(&id),
            ChannelEvent::Closed | ChannelEvent::TimedOut | ChannelEvent::Link(LinkEvent::Broken(_)) => {
                self.state.leaving = None;
            }
            // The connection that replaced it counts.
            ChannelEvent::Bytes(_) | ChannelEvent::Link(_) => (),
        }
    }
}
