//! Starts, withdraws, reloads and retires providers.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use super::child::{Provider, Running};
use super::messages::Reload;
use super::{RootActor, now, published};
use crate::ended::Ended;
use crate::heartbeat::messages::SetReporters;
use crate::options::ProviderConfig;
use crate::provider::messages::{GetReport, Reconfigure, SetPaused};
use crate::provider::{ProviderActor, ProviderLinks};
use crate::status::ChannelState;
use crate::stream::messages::SetRoutes;
use crate::supervise::PreparedActor;
use crate::wake::messages::{ManagedProvider, SetProviders};

/// Interval at which the root checks whether a removed provider still has tasks.
const RETIRE_CHECK: Duration = Duration::from_secs(1);

/// Longest interval of health checks: a hub with `status` learns of a dead backend before the next regular heartbeat.
const CHECK_EVERY: Duration = Duration::from_secs(10);

impl RootActor {
    pub(super) fn start_provider(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(provider) = self.providers.get_mut(index) else { return };
        let prepared = PreparedActor::<ProviderActor>::new();
        let (address, crashes) = (prepared.address(), prepared.crash_reporter());
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
        let handle = prepared.start(Arc::clone(&provider.child), ctx.address().recipient(), actor);
        if self.status.pause.is_some() {
            address.do_send(SetPaused(self.status.pause));
        }
        provider.running = Some(Running { address, handle, since: Instant::now() });
    }

    /// Sends the running providers to the actors that work with them.
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
                let power_changed = provider.running.as_ref()?.address.clone().recipient();
                Some(ManagedProvider { config: Arc::clone(&provider.config), power_changed })
            })
            .collect();
        self.stream.do_send(SetRoutes(routes));
        self.heartbeat.do_send(SetReporters(reporters));
        self.wake.do_send(SetProviders { providers: managed });
    }

    /// Publishes the providers after a change, to the other actors and to the hub.
    fn publish(&mut self) {
        self.link_providers();
        let published = published(&self.providers, &self.agents);
        if published.providers.is_empty() {
            self.status.become_state(ChannelState::Idle, now());
        } else {
            self.status.leave_idle(now());
        }
        self.session.do_send(published);
    }

    /// Withdraws a provider that crashed too often, with its agents, and brings it back after its penalty.
    pub(super) fn withdraw(&mut self, index: usize, ctx: &mut Context<Self>) {
        let Some(provider) = self.providers.get_mut(index) else { return };
        let away = provider.withdraw(Instant::now());
        let millis = i64::try_from(away.as_millis()).unwrap_or(i64::MAX);
        provider.back_at = Some(now().plus_millis(millis));
        let (child, name) = (Arc::clone(&provider.child), provider.config.name.clone());
        wire::log_with!(
            error,
            [provider = name],
            "provider {name} crashed too often: not published for {} s",
            away.as_secs()
        );
        if self.providers.iter().all(|provider| provider.running.is_none()) {
            let reason = "every provider crashed more than 5 times in a minute".to_owned();
            self.finish(Ended::Failed(reason), ctx);
            return;
        }
        self.publish();
        ctx.run_later(away, move |this, ctx| {
            let is_withdrawn = |provider: &Provider| provider.is(&child) && provider.running.is_none();
            if let Some(index) = this.providers.iter().position(is_withdrawn) {
                wire::log_with!(info, [provider = name], "provider {name} is published again");
                this.start_provider(index, ctx);
                this.publish();
            }
        });
    }

    /// Reloads: by wire name, new providers start, known ones get their settings, removed ones retire.
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

    /// Stops the removed providers that are idle, and asks the others again later.
    fn retire(&mut self, ctx: &mut Context<Self>) {
        for running in std::mem::take(&mut self.retiring) {
            let Running { address, handle, since } = running;
            let reporting = address.send(GetReport).into_actor(self);
            ctx.spawn(reporting.map(move |report, this, ctx| {
                // A provider that is restarting after a crash does not report, and may have tasks.
                let busy = report.map_or_else(
                    |_| address.connected(),
                    |report| report.status.in_flight + report.status.queued > 0,
                );
                if busy {
                    this.retiring.push(Running { address, handle, since });
                    ctx.run_later(RETIRE_CHECK, Self::retire);
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
    provider.reset_penalty();
    if let Some(running) = &provider.running {
        running.address.do_send(Reconfigure { config });
    }
    provider
}
