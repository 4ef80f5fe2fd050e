//! The root of the tree: starts the actors, links them, watches them, and drives reload and shutdown. The only
//! module that knows them all.

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

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::SessionId;
use wire::row::Timestamp;

use crate::backend::{self, Client};
use crate::backoff::{ReconnectDelay, system_random};
use crate::heartbeat::{self, HeartbeatActor};
use crate::hub_client::HubApi;
use crate::news::tell_missed;
use crate::options::{AgentConfig, ProviderConfig, Timings};
use crate::outbox::Outbox;
use crate::registrar::Ended;
use crate::session::entries::Probe;
use crate::session::file::SessionLock;
use crate::session::messages::{Published, RetryNow};
use crate::session::{self, SessionActor};
use crate::stream::messages::Reconnect;
use crate::stream::{self, Dispatch, StreamActor};
use crate::supervise::{ChildHandle, Policy, PreparedActor};
use crate::uplink::Uplink;
use crate::wake::{self, WakeActor};

use child::Provider;
use status_tracker::StatusTracker;
use suspend::{LOOK_EVERY, Suspend};

/// What a registrar starts with, checked.
pub(crate) struct Start {
    pub(crate) hub: Rc<dyn HubApi>,
    pub(crate) uplink: Rc<dyn Uplink>,
    /// For people.
    pub(crate) hub_url: String,
    /// The clock that goes on while the machine sleeps.
    pub(crate) wall_clock: fn() -> jiff::Timestamp,
    /// For the backends, which share nothing with the hub.
    pub(crate) backends: Client,
    pub(crate) session_file: Option<std::path::PathBuf>,
    pub(crate) session: Option<SessionId>,
    pub(crate) lock: Option<SessionLock>,
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) agents: Vec<AgentConfig>,
    pub(crate) timings: Timings,
    /// Set once the channel is open.
    pub(crate) opened: watch::Sender<bool>,
    /// Set at the end.
    pub(crate) ended: watch::Sender<Option<Ended>>,
}

/// The tree.
pub(crate) struct RootActor {
    hub: Rc<dyn HubApi>,
    hub_url: String,
    outbox: Outbox,
    timings: Timings,
    session: Addr<SessionActor>,
    heartbeat: Addr<HeartbeatActor>,
    stream: Addr<StreamActor>,
    wake: Addr<WakeActor>,
    /// Of the four above: without any of them there is no registrar.
    vital: Vec<ChildHandle>,
    providers: Vec<Provider>,
    agents: Vec<AgentConfig>,
    /// Removed by a reload, with tasks that run to their end.
    retiring: Vec<child::Running>,
    /// Numbers the pauses, so that the end of an older one means nothing.
    pauses: u64,
    backends: Client,
    status: StatusTracker,
    phase: Phase,
    suspend: Suspend,
    wall_clock: fn() -> jiff::Timestamp,
    opened: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    lock: Option<SessionLock>,
}

/// How far the registrar is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Ending,
}

impl RootActor {
    /// Starts the whole tree on the current arbiter.
    pub(crate) fn launch(start: Start) -> Addr<Self> {
        Self::create(|ctx| Self::build(start, ctx))
    }

    fn build(start: Start, ctx: &mut Context<Self>) -> Self {
        let root = ctx.address();
        let Start { hub, uplink, hub_url, backends, timings, opened, ended, lock, .. } = start;
        let Start { session_file, session: id, providers, agents, wall_clock, .. } = start;
        let outbox = Outbox::new(uplink);
        let providers: Vec<_> = providers.into_iter().map(|config| Provider::new(Arc::new(config))).collect();
        let published = published(&providers, &agents);
        let pace = ReconnectDelay::new(timings.reconnect_base, timings.reconnect_max, system_random());
        let pace = Rc::new(RefCell::new(pace));

        let (session, heartbeat) =
            (PreparedActor::<SessionActor>::new(), PreparedActor::<HeartbeatActor>::new());
        let (stream, wake) = (PreparedActor::<StreamActor>::new(), PreparedActor::<WakeActor>::new());
        let addresses = (session.address(), heartbeat.address(), stream.address(), wake.address());

        let session_actor = SessionActor::new(
            session::Config {
                hub: Rc::clone(&hub),
                file: session_file,
                probe: probe(backends.clone()),
                pace: Rc::clone(&pace),
            },
            session::SessionLinks {
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
            heartbeat::Config { hub: Rc::clone(&hub), interval: timings.heartbeat_interval },
            heartbeat::HeartbeatLinks {
                session_lost: session.address().recipient(),
                stream_unknown: stream.address().recipient(),
                outcome: root.clone().recipient(),
            },
        );
        let stream_actor = StreamActor::new(
            stream::Config { hub: Rc::clone(&hub), idle_timeout: timings.idle_timeout, pace },
            stream::StreamLinks {
                register: session.address().recipient(),
                session_lost: session.address().recipient(),
                opened: vec![heartbeat.address().recipient(), root.clone().recipient()],
                lost: vec![heartbeat.address().recipient(), root.clone().recipient()],
            },
            Dispatch::new(wake.address().recipient(), outbox.clone()),
        );
        let wake_actor = WakeActor::new(
            wake::links::WakeLinks { beat: heartbeat.address().recipient(), http: backends.clone() },
            outbox.clone(),
        );

        let parent = || root.clone().recipient();
        let vital = vec![
            wake.start("wake", Policy::default(), parent(), wake_actor),
            heartbeat.start("heartbeat", Policy::default(), parent(), heartbeat_actor),
            stream.start("stream", Policy::default(), parent(), stream_actor),
            session.start("session", Policy::default(), parent(), session_actor),
        ];
        let (session, heartbeat, stream, wake) = addresses;
        Self {
            hub,
            hub_url,
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
            suspend: Suspend::new(wall_clock(), Instant::now()),
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
        ctx.run_interval(LOOK_EVERY, |this, _| {
            tell_missed();
            if let Some(slept) = this.suspend.look((this.wall_clock)(), Instant::now()) {
                log::info!("the machine slept for {} s: connecting again", slept.as_secs());
                this.session.do_send(RetryNow);
                this.stream.do_send(Reconnect);
            }
        });
    }
}

/// What is published: all but what is withdrawn, and the agents that go with it.
fn published(providers: &[Provider], agents: &[AgentConfig]) -> Published {
    let configs: Vec<_> = providers.iter().map(|provider| Arc::clone(&provider.config)).collect();
    let is_away = |config: &ProviderConfig| {
        providers.iter().any(|provider| provider.back_at.is_some() && provider.config.name == config.name)
    };
    let agents = session::entries::agents(agents, &configs, is_away);
    let configs = configs.into_iter().filter(|config| !is_away(config)).collect();
    Published { providers: configs, agents }
}

/// Asks a backend whether it is available, for a register call.
fn probe(http: Client) -> Probe {
    Rc::new(move |config| backend::make(config, &http).available())
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
