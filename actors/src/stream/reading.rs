//! What comes on the open channel: events of SSE, or of a link.

use std::time::Duration;

use actix::prelude::*;
use wire::{Feature, Features};

use super::StreamActor;
use super::channel_events::ChannelEvent;
use crate::hub_client::LinkEvent;
use crate::news::hub_news;

/// Time for which a hub may answer a request for a channel that was given up: twice its time limit, which is 60 s by default.
const LATE: Duration = Duration::from_mins(2);

const OVERRUN: &str = "the hub sends tasks faster than it takes their results";

impl StreamActor {
    pub(super) fn channel_event(&mut self, event: ChannelEvent, ctx: &mut Context<Self>) {
        match event {
            ChannelEvent::Bytes(bytes) => {
                let mut rest: &[u8] = &bytes;
                while let Some(frame) = self.state.decoder.decode(&mut rest) {
                    if frame.event.as_deref() == Some("superseded") {
                        return self.superseded(ctx);
                    }
                    if frame.event.as_deref() == Some("task") && self.router.is_overrun() {
                        return self.lost(OVERRUN, ctx);
                    }
                    self.frame(frame.event.as_deref().unwrap_or_default(), &frame.data);
                }
                self.count_discarded();
            }
            ChannelEvent::Link(event) => self.link_event(event, ctx),
            ChannelEvent::Closed => self.lost("the hub closed the control channel", ctx),
            ChannelEvent::TimedOut => self.timed_out(ctx),
        }
    }

    fn link_event(&mut self, event: LinkEvent, ctx: &mut Context<Self>) {
        match event {
            LinkEvent::Hello { features, stream_id } => self.hello(features, Some(stream_id)),
            LinkEvent::Task(_) if self.router.is_overrun() => self.lost(OVERRUN, ctx),
            LinkEvent::Task(data) => {
                let features = self.state.connection.as_ref().map(|connection| connection.features);
                self.router.task(&data, features.unwrap_or_default());
            }
            LinkEvent::Cancel(id) => self.router.cancel_task(&id),
            LinkEvent::Superseded => self.superseded(ctx),
            LinkEvent::Going(going) => self.going(going, ctx),
            LinkEvent::Alive => (),
            LinkEvent::Broken(reason) => self.lost(reason, ctx),
        }
    }

    /// Takes the features of the hub's hello.
    fn hello(&mut self, features: Features, stream_id: Option<String>) {
        let Some(connection) = &mut self.state.connection else { return };
        let features = Features::ALL.negotiated(features);
        if features != Features::CLASSIC {
            connection.features = features;
            connection.stream_id = stream_id;
            self.announce(true);
        }
    }

    fn frame(&mut self, event: &str, data: &str) {
        let Some(connection) = &mut self.state.connection else { return };
        match event {
            "task" => self.router.task(data, connection.features),
            "cancel" if connection.features.has(Feature::Cancel) => self.router.cancel(data),
            "hello" => {
                let hello = wire::features::Hello::parse(data);
                self.hello(hello.features(), hello.stream_id);
            }
            // Newer hubs may send other events.
            _ => {}
        }
    }

    /// Another process took the session over. It counts as a refusal: two registrars that reconnected at once would take
    /// the session from each other forever. It may also have been a late answer to this registrar, which then comes back soon.
    fn superseded(&mut self, ctx: &mut Context<Self>) {
        if self.state.unanswered.take().is_some_and(|since| since.elapsed() < LATE) {
            return self.lost("the hub opened the channel of an earlier request, which came late", ctx);
        }
        let reason = "another registrar uses the same session: give each machine a session file of its own";
        self.give_up(reason.to_owned(), true, None, ctx);
    }

    pub(super) fn timed_out(&mut self, ctx: &mut Context<Self>) {
        let silence = self.idle_timeout.as_secs_f64();
        self.lost(&format!("nothing came on the control channel for {silence} s"), ctx);
    }

    fn count_discarded(&mut self) {
        let discarded = self.state.decoder.discarded();
        if discarded > self.state.discarded {
            hub_news!(
                warn,
                "events left out",
                "an event on the control channel was too long and was left out ({discarded} so far)"
            );
            self.state.discarded = discarded;
        }
    }
}
