//! The end: in order, or at once.

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;
use tokio::time::timeout;
use wire::{Feature, texts};

use super::messages::Stop;
use super::{Phase, RootActor, now};
use crate::provider::messages::{Abort, Drain};
use crate::registrar::Ended;
use crate::status::ChannelState;
use crate::stream::messages::RefuseTasks;
use crate::wake::messages::Shutdown;

/// How long the last results may take to the hub after the drain timeout: one slow answer, not a hub that is away.
const LAST_RESULTS: Duration = Duration::from_secs(5);

/// How long an actor may take to be dropped. Nothing in them blocks; a library user's backend may.
const GOODBYE: Duration = Duration::from_secs(1);

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
    /// New and queued tasks end at once; those that run have the drain timeout; channel and heartbeat stay until the
    /// hub has the last result.
    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.phase = Phase::Draining;
        self.status.become_state(ChannelState::Draining, now());
        self.stream.do_send(RefuseTasks);
        self.wake.do_send(Shutdown);
        self.each_provider(|address| address.do_send(Drain));
        if let Some(session) =
            self.status.session.clone().filter(|_| self.status.features.has(Feature::Drain))
        {
            let telling = self.hub.drain(session);
            ctx.spawn(telling.into_actor(self).map(|told, _, _| {
                if let Err(error) = told {
                    log::debug!("the hub was not told that we stop: {error}");
                }
            }));
        }
        let open = self.outbox.open();
        if open > 0 {
            log::info!("stopping: {open} tasks to end");
        }
        let (outbox, patience) = (self.outbox.clone(), self.timings.drain_timeout);
        // The queued ones end in the providers' next turn; a task that came just before ends in the stream's.
        let settling = async move { timeout(patience, outbox.settled()).await.is_ok() };
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
        self.each_provider(|address| address.do_send(Abort { error: texts::SHUTTING_DOWN.to_owned() }));
        let outbox = self.outbox.clone();
        let delivering = async move { timeout(LAST_RESULTS, outbox.settled()).await };
        ctx.spawn(delivering.into_actor(self).map(|_, this, ctx| this.finish(Ended::Stopped, ctx)));
    }

    fn each_provider(&self, tell: impl Fn(&Addr<crate::provider::ProviderActor>)) {
        let running = self.providers.iter().filter_map(|provider| provider.running.as_ref());
        running.chain(&self.retiring).for_each(|running| tell(&running.address));
    }

    /// Ends everything that runs, then says how it ended.
    pub(super) fn finish(&mut self, ended: Ended, ctx: &mut Context<Self>) {
        if self.phase == Phase::Ending {
            return;
        }
        self.phase = Phase::Ending;
        self.wake.do_send(Shutdown);
        let running = self.providers.iter_mut().filter_map(|provider| provider.running.take());
        let handles = running.chain(self.retiring.drain(..)).map(|running| running.handle);
        let handles: Vec<_> = handles.chain(self.vital.drain(..)).collect();
        let leaving = async move {
            // One turn, for the message above.
            tokio::task::yield_now().await;
            handles.iter().for_each(crate::supervise::ChildHandle::stop);
            timeout(GOODBYE, join_all(handles.into_iter().map(crate::supervise::ChildHandle::ended))).await
        };
        ctx.spawn(leaving.into_actor(self).map(|_, this, ctx| {
            this.lock = None;
            this.ended.send_replace(Some(ended));
            ctx.stop();
        }));
    }
}
