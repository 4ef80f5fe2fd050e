//! The providers: started, withdrawn, brought back, replaced.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::child::{Provider, Running};
use super::messages::Reload;
use super::{RootActor, now, published};
use crate::heartbeat::messages::{SetReporters, StopBeats};
use crate::options::ProviderConfig;
use crate::provider::ProviderActor;
use crate::provider::links::ProviderLinks;
use crate::provider::messages::{GetReport, Reconfigure, SetPaused};
use crate::registrar::Ended;
use crate::session::messages::Publish;
use crate::status::ChannelState;
use crate::stream::messages::{CloseChannel, SetRoutes};
use crate::supervise::{Policy, PreparedActor};
use crate::wake::messages::{Managed, SetProviders};

/// How often a removed provider is asked whether it is done. Nobody waits for the answer.
const RETIRED_YET: Duration = Duration::from_secs(1);

/// Longest time between two health checks: a hub that has `status` learns of a dead backend before the next heartbeat.
const CHECK_EVERY: Duration = Duration::from_secs(10);

impl RootActor {
    pub(super) fn start_provider(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(provider) = self.providers.get_mut(index) else { return };
        let seat = PreparedActor::<ProviderActor>::new();
        let (address, crashes) = (seat.address(), seat.crashes());
        let links = ProviderLinks {
            ensure_awake: self.wake.clone().recipient(),
            put_to_sleep: self.wake.clone().recipient(),
            changed: vec![self.heartbeat.clone().recipient(), ctx.address().recipient()],
            http: self.backends.clone(),
            check_every: CHECK_EVERY.min(self.timings.heartbeat_interval),
        };
        let config = Arc::clone(&provider.config);
        provider.child = format!("provider {}", config.name).into();
        provider.back_at = None;
        let actor = ProviderActor::new(config, links, self.outbox.clone(), crashes);
        let handle =
            seat.start(Arc::clone(&provider.child), Policy::default(), ctx.address().recipient(), actor);
        if self.status.pause.is_some() {
            address.do_send(SetPaused(self.status.pause));
        }
        provider.running = Some(Running { address, handle, since: Instant::now() });
    }

    /// Tells everybody who works with the providers which ones there are.
    pub(super) fn link_providers(&self) {
        let running = || self.providers.iter().filter(|provider| provider.running.is_some());
        let routes = running()
            .filter_map(|provider| Some((provider.config.wire_name.to_string(), provider.route()?)))
            .collect();
        let reporters = running()
            .filter_map(|provider| Some(provider.running.as_ref()?.address.clone().recipient::<GetReport>()))
            .collect();
        let managed = running()
            .filter_map(|provider| {
                let provider_actor = provider.running.as_ref()?.address.clone().recipient();
                Some(Managed { config: Arc::clone(&provider.config), provider: provider_actor })
            })
            .collect();
        self.stream.do_send(SetRoutes(routes));
        self.heartbeat.do_send(SetReporters(reporters));
        self.wake.do_send(SetProviders { providers: managed });
    }

    /// After a change: links, then the hub.
    fn publish(&mut self) {
        self.link_providers();
        let published = published(&self.providers, &self.agents);
        if published.providers.is_empty() {
            self.stream.do_send(CloseChannel);
            self.heartbeat.do_send(StopBeats);
            self.status.become_state(ChannelState::Idle, now());
        } else {
            self.status.leave_idle(now());
        }
        self.session.do_send(Publish(published));
    }

    /// A provider crashed too often: its LLM and its agents go, the rest stays.
    pub(super) fn withdraw(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(provider) = self.providers.get_mut(index) else { return };
        let away = provider.withdraw(Instant::now());
        let millis = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
        provider.back_at = Some(now().plus_millis(millis));
        let (child, name) = (Arc::clone(&provider.child), provider.config.name.clone());
        log::error!("provider {name} crashed too often: not published for {} s", away.as_secs());
        if self.providers.iter().all(|provider| provider.running.is_none()) {
            let reason = "every provider crashed more than 5 times in a minute".to_owned();
            self.finish(Ended::Failed(reason), ctx);
            return;
        }
        self.publish();
        ctx.run_later(away, move |this, ctx| {
            let waits = |provider: &Provider| provider.is(&child) && provider.running.is_none();
            if let Some(index) = this.providers.iter().position(waits) {
                log::info!("provider {name} is published again");
                this.start_provider(index, ctx);
                this.publish();
            }
        });
    }

    /// A reload: by wire name, what is new starts, what stays gets its new settings, what is gone retires.
    pub(super) fn replace(&mut self, reload: Reload, ctx: &mut Context<Self>) {
        let mut old = std::mem::take(&mut self.providers);
        for config in reload.providers {
            let config = Arc::new(config);
            let known = old.iter().position(|provider| provider.config.wire_name == config.wire_name);
            let provider = match known {
                Some(index) => renew(old.swap_remove(index), config),
                None => Provider::new(config),
            };
            self.providers.push(provider);
        }
        self.retiring.extend(old.into_iter().filter_map(|provider| provider.running));
        self.agents = reload.agents;
        for index in 0..self.providers.len() {
            if self.providers[index].running.is_none() {
                self.start_provider(index, ctx);
            }
        }
        log::debug!("configuration read again: {} published", self.providers.len());
        self.publish();
        self.retire(ctx);
    }

    /// Ends the removed providers that have nothing left to do; asks the others again later.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        for running in std::mem::take(&mut self.retiring) {
            let Running { address, handle, since } = running;
            let asking = address.send(GetReport).into_actor(self);
            ctx.spawn(asking.map(move |report, this, ctx| {
                // One that crashes at this moment does not answer, and is not idle for that.
                let busy = report.map_or_else(
                    |_| address.connected(),
                    |report| report.status.in_flight + report.status.queued > 0,
                );
                if busy {
                    this.retiring.push(Running { address, handle, since });
                    ctx.run_later(RETIRED_YET, Self::retire);
                } else {
                    handle.stop();
                }
            }));
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Provider> {
        self.providers.iter().find(|provider| provider.is_called(name))
    }
}

fn renew(mut provider: Provider, config: Arc<ProviderConfig>) -> Provider {
    provider.config = Arc::clone(&config);
    provider.forgive();
    if let Some(running) = &provider.running {
        running.address.do_send(Reconfigure { config });
    }
    provider
}
