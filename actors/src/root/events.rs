//! Handlers of the reports of the other actors.

use std::sync::Arc;

use actix::prelude::*;
use wire::Feature;
use wire::row::Status;

use super::{Phase, RootActor, now};
use crate::ended::Ended;
use crate::heartbeat::messages::BeatResult;
use crate::news::news;
use crate::session::messages::{BackendReturned, NotRegistered, Register, SessionReady};
use crate::status::ProviderReport;
use crate::stream::messages::{ChannelLost, ChannelOpened, HubGoing};
use crate::supervise::{Cause, ChildReport};

impl Handler<ChildReport> for RootActor {
    type Result = ();

    fn handle(&mut self, report: ChildReport, ctx: &mut Self::Context) {
        match report {
            ChildReport::Failed { child, cause, retry_in } => {
                match cause {
                    Cause::Task => {
                        news!(error, "crashes", &child, "a task of {child} crashed; the others run on");
                    }
                    Cause::Panic | Cause::Stop => {
                        log::error!("{child} crashed; it runs again in {} ms", retry_in.as_millis());
                    }
                }
                if let Some(provider) = self.providers.iter_mut().find(|provider| provider.is(&child)) {
                    provider.crashes += 1;
                }
            }
            ChildReport::GaveUp { child } => {
                if let Some(index) = self.providers.iter().position(|provider| provider.is(&child)) {
                    self.providers[index].crashes += 1;
                    self.withdraw(index, ctx);
                } else if !child.starts_with("provider ") {
                    let reason = format!("the {child} actor crashed more than 5 times in a minute");
                    self.finish(Ended::Failed(reason), ctx);
                }
            }
            ChildReport::Ended { .. } => {}
        }
    }
}

impl Handler<SessionReady> for RootActor {
    type Result = ();

    fn handle(&mut self, ready: SessionReady, _: &mut Self::Context) {
        self.status.session = Some(ready.session);
    }
}

impl Handler<NotRegistered> for RootActor {
    type Result = ();

    fn handle(&mut self, failure: NotRegistered, ctx: &mut Self::Context) {
        self.status.failed(failure.reason.clone(), failure.refused, now());
        if failure.fatal {
            self.finish(Ended::Refused(failure.reason), ctx);
        }
    }
}

impl Handler<ChannelOpened> for RootActor {
    type Result = ();

    fn handle(&mut self, opened: ChannelOpened, _: &mut Self::Context) {
        self.status.opened(opened, now());
        self.opened.send_replace(true);
    }
}

impl Handler<ChannelLost> for RootActor {
    type Result = ();

    fn handle(&mut self, lost: ChannelLost, _: &mut Self::Context) {
        self.status.lost(lost, now());
    }
}

impl Handler<HubGoing> for RootActor {
    type Result = ();

    fn handle(&mut self, HubGoing: HubGoing, _: &mut Self::Context) {
        self.status.restarts(now());
    }
}

impl Handler<BeatResult> for RootActor {
    type Result = ();

    fn handle(&mut self, result: BeatResult, _: &mut Self::Context) {
        match result {
            BeatResult::Accepted { at } => self.status.last_heartbeat_at = Some(at),
            BeatResult::Failed { reason } => self.status.error(reason, now()),
        }
    }
}

impl Handler<ProviderReport> for RootActor {
    type Result = ();

    /// Registers again when a backend was put to sleep under a classic hub, with `hibernating` as its initial status. A hub
    /// with `status` gets the status by heartbeat. Asks a backend that came back what its model can do.
    fn handle(&mut self, report: ProviderReport, _: &mut Self::Context) {
        let Some(provider) =
            self.providers.iter_mut().find(|p| p.config.wire_name.as_str() == report.status.name)
        else {
            return;
        };
        // A pause says nothing about the backend.
        let is_up = if report.paused { provider.is_up } else { report.status.status == Status::Active };
        if !std::mem::replace(&mut provider.is_up, is_up) && is_up && self.phase == Phase::Running {
            self.session.do_send(BackendReturned(Arc::clone(&provider.config)));
        }
        let asleep = report.status.status == Status::Hibernating;
        let fell_asleep = !std::mem::replace(&mut provider.asleep, asleep) && asleep;
        let can_sleep = provider.config.sleep.is_some();
        let classic = !self.status.features.has(Feature::Status) && self.status.is_connected();
        if fell_asleep && can_sleep && classic && self.phase == Phase::Running {
            self.session.do_send(Register);
        }
    }
}
