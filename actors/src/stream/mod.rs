//! The `StreamActor`: the control channel. Opens it, reads it, hands tasks on, and opens it again.

mod channel;
mod dispatch;
mod handlers;
pub mod messages;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, timeout};
use wire::{Feature, Features, SessionId};

use crate::backoff::ReconnectDelay;
use crate::changes::Changes;
use crate::hub_client::{Channel, HubApi, HubError, HubErrorKind};
use crate::news::news;
use crate::session::REFUSED_RETRY;
use crate::session::messages::{Register, SessionLost};
use crate::uplink::Agreed;

use channel::{Piece, pieces};
pub use dispatch::Dispatch;
use messages::{ChannelLost, ChannelOpened};

/// What the channel needs.
pub struct Config {
    /// The hub.
    pub hub: Rc<dyn HubApi>,
    /// A channel without a byte for so long is dropped.
    pub idle_timeout: Duration,
    /// The delays, shared with `SessionActor`: one connection, one rhythm.
    pub pace: Rc<RefCell<ReconnectDelay>>,
}

/// Who hears of it.
pub struct StreamLinks {
    /// `SessionActor`.
    pub register: Recipient<Register>,
    /// `SessionActor`.
    pub session_lost: Recipient<SessionLost>,
    /// `HeartbeatActor`, the root.
    pub opened: Vec<Recipient<ChannelOpened>>,
    /// `HeartbeatActor`, the root.
    pub lost: Vec<Recipient<ChannelLost>>,
}

/// Owns the SSE connection.
pub struct StreamActor {
    config: Config,
    links: StreamLinks,
    // These survive a crash: nobody would tell them again.
    dispatch: Dispatch,
    lives: u64,
    problem: Changes,
    state: State,
}

#[derive(Default)]
struct State {
    link: Link,
    /// The hub did not know the session that was just registered: no more haste.
    gone_before: bool,
    /// Counts attempts, so that what belongs to an older one means nothing.
    attempt: u64,
    decoder: wire::sse::Decoder,
    discarded: u64,
}

/// Where the channel stands.
#[derive(Default)]
enum Link {
    /// Nothing to do until there is a session.
    #[default]
    Down,
    /// Asked for; or being read.
    Up(Open),
    /// Waiting for the delay to be over.
    Waiting,
}

struct Open {
    session: SessionId,
    reading: SpawnHandle,
    /// `None` until the hub has answered.
    since: Option<Instant>,
    stream_id: Option<String>,
    agreed: Agreed,
}

impl StreamActor {
    /// A channel that opens with the first session.
    pub fn new(config: Config, links: StreamLinks, dispatch: Dispatch) -> Self {
        let (lives, problem, state) = (0, Changes::default(), State::default());
        Self { config, links, dispatch, lives, problem, state }
    }

    fn open(&mut self, session: SessionId, ctx: &mut Context<Self>) {
        self.state.attempt += 1;
        self.state.decoder = wire::sse::Decoder::new();
        self.state.discarded = 0;
        let attempt = self.state.attempt;
        // A hub that takes the request and says nothing is as silent as a channel without a byte.
        let opening = timeout(self.config.idle_timeout, self.config.hub.open_channel(session.clone()));
        let reading = ctx.spawn(opening.into_actor(self).map(move |result, this, ctx| {
            if this.state.attempt == attempt {
                match result {
                    Ok(Ok(channel)) => this.opened(channel, ctx),
                    Ok(Err(error)) => this.not_opened(&error, ctx),
                    Err(_) => this.silent(ctx),
                }
            }
        }));
        let (since, stream_id, agreed) = (None, None, Agreed::default());
        self.state.link = Link::Up(Open { session, reading, since, stream_id, agreed });
    }

    fn opened(&mut self, channel: Channel, ctx: &mut Context<Self>) {
        let attempt = self.state.attempt;
        let reading = pieces(channel, self.config.idle_timeout)
            .into_actor(self)
            .map(move |piece, this, ctx| {
                if this.state.attempt == attempt {
                    this.piece(piece, ctx);
                }
            })
            .finish();
        let reading = ctx.spawn(reading);
        let Link::Up(open) = &mut self.state.link else { return };
        open.reading = reading;
        open.since = Some(Instant::now());
        self.state.gone_before = false;
        self.problem.clear();
        news!(info, "channels opened", "the hub", "control channel open");
        self.announce(false);
    }

    fn announce(&self, hello: bool) {
        let Link::Up(open) = &self.state.link else { return };
        let opened = ChannelOpened {
            session: open.session.clone(),
            stream_id: open.stream_id.clone(),
            features: open.agreed.features,
            hello,
        };
        for listener in &self.links.opened {
            listener.do_send(opened.clone());
        }
    }

    fn piece(&mut self, piece: Piece, ctx: &mut Context<Self>) {
        match piece {
            Piece::Bytes(bytes) => {
                let mut rest: &[u8] = &bytes;
                while let Some(frame) = self.state.decoder.decode(&mut rest) {
                    if frame.event.as_deref() == Some("superseded") {
                        return self.superseded(ctx);
                    }
                    if frame.event.as_deref() == Some("task") && self.dispatch.is_overrun() {
                        return self.lost("the hub sends tasks faster than it takes their results", ctx);
                    }
                    self.event(frame.event.as_deref().unwrap_or_default(), &frame.data);
                }
                self.count_discarded();
            }
            Piece::Ended => self.lost("the hub closed the control channel", ctx),
            Piece::Silent => self.silent(ctx),
        }
    }

    fn silent(&mut self, ctx: &mut Context<Self>) {
        let silence = self.config.idle_timeout.as_secs_f64();
        self.lost(&format!("nothing came on the control channel for {silence} s"), ctx);
    }

    /// The hub gave the session to somebody else. This process has only one channel, so that is another one: it must
    /// not be taken back at once, or the two would take it from each other for ever.
    fn superseded(&mut self, ctx: &mut Context<Self>) {
        let reason = "another registrar uses the same session: give each machine a session file of its own";
        self.wait(reason.to_owned(), Some(REFUSED_RETRY), ctx);
    }

    fn event(&mut self, name: &str, data: &str) {
        let Link::Up(open) = &mut self.state.link else { return };
        match name {
            "task" => self.dispatch.task(data, open.agreed),
            "cancel" if open.agreed.features.has(Feature::Cancel) => self.dispatch.cancel(data),
            "hello" => {
                let hello = wire::features::Hello::parse(data);
                let features = Features::ALL.negotiated(hello.features());
                if features != Features::CLASSIC {
                    open.agreed = Agreed { features };
                    open.stream_id = hello.stream_id;
                    self.announce(true);
                }
            }
            // A newer hub may say more than we know.
            _ => {}
        }
    }

    fn count_discarded(&mut self) {
        let discarded = self.state.decoder.discarded();
        if discarded > self.state.discarded {
            news!(
                warn,
                "events left out",
                "the hub",
                "an event on the control channel was too long and was left out ({discarded} so far)"
            );
            self.state.discarded = discarded;
        }
    }

    fn not_opened(&mut self, error: &HubError, ctx: &mut Context<Self>) {
        if let Some(hint) = error.retry_after() {
            self.config.pace.borrow_mut().retry_after(hint);
        }
        let reason = error.to_string();
        match error.kind() {
            HubErrorKind::Gone if !self.state.gone_before => {
                self.state.gone_before = true;
                if let Link::Up(open) = std::mem::take(&mut self.state.link) {
                    self.links.session_lost.do_send(SessionLost { session: open.session });
                }
            }
            HubErrorKind::Gone | HubErrorKind::Retry => self.wait(reason, None, ctx),
            HubErrorKind::Conflict | HubErrorKind::Refused => self.wait(reason, Some(REFUSED_RETRY), ctx),
        }
    }

    /// An open channel is no more.
    fn lost(&mut self, reason: &str, ctx: &mut Context<Self>) {
        self.wait(reason.to_owned(), None, ctx);
    }

    /// Gives the channel up, and registers again after a delay: the hub's refusal fixes it, else the pace does.
    fn wait(&mut self, reason: String, refused: Option<Duration>, ctx: &mut Context<Self>) {
        let mut pace = self.config.pace.borrow_mut();
        if let Link::Up(Open { since: Some(since), .. }) = &self.state.link {
            pace.was_open(since.elapsed());
            let asked = self.state.decoder.retry_ms().unwrap_or(0);
            pace.retry_field(Duration::from_millis(asked));
        }
        let retry_in = refused.unwrap_or_else(|| pace.next_delay());
        drop(pace);
        self.drop_channel(ctx);
        if self.problem.is_news(&reason) {
            let seconds = retry_in.as_secs_f64();
            news!(
                warn,
                "channels lost",
                "the hub",
                "no control channel: {reason}; next try in {seconds:.1} s"
            );
        }
        self.tell_lost(&ChannelLost { reason, refused: refused.is_some(), retry_in });
        self.state.link = Link::Waiting;
        let attempt = self.state.attempt;
        ctx.run_later(retry_in, move |this, _| {
            if this.state.attempt == attempt && matches!(this.state.link, Link::Waiting) {
                this.state.link = Link::Down;
                this.links.register.do_send(Register);
            }
        });
    }

    fn tell_lost(&self, lost: &ChannelLost) {
        for listener in &self.links.lost {
            listener.do_send(lost.clone());
        }
    }

    /// Drops connection or attempt; what is still to come of it means nothing.
    fn drop_channel(&mut self, ctx: &mut Context<Self>) {
        self.state.attempt += 1;
        if let Link::Up(open) = std::mem::take(&mut self.state.link) {
            ctx.cancel_future(open.reading);
        }
    }
}

impl Actor for StreamActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // In the first life `SessionActor` registers by itself.
        if self.lives > 0 {
            self.links.register.do_send(Register);
        }
        self.lives += 1;
    }
}

impl Supervised for StreamActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        if matches!(self.state.link, Link::Up(_)) {
            let reason = "crashed".to_owned();
            self.tell_lost(&ChannelLost { reason, refused: false, retry_in: Duration::ZERO });
        }
        self.state = State::default();
    }
}
