//! The control channel: the `StreamActor` opens it, reads it and routes its tasks to the providers.
//!
//! The `SessionActor` gets a report of each loss and decides when to connect again. Streamed answers do not pass through
//! this module: see `provider/link_stream.rs`.

mod channel_events;
mod going;
mod handlers;
pub(crate) mod messages;
mod reading;
mod task_router;
mod upgrade;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, timeout};
use wire::{Features, SessionId};

use crate::hub_client::{ControlChannel, HubApi, HubError, HubErrorKind};
use crate::news::hub_news;
use crate::session::messages::{Register, SessionLost};
use crate::status::ChannelTransport;

use channel_events::events;
use messages::{ChannelLost, ChannelOpened, HubGoing, Restart};
pub(crate) use task_router::TaskRouter;

pub(crate) struct StreamLinks {
    /// `SessionActor`.
    pub(crate) register: Recipient<Register>,
    /// `SessionActor`.
    pub(crate) session_lost: Recipient<SessionLost>,
    /// `SessionActor`, which connects again after a delay.
    pub(crate) reconnect: Recipient<ChannelLost>,
    /// `SessionActor`, `HeartbeatActor` and the root.
    pub(crate) opened: Vec<Recipient<ChannelOpened>>,
    /// `HeartbeatActor` and the root.
    pub(crate) lost: Vec<Recipient<ChannelLost>>,
    /// The root.
    pub(crate) going: Recipient<HubGoing>,
}

/// Owns the connection of the control channel: SSE, or a link.
pub(crate) struct StreamActor {
    hub: Rc<dyn HubApi>,
    /// A channel without a byte for this long is dropped.
    idle_timeout: Duration,
    links: StreamLinks,
    // The router survives a crash, because the routes are not sent again.
    router: TaskRouter,
    lives: u64,
    state: StreamState,
}

/// State that a crash resets.
#[derive(Default)]
struct StreamState {
    connection: Option<Connection>,
    /// The last connection, while it finishes the tasks of a hub that shuts down; with its number.
    leaving: Option<(u64, Connection)>,
    /// Whether the hub did not know the last registered session, so that the next try waits.
    gone_before: bool,
    /// When a request for a channel began whose answer nobody may wait for any more.
    unanswered: Option<Instant>,
    /// Number of connections so far, by which events of earlier connections are recognized.
    attempt: u64,
    decoder: wire::sse::Decoder,
    discarded: u64,
}

/// A channel that is open or opening.
struct Connection {
    session: SessionId,
    reading: SpawnHandle,
    /// `None` until the hub has answered.
    open_since: Option<Instant>,
    stream_id: Option<String>,
    features: Features,
    transport: ChannelTransport,
    /// Set once the hub has said that it shuts down.
    restart: Option<Restart>,
}

impl Connection {
    /// A connection of `session` that `reading` opens.
    fn new(session: SessionId, reading: SpawnHandle) -> Self {
        Self {
            session,
            reading,
            open_since: None,
            stream_id: None,
            features: Features::CLASSIC,
            transport: ChannelTransport::Link,
            restart: None,
        }
    }

    fn is_link(&self) -> bool {
        self.open_since.is_some() && self.transport == ChannelTransport::Link
    }
}

impl StreamActor {
    /// Creates an actor that opens a channel when the first session is ready.
    pub(crate) fn new(
        hub: Rc<dyn HubApi>,
        idle_timeout: Duration,
        links: StreamLinks,
        router: TaskRouter,
    ) -> Self {
        Self { hub, idle_timeout, links, router, lives: 0, state: StreamState::default() }
    }

    fn open(&mut self, session: SessionId, ctx: &mut Context<Self>) {
        self.state.attempt += 1;
        self.state.decoder = wire::sse::Decoder::new();
        self.state.discarded = 0;
        let attempt = self.state.attempt;
        // A hub that never answers the request is given up like a silent channel.
        let (hub, id, limit) = (Rc::clone(&self.hub), session.clone(), self.idle_timeout);
        let opening = async move { timeout(limit, hub.open_channel(id)).await };
        let begun = Instant::now();
        let reading = ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| {
            if this.state.attempt == attempt {
                match result {
                    Ok(Ok(channel)) => this.opened(channel, ctx),
                    Ok(Err(error)) => this.not_opened(&error, ctx),
                    Err(_elapsed) => {
                        this.state.unanswered = Some(begun);
                        this.timed_out(ctx);
                    }
                }
            }
        }));
        self.state.connection = Some(Connection::new(session, reading));
    }

    fn opened(&mut self, channel: ControlChannel, ctx: &mut Context<Self>) {
        let attempt = self.state.attempt;
        let transport = match &channel {
            ControlChannel::Link(_) => ChannelTransport::Link,
            ControlChannel::Events { no_link, .. } => ChannelTransport::Sse(no_link.clone()),
        };
        let reading = events(channel, self.idle_timeout)
            .into_actor(self)
            .map(move |event, this, ctx| {
                if this.state.attempt == attempt {
                    this.channel_event(event, ctx);
                } else {
                    this.leaving_event(attempt, event);
                }
            })
            .finish();
        let reading = ctx.spawn(reading);
        let Some(connection) = &mut self.state.connection else { return };
        connection.reading = reading;
        connection.open_since = Some(Instant::now());
        self.state.gone_before = false;
        match &transport {
            ChannelTransport::Link => hub_news!(info, "channels opened", "control channel open: a link"),
            ChannelTransport::Sse(reason) => {
                hub_news!(info, "channels opened", "control channel open: SSE, because {reason}");
            }
        }
        let is_link = transport == ChannelTransport::Link;
        connection.transport = transport;
        self.announce(false);
        if !is_link {
            self.upgrade_later(ctx);
        }
    }

    fn announce(&self, hello: bool) {
        let Some(connection) = &self.state.connection else { return };
        let opened = ChannelOpened {
            session: connection.session.clone(),
            stream_id: connection.stream_id.clone(),
            features: connection.features,
            hello,
            transport: connection.transport.clone(),
        };
        for listener in &self.links.opened {
            listener.do_send(opened.clone());
        }
    }

    fn not_opened(&mut self, error: &HubError, ctx: &mut Context<Self>) {
        match error.kind() {
            HubErrorKind::Gone if !self.state.gone_before => {
                self.state.gone_before = true;
                if let Some(connection) = self.state.connection.take() {
                    self.links.session_lost.do_send(SessionLost { session: connection.session });
                }
            }
            kind => {
                let refused = matches!(kind, HubErrorKind::Conflict | HubErrorKind::Refused);
                self.give_up(error.to_string(), refused, error.retry_after(), ctx);
            }
        }
    }

    fn lost(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.give_up(reason.to_owned(), false, None, ctx);
    }

    /// Drops the channel and reports its loss. `retry_after` is the hint of a hub that did not open it.
    fn give_up(
        &mut self,
        reason: String,
        refused: bool,
        retry_after: Option<Duration>,
        ctx: &mut Context<Self>,
    ) {
        let open_since = self.state.connection.as_ref().and_then(|connection| connection.open_since);
        let is_link = self.state.connection.as_ref().is_some_and(Connection::is_link);
        let restart = self.state.connection.as_ref().and_then(|open| open.restart).filter(|_| !refused);
        let retry_field = self.state.decoder.retry_ms().map(Duration::from_millis);
        let retry_hint = if open_since.is_some() { retry_field } else { retry_after };
        let has_tasks = is_link && self.hub.has_link_tasks();
        self.drop_channel(ctx);
        let open_for = open_since.map(|since| since.elapsed());
        let lost = ChannelLost { reason, refused, open_for, retry_hint, is_link, has_tasks, restart };
        self.report_lost(&lost);
        self.links.reconnect.do_send(lost);
    }

    fn report_lost(&self, lost: &ChannelLost) {
        for listener in &self.links.lost {
            listener.do_send(lost.clone());
        }
    }

    /// Drops the connection. Its later events are ignored.
    fn drop_channel(&mut self, ctx: &mut Context<Self>) {
        self.state.attempt += 1;
        if let Some(connection) = self.state.connection.take() {
            ctx.cancel_future(connection.reading);
        }
    }
}

impl Actor for StreamActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // At the first start the `SessionActor` registers by itself.
        if self.lives > 0 {
            self.links.register.do_send(Register);
        }
        self.lives += 1;
    }
}

impl Supervised for StreamActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        if self.state.connection.is_some() {
            let (reason, refused) = ("crashed".to_owned(), false);
            let (open_for, retry_hint, is_link, has_tasks) = (None, None, false, false);
            let restart = None;
            self.report_lost(&ChannelLost {
                reason,
                refused,
                open_for,
                retry_hint,
                is_link,
                has_tasks,
                restart,
            });
        }
        self.state = StreamState::default();
    }
}
