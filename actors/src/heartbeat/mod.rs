//! The `HeartbeatActor`: sends heartbeats to the hub, independent of the control channel.

mod ahead;
pub(crate) mod messages;

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
use crate::news::hub_news;
use crate::provider::messages::GetReport;
use crate::session::RESTART;
use crate::session::messages::{SessionLost, SessionReady};
use crate::status::{ChannelTransport, ProviderReport};
use crate::stream::messages::{ChannelLost, ChannelOpened, StreamUnknown};

use ahead::ahead;
use messages::{Beat, BeatResult, SetReporters};

/// Least time between heartbeats for a change (SPEC.md section 4, `status`).
const CHANGE_INTERVAL: Duration = Duration::from_secs(1);

/// Limit for a provider's report. A provider that takes longer is left out of the heartbeat.
const REPORT_LIMIT: Duration = Duration::from_millis(500);

pub(crate) struct HeartbeatLinks {
    /// `SessionActor`.
    pub(crate) session_lost: Recipient<SessionLost>,
    /// `StreamActor`.
    pub(crate) stream_unknown: Recipient<StreamUnknown>,
    /// The root.
    pub(crate) result: Recipient<BeatResult>,
}

/// Sends a heartbeat every 30 s, after each reconnect, at each poll of a waking backend, and when a report changes. Heartbeats
/// do not overlap.
pub(crate) struct HeartbeatActor {
    hub: Rc<dyn HubApi>,
    interval: Duration,
    links: HeartbeatLinks,
    // These fields survive a crash, because the messages that set them are not sent again.
    session: Option<SessionId>,
    channel: Option<ChannelOpened>,
    /// Until when the hub restarts, so that it takes no heartbeats.
    restarts_until: Option<Instant>,
    reporters: Vec<Recipient<GetReport>>,
    problem: Changes,
    state: HeartbeatState,
}

/// State that a crash resets.
#[derive(Default)]
struct HeartbeatState {
    in_flight: bool,
    /// Whether to send another heartbeat after the one in flight, which is older than the channel or the change.
    again: bool,
    /// When a heartbeat for a change was last sent.
    change_sent_at: Option<Instant>,
    /// Whether the timer for the next change runs.
    change_due: bool,
    /// The last status of each provider.
    known: Vec<ProviderStatus>,
}

impl HeartbeatActor {
    pub(crate) fn new(hub: Rc<dyn HubApi>, interval: Duration, links: HeartbeatLinks) -> Self {
        Self {
            hub,
            interval,
            links,
            session: None,
            channel: None,
            restarts_until: None,
            reporters: Vec::new(),
            problem: Changes::default(),
            state: HeartbeatState::default(),
        }
    }

    /// Sends a heartbeat. The next tick is armed first, so that a slow hub does not stretch the interval. There is only one timer, so
    /// a suspended machine has no missed ticks to catch up with.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(self.interval, |this, ctx| {
            this.tick(ctx);
            this.beat(ctx);
        });
    }

    fn has_status(&self) -> bool {
        self.channel.as_ref().is_some_and(|channel| channel.features.has(Feature::Status))
    }

    fn beat(&mut self, ctx: &mut Context<Self>) {
        let Some(session) = self.session.clone() else { return };
        let restarts = self.restarts_until.is_some_and(|until| Instant::now() < until);
        if self.state.in_flight || restarts {
            return;
        }
        self.state.in_flight = true;
        let channel = self.channel.as_ref().filter(|_| self.has_status());
        let stream_id = channel.and_then(|channel| channel.stream_id.clone());
        let reporters = channel.map(|_| self.reporters.clone());
        let hub = Rc::clone(&self.hub);
        let beating = async move {
            let providers = match reporters {
                Some(reporters) => Some(statuses(&reporters, hub.round_trip()).await),
                None => None,
            };
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
            hub_news!(info, "heartbeats accepted again", "the hub accepts heartbeats again");
        }
        let at = Timestamp(jiff::Timestamp::now().as_millisecond());
        self.links.result.do_send(BeatResult::Accepted { at });
    }

    fn failed(&mut self, error: &HubError, session: SessionId, stream_id: Option<String>) {
        let reason = error.to_string();
        if self.problem.is_change(&reason) {
            hub_news!(warn, "heartbeats refused", "heartbeat not accepted: {reason}");
        }
        match (error.kind(), stream_id) {
            (HubErrorKind::Gone, _) => self.links.session_lost.do_send(SessionLost { session }),
            (HubErrorKind::Conflict, Some(stream_id)) => {
                self.links.stream_unknown.do_send(StreamUnknown { stream_id });
            }
            _ => {}
        }
        self.links.result.do_send(BeatResult::Failed { reason });
    }

    /// Sends a heartbeat for a change, at most once a second.
    fn send_change(&mut self, ctx: &mut Context<Self>) {
        if !self.has_status() || self.state.change_due {
            return;
        }
        let since = self.state.change_sent_at.map_or(CHANGE_INTERVAL, |at| at.elapsed());
        self.state.change_due = true;
        ctx.run_later(CHANGE_INTERVAL.saturating_sub(since), |this, ctx| {
            this.state.change_due = false;
            this.state.change_sent_at = Some(Instant::now());
            this.beat_now(ctx);
        });
    }

    /// Sends a heartbeat that is newer than the one in flight, if there is one.
    fn beat_now(&mut self, ctx: &mut Context<Self>) {
        if self.state.in_flight {
            self.state.again = true;
        } else {
            self.beat(ctx);
        }
    }
}

/// The status of each provider. A provider that is restarting after a crash has none.
async fn statuses(reporters: &[Recipient<GetReport>], round_trip: Option<Duration>) -> Vec<ProviderStatus> {
    let reports = reporters.iter().map(|reporter| reporter.send(GetReport).timeout(REPORT_LIMIT));
    join_all(reports).await.into_iter().flatten().map(|report| status(report, round_trip)).collect()
}

fn status(report: ProviderReport, round_trip: Option<Duration>) -> ProviderStatus {
    ProviderStatus { ahead: ahead(&report, round_trip), ..report.status }
}

impl Actor for HeartbeatActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.tick(ctx);
    }
}

impl Supervised for HeartbeatActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.state = HeartbeatState::default();
    }
}

impl Handler<SessionReady> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, ready: SessionReady, ctx: &mut Self::Context) {
        self.session = Some(ready.session);
        // The hub takes rows that are registered again for available.
        if self.channel.is_some() {
            self.send_change(ctx);
        }
    }
}

impl Handler<ChannelOpened> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, opened: ChannelOpened, ctx: &mut Self::Context) {
        let (hello, is_link) = (opened.hello, opened.transport == ChannelTransport::Link);
        let has_beat = opened.features.has(Feature::Beat);
        self.session = Some(opened.session.clone());
        self.channel = Some(opened);
        self.restarts_until = None;
        match (is_link, hello) {
            // The hello of a link follows at once, and says whether it carries heartbeats.
            (true, false) => (),
            (true, true) if has_beat => self.beat_now(ctx),
            (true, true) => {
                // By POST, so that it must not overtake the registrar's answer to the hello.
                self.state.change_sent_at = Some(Instant::now());
                self.send_change(ctx);
            }
            (false, true) => self.send_change(ctx),
            (false, false) => self.beat_now(ctx),
        }
    }
}

impl Handler<ChannelLost> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, lost: ChannelLost, _: &mut Self::Context) {
        self.channel = None;
        if lost.restart.is_some() {
            self.restarts_until = Some(Instant::now() + RESTART);
        }
    }
}

impl Handler<Beat> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, _: Beat, ctx: &mut Self::Context) {
        self.beat(ctx);
    }
}

impl Handler<SetReporters> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, SetReporters(reporters): SetReporters, ctx: &mut Self::Context) {
        if reporters.is_empty() {
            self.session = None;
            self.channel = None;
        }
        self.reporters = reporters;
        self.send_change(ctx);
    }
}

impl Handler<ProviderReport> for HeartbeatActor {
    type Result = ();

    fn handle(&mut self, report: ProviderReport, ctx: &mut Self::Context) {
        let status = status(report, self.hub.round_trip());
        match self.state.known.iter_mut().find(|known| known.name == status.name) {
            Some(known) if *known == status => return,
            Some(known) => *known = status,
            None => self.state.known.push(status),
        }
        self.send_change(ctx);
    }
}
