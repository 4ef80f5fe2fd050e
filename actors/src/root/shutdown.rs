//! Shutdown: with a drain, or at once.

use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::timeout;
use wire::Feature;

use super::messages::Stop;
use super::{Phase, RootActor, now};
use crate::ended::Ended;
use crate::provider::ProviderActor;
use crate::provider::messages::{Abort, Drain};
use crate::status::ChannelState;
use crate::stream::messages::RefuseTasks;
use crate::supervise::ChildHandle;
use crate::wake::messages::Shutdown;

/// Limit for delivering the last results after the drain timeout: enough for a slow hub, not for one that is away.
const LAST_RESULTS: Duration = Duration::from_secs(5);

/// Limit for dropping all actors. Nothing in them blocks, but a library user's backend may.
const DROP_LIMIT: Duration = Duration::from_secs(1);

impl Handler<Stop> for RootActor {
    type Result = ();

    fn handle(&mut self, stop: Stop, ctx: &mut Self::Context) {
        match stop {
            Stop::Now => self.finish(Ended::Stopped, ctx),
            Stop::Drain if self.phase == Phase::Running => self.drain(ctx),
            Stop::Drain => {}
        }
    }
}

impl RootActor {
    /// Refuses new and queued tasks, and waits for running ones until the drain timeout. Channel and heartbeats stay until
    /// the hub has the last result.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Draining;
        self.status.become_state(ChannelState::Draining, now());
        self.stream.do_send(RefuseTasks);
        self.wake.do_send(Shutdown);
        self.each_provider(|address| address.do_send(Drain));
        if let Some(session) =
            self.status.session.clone().filter(|_| self.status.features.has(Feature::Drain))
        {
            let hub = Rc::clone(&self.hub);
            let draining = async move { hub.drain(session).await };
            ctx.spawn(draining.into_actor(self).map(|drained, _, _| {
                if let Err(error) = drained {
                    log::debug!("the hub was not told of the stop: {error}");
                }
            }));
        }
        let open = self.outbox.open();
        if open > 0 {
            log::info!("stopping: {open} tasks to end");
        }
        let (outbox, limit) = (self.outbox.clone(), self.timings.drain_timeout);
        // Queued tasks end when the providers handle `Drain`.
        let settling = async move { timeout(limit, outbox.settled()).await.is_ok() };
        ctx.spawn(settling.into_actor(self).map(|settled, this, ctx| {
            if settled {
                this.finish(Ended::Stopped, ctx);
            } else {
                this.abort(ctx);
            }
        }));
    }

    fn abort(&mut self, ctx: &mut Context<Self>) {
        log::warn!("stopping: {} tasks did not end in time", self.outbox.open());
        self.each_provider(|address| address.do_send(Abort));
        let outbox = self.outbox.clone();
        let delivering = async move { timeout(LAST_RESULTS, outbox.settled()).await };
        ctx.spawn(delivering.into_actor(self).map(|_, this, ctx| this.finish(Ended::Stopped, ctx)));
    }

    fn each_provider(&self, tell: impl Fn(&Addr<ProviderActor>)) {
        let running = self.providers.iter().filter_map(|provider| provider.running.as_ref());
        running.chain(&self.retiring).for_each(|running| tell(&running.address));
    }

    /// Stops all actors, then resolves [`Registrar::wait`](crate::Registrar::wait) with `ended`.
    pub(super) fn finish(&mut self, ended: Ended, ctx: &mut Context<Self>) {
        if self.phase == Phase::Ending {
            return;
        }
        self.phase = Phase::Ending;
        self.wake.do_send(Shutdown);
        let running = self.providers.iter_mut().filter_map(|provider| provider.running.take());
        let handles = running.chain(self.retiring.drain(..)).map(|running| running.handle);
        let handles: Vec<_> = handles.chain(self.vital.drain(..)).collect();
        let stopping = async move {
            // Lets the `WakeActor` handle `Shutdown`.
            tokio::task::yield_now().await;
            handles.iter().for_each(ChildHandle::stop);
            timeout(DROP_LIMIT, join_all(handles.into_iter().map(ChildHandle::ended))).await
        };
        ctx.spawn(stopping.into_actor(self).map(|_, this, ctx| {
            this.lock = None;
            this.ended.send_replace(Some(ended));
            ctx.stop();
        }));
    }
}
