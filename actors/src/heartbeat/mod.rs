//! The `HeartbeatActor`: tells the hub that we live, whatever the control channel does.

pub mod messages;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::Instant;
use wire::register::{Heartbeat, ProviderStatus};
use wire::row::Timestamp;
use wire::{Feature, SessionId};

use crate::changes::Changes;
use crate::hub_client::{HubApi, HubError, HubErrorKind};
use crate::news::news;
use crate::provider::messages::{GetReport, ProviderReport};
use crate::session::messages::{SessionLost, SessionReady};
use crate::stream::messages::{ChannelLost, ChannelOpened, StreamUnknown};

use messages::{Beat, BeatOutcome, SetReporters, StopBeats};

/// SPEC.md section 4, `status`: a change is told at most once a second.
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// A provider that does not say how it is within this is left out of one beat.
const REPORT_LIMIT: Duration = Duration::from_millis(500);

/// What the heartbeat needs.
pub struct Config {
    /// The hub.
    pub hub: Rc<dyn HubApi>,
    /// Between two beats.
    pub interval: Duration,
}

/// Who hears of it.
pub struct HeartbeatLinks {
    /// `SessionActor`.
    pub session_lost: Recipient<SessionLost>,
    /// `StreamActor`.
    pub stream_unknown: Recipient<StreamUnknown>,
    /// The root.
    pub outcome: Recipient<BeatOutcome>,
}

/// Beats every 30 s, after each reconnect, at every poll of a wake, and on change. Never two in flight.
pub struct HeartbeatActor {
    config: Config,
    links: HeartbeatLinks,
    // These survive a crash: nobody would tell them again.
    session: Option<SessionId>,
    channel: Option<ChannelOpened>,
    reporters: Vec<Recipient<GetReport>>,
    problem: Changes,
    state: State,
}

#[derive(Default)]
struct State {
    in_flight: bool,
    /// The channel was opened while one was in flight, which may hang on the old connection's trouble.
    again: bool,
    /// When a change was told last, and whether a timer for the next one runs.
    told_at: Option<Instant>,
    change_due: bool,
    /// What each provider said last, as far as the hub cares.
    known: Vec<ProviderStatus>,
}

impl HeartbeatActor {
    /// A heart that begins to beat with the first session.
    pub fn new(config: Config, links: HeartbeatLinks) -> Self {
        Self {
            config,
            links,
            session: None,
            channel: None,
            reporters: Vec::new(),
            problem: Changes::default(),
            state: State::default(),
        }
    }

    /// The next tick is armed when this one begins, so that a slow hub does not stretch the interval, and never more
    /// than one, so that a suspended machine has no burst to catch up with.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(self.config.interval, |this, ctx| {
            this.tick(ctx);
            this.beat(ctx);
        });
    }

    fn has_status(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.features.has(Feature::Status))
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session.clone() else { return };
        if self.state.in_flight {
            return;
        }
        self.state.in_flight = true;
        let channel = self.channel.clone().filter(|_| self.has_status());
        let stream_id = channel.and_then(|channel| channel.stream_id);
        let reporters = if self.has_status() { self.reporters.clone() } else { Vec::new() };
        let with_status = self.has_status();
        let hub = Rc::clone(&self.config.hub);
        let beating = async move {
            let providers = if with_status { Some(ask(&reporters).await) } else { None };
            let beat = Heartbeat {
                provider_session_id: session.to_string(),
                stream_id: stream_id.clone(),
                providers,
            };
            (hub.heartbeat(beat).await, session, stream_id)
        };
        ctx.spawn(beating.into_actor(self).map(|(result, session, stream_id), this, ctx| {
            this.state.in_flight = false;
            match result {
                Ok(()) => this.accepted(),
                Err(error) => this.failed(&error, session, stream_id),
            }
            if std::mem::take(&mut this.state.again) {
                this.beat(ctx);
            }
        }));
    }

    fn accepted(&mut self) {
        if self.problem.clear() {
            news!(info, "heartbeats accepted again", "the hub", "the hub accepts heartbeats again");
        }
        let at = Timestamp(jiff::Timestamp::now().as_millisecond());
        self.links.outcome.do_send(BeatOutcome::Accepted { at });
    }

    fn failed(&mut self, error: &HubError, session: SessionId, stream_id: Option<String>) {
        let reason = error.to_string();
        if self.problem.is_news(&reason) {
            news!(warn, "heartbeats refused", "the hub", "heartbeat not accepted: {reason}");
        }
        match (error.kind(), stream_id) {
            (HubErrorKind::Gone, _) => self.links.session_lost.do_send(SessionLost { session }),
            (HubErrorKind::Conflict, Some(stream_id)) => {
                self.links.stream_unknown.do_send(StreamUnknown { stream_id });
            }
            _ => {}
        }
        self.links.outcome.do_send(BeatOutcome::Failed { reason });
    }

    /// At most once a second; what changes meanwhile goes with the next one.
    fn tell_change(&mut self, ctx: &mut Context<Self>) {
        if !self.has_status() || self.state.change_due {
            return;
        }
        let since = self.state.told_at.map_or(CHANGE_INTERVAL, |at| at.elapsed());
        self.state.change_due = true;
        ctx.run_later(CHANGE_INTERVAL.saturating_sub(since), |this, ctx| {
            this.state.change_due = false;
            this.state.told_at = Some(Instant::now());
            if this.state.in_flight {
                this.state.again = true;
            } else {
                this.beat(ctx);
            }
        });
    }
}

/// What each provider says of itself. One that is just crashing says nothing.
async fn ask(reporters: &[Recipient<GetReport>]) -> Vec<ProviderStatus> {
    let asked = reporters.iter().map(|reporter| reporter.send(GetReport).timeout(REPORT_LIMIT));
    join_all(asked).await.into_iter().flatten().map(|report| report.status).collect()
}

impl Actor for HeartbeatActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

impl Supervised for HeartbeatActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.state = State::default();
    }
}

impl Handler<SessionReady> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, ready: SessionReady, _: &mut Self::Context) {
        self.session = Some(ready.session);
    }
}

impl Handler<ChannelOpened> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, opened: ChannelOpened, ctx: &mut Self::Context) {
        let hello = opened.hello;
        self.session = Some(opened.session.clone());
        self.channel = Some(opened);
        if hello {
            self.tell_change(ctx);
        } else if self.state.in_flight {
            self.state.again = true;
        } else {
            self.beat(ctx);
        }
    }
}

impl Handler<ChannelLost> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: ChannelLost, _: &mut Self::Context) {
        self.channel = None;
    }
}

impl Handler<Beat> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Beat, ctx: &mut Self::Context) {
        self.beat(ctx);
    }
}

impl Handler<StopBeats> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: StopBeats, _: &mut Self::Context) {
        self.session = None;
        self.channel = None;
    }
}

impl Handler<SetReporters> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, SetReporters(reporters): SetReporters, ctx: &mut Self::Context) {
        self.reporters = reporters;
        self.tell_change(ctx);
    }
}

impl Handler<ProviderReport> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, report: ProviderReport, ctx: &mut Self::Context) {
        let known = self.state.known.iter_mut().find(|known| known.name == report.status.name);
        match known {
            Some(known) if *known == report.status => return,
            Some(known) => *known = report.status,
            None => self.state.known.push(report.status),
        }
        self.tell_change(ctx);
    }
}
