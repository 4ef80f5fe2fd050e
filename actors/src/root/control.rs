//! Handlers of the messages from the [`Registrar`](crate::Registrar).

use std::time::Duration;

use actix::prelude::*;
use futures_util::future::join_all;

use super::messages::{Down, GetStatus, PauseTasks, Reload, ResumeTasks, Up};
use super::{Phase, RootActor, now};
use crate::provider::messages::{GetReport, SetPaused};
use crate::status::{Pause, ProviderState, RegistrarStatus};
use crate::wake::messages::{EnsureAwake, PutToSleep, SetWakePaused};

/// Limit for a provider's report. A provider that takes longer is shown without a report.
const REPORT_LIMIT: Duration = Duration::from_millis(500);

impl Handler<Reload> for RootActor {
    type Result = ();

    fn handle(&mut self, reload: Reload, ctx: &mut Self::Context) {
        if self.phase == Phase::Running {
            self.replace(reload, ctx);
        }
    }
}

impl Handler<PauseTasks> for RootActor {
    type Result = ();

    fn handle(&mut self, PauseTasks { limit }: PauseTasks, ctx: &mut Self::Context) {
        self.pauses += 1;
        let number = self.pauses;
        let until =
            limit.map(|limit| now().plus_millis(i64::try_from(limit.as_millis()).unwrap_or(i64::MAX)));
        let pause = Pause { until };
        self.set_pause(Some(pause));
        match until {
            Some(until) => log::info!("paused until {until}: callers get 503"),
            None => log::info!("paused: callers get 503"),
        }
        if let Some(limit) = limit {
            ctx.run_later(limit, move |this, _| {
                if this.status.pause.is_some() && this.pauses == number {
                    log::info!("the pause is over");
                    this.set_pause(None);
                }
            });
        }
    }
}

impl Handler<ResumeTasks> for RootActor {
    type Result = ();

    fn handle(&mut self, _: ResumeTasks, _: &mut Self::Context) {
        self.set_pause(None);
        log::info!("resumed");
    }
}

impl RootActor {
    fn set_pause(&mut self, pause: Option<Pause>) {
        self.status.pause = pause;
        for running in self.providers.iter().filter_map(|provider| provider.running.as_ref()) {
            running.address.do_send(SetPaused(pause));
        }
        self.wake.do_send(SetWakePaused(pause));
    }
}

impl Handler<GetStatus> for RootActor {
    type Result = ResponseActFuture<Self, RegistrarStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        let status = RegistrarStatus {
            hub_url: self.hub_url.clone(),
            proxy: self.proxy.clone(),
            provider_session_id: self.status.session.as_ref().map(ToString::to_string),
            channel: self.status.channel(self.hub.round_trip()),
            last_heartbeat_at: self.status.last_heartbeat_at,
            last_error: self.status.last_error.clone(),
            paused: self.status.pause,
            started_at: self.status.started_at,
            providers: Vec::new(),
        };
        let providers = self.providers.iter().map(|provider| {
            let state = ProviderState {
                name: provider.config.name.clone(),
                wire_name: provider.config.wire_name.to_string(),
                model: provider.config.model.clone(),
                can_wake: provider.config.wake.is_some(),
                report: None,
                withdrawn_until: provider.back_at,
                crashes: provider.crashes,
            };
            let report = provider.running.as_ref().map(|running| running.address.send(GetReport));
            async move {
                let report = match report {
                    Some(report) => report.timeout(REPORT_LIMIT).await.ok(),
                    None => None,
                };
                ProviderState { report, ..state }
            }
        });
        let providers = join_all(providers.collect::<Vec<_>>());
        let status = async move { RegistrarStatus { providers: providers.await, ..status } };
        Box::pin(status.into_actor(self))
    }
}

impl Handler<Up> for RootActor {
    type Result = ResponseActFuture<Self, Result<Duration, String>>;

    fn handle(&mut self, Up(name): Up, _: &mut Self::Context) -> Self::Result {
        let request =
            self.wire_name(&name).map(|wire_name| self.wake.send(EnsureAwake { wire_name, by_owner: true }));
        let answer = async move { request?.await.map_err(|_| "the wake actor crashed".to_owned())? };
        Box::pin(answer.into_actor(self))
    }
}

impl Handler<Down> for RootActor {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, Down(name): Down, _: &mut Self::Context) -> Self::Result {
        let request = self.wire_name(&name).map(|wire_name| self.wake.send(PutToSleep { wire_name }));
        let answer = async move { request?.await.map_err(|_| "the wake actor crashed".to_owned())? };
        Box::pin(answer.into_actor(self))
    }
}

impl RootActor {
    fn wire_name(&self, name: &str) -> Result<String, String> {
        let provider =
            self.find(name).ok_or_else(|| format!("no provider named '{name}' is published here"))?;
        Ok(provider.config.wire_name.to_string())
    }
}
