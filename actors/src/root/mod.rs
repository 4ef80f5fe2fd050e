//! The `RootActor`: starts, links and watches the other actors, and runs reload and shutdown.
//!
//! The only module that names the types of all actors.

mod child;
mod control;
mod events;
pub(crate) mod messages;
mod providers;
mod shutdown;
mod status_tracker;
mod suspend;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::SessionId;
use wire::row::Timestamp;

use crate::backend::{self, Client};
use crate::backoff::{ReconnectDelay, system_random};
use crate::ended::Ended;
use crate::heartbeat::{HeartbeatActor, HeartbeatLinks};
use crate::hub_client::HubApi;
use crate::news::log_suppressed;
use crate::options::{AgentConfig, ProviderConfig, Timings};
use crate::outbox::Outbox;
use crate::session::abilities::AbilityQuestion;
use crate::session::entries::AvailabilityCheck;
use crate::session::file::SessionLock;
use crate::session::messages::{Publish, RetryNow};
use crate::session::{self, SessionActor, SessionLinks};
use crate::stream::messages::Reconnect;
use crate::stream::{StreamActor, StreamLinks, TaskRouter};
use crate::supervise::{ChildHandle, PreparedActor};
use crate::uplink::Uplink;
use crate::wake::{WakeActor, WakeLinks};

use child::Provider;
use status_tracker::StatusTracker;
use suspend::{CHECK_EVERY, SuspendDetector};

/// The parts from which a registrar is started.
pub(crate) struct Start {
    pub(crate) hub: Rc<dyn HubApi>,
    pub(crate) uplink: Rc<dyn Uplink>,
    pub(crate) hub_url: String,
    /// `HOST:PORT` of the proxy on the way to the hub.
    pub(crate) proxy: Option<String>,
    /// A clock that runs while the machine is suspended.
    pub(crate) wall_clock: fn() -> jiff::Timestamp,
    /// The HTTP client of all backends, which shares nothing with the hub's.
    pub(crate) backends: Client,
    pub(crate) session_file: Option<std::path::PathBuf>,
    pub(crate) session: Option<SessionId>,
    pub(crate) lock: Option<SessionLock>,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) agents: Vec<AgentConfig>,
    pub(crate) timings: Timings,
    /// Set when the channel opens for the first time.
    pub(crate) opened: watch::Sender<bool>,
    pub(crate) ended: watch::Sender<Option<Ended>>,
}

pub(crate) struct RootActor {
    hub: Rc<dyn HubApi>,
    hub_url: String,
    proxy: Option<String>,
    outbox: Outbox,
    timings: Timings,
    session: Addr<SessionActor>,
    heartbeat: Addr<HeartbeatActor>,
    stream: Addr<StreamActor>,
    wake: Addr<WakeActor>,
    /// Handles of the four actors above. If the supervisor gives one of them up, the registrar ends.
    vital: Vec<ChildHandle>,
    providers: Vec<Provider>,
    agents: Vec<AgentConfig>,
    /// Providers that a reload removed and whose tasks still run.
    retiring: Vec<child::Running>,
    /// Number of pauses so far, by which the timer of an earlier pause is recognized.
    pauses: u64,
    backends: Client,
    status: StatusTracker,
    phase: Phase,
    suspend: SuspendDetector,
    wall_clock: fn() -> jiff::Timestamp,
    opened: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    lock: Option<SessionLock>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Ending,
}

impl RootActor {
    /// Starts all actors on the current arbiter.
    pub(crate) fn launch(start: Start) -> Addr<Self> {
        Self::create(|ctx| Self::build(start, ctx))
    }

    fn build(start: Start, ctx: &mut Context<Self>) -> Self {
        let root = ctx.address();
        let Start { hub, uplink, hub_url, proxy, backends, timings, opened, ended, lock, .. } = start;
        let Start { session_file, session: id, providers, agents, wall_clock, .. } = start;
        let outbox = Outbox::new(uplink);
        let providers: Vec<_> = providers.into_iter().map(|config| Provider::new(Arc::new(config))).collect();
        let published = published(&providers, &agents);
        let delay = ReconnectDelay::new(timings.reconnect_base, timings.reconnect_max, system_random());

        let (session, heartbeat) =
            (PreparedActor::<SessionActor>::new(), PreparedActor::<HeartbeatActor>::new());
        let (stream, wake) = (PreparedActor::<StreamActor>::new(), PreparedActor::<WakeActor>::new());
        let addresses = (session.address(), heartbeat.address(), stream.address(), wake.address());

        let session_actor = SessionActor::new(
            session::Config {
                hub: Rc::clone(&hub),
                file: session_file,
                is_available: availability_check(backends.clone()),
                ask_abilities: ability_question(backends.clone()),
                delay,
            },
            SessionLinks {
                ready: vec![
                    stream.address().recipient(),
                    heartbeat.address().recipient(),
                    root.clone().recipient(),
                ],
                failed: root.clone().recipient(),
            },
            published,
            id,
        );
        let heartbeat_actor = HeartbeatActor::new(
            Rc::clone(&hub),
            timings.heartbeat_interval,
            HeartbeatLinks {
                session_lost: session.address().recipient(),
                stream_unknown: stream.address().recipient(),
                result: root.clone().recipient(),
            },
        );
        let stream_actor = StreamActor::new(
            Rc::clone(&hub),
            timings.idle_timeout,
            StreamLinks {
                register: session.address().recipient(),
                session_lost: session.address().recipient(),
                reconnect: session.address().recipient(),
                opened: vec![
                    session.address().recipient(),
                    heartbeat.address().recipient(),
                    root.clone().recipient(),
                ],
                lost: vec![heartbeat.address().recipient(), root.clone().recipient()],
                going: root.clone().recipient(),
            },
            TaskRouter::new(wake.address().recipient(), outbox.clone()),
        );
        let wake_actor = WakeActor::new(
            WakeLinks { beat: heartbeat.address().recipient(), http: backends.clone() },
            outbox.clone(),
        );

        let parent = || root.clone().recipient();
        let vital = vec![
            wake.start("wake", parent(), wake_actor),
            heartbeat.start("heartbeat", parent(), heartbeat_actor),
            stream.start("stream", parent(), stream_actor),
            session.start("session", parent(), session_actor),
        ];
        let (session, heartbeat, stream, wake) = addresses;
        Self {
            hub,
            hub_url,
            proxy,
            outbox,
            timings,
            session,
            heartbeat,
            stream,
            wake,
            vital,
            providers,
            agents,
            retiring: Vec::new(),
            pauses: 0,
            backends,
            status: StatusTracker::new(now()),
            phase: Phase::Running,
            suspend: SuspendDetector::new(wall_clock(), Instant::now()),
            wall_clock,
            opened,
            ended,
            lock,
        }
    }
}

impl Actor for RootActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for index in 0..self.providers.len() {
            self.start_provider(index, ctx);
        }
        self.link_providers();
        ctx.run_interval(CHECK_EVERY, |this, _| {
            log_suppressed();
            if let Some(slept) = this.suspend.check((this.wall_clock)(), Instant::now()) {
                log::info!("the machine slept for {} s: connecting again", slept.as_secs());
                this.session.do_send(RetryNow);
                this.stream.do_send(Reconnect);
            }
        });
    }
}

/// The providers that are not withdrawn, and their agents.
fn published(providers: &[Provider], agents: &[AgentConfig]) -> Publish {
    let configs: Vec<_> = providers.iter().map(|provider| Arc::clone(&provider.config)).collect();
    let is_away = |config: &ProviderConfig| {
        let mut away = providers.iter().filter(|provider| provider.back_at.is_some());
        // Only names at the hub are unique.
        away.any(|provider| provider.config.wire_name == config.wire_name)
    };
    let agents = session::entries::agents(agents, &configs, is_away);
    let configs = configs.into_iter().filter(|config| !is_away(config)).collect();
    Publish { providers: configs, agents }
}

fn availability_check(http: Client) -> AvailabilityCheck {
    Rc::new(move |config| backend::make(config, &http).available())
}

fn ability_question(http: Client) -> AbilityQuestion {
    Rc::new(move |config| {
        let http = http.clone();
        Box::pin(async move { backend::abilities(&config, &http).await })
    })
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
