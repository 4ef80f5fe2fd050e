//! Stands in until the real one is there: every task ends in `backend not available`.

use std::sync::Arc;

use actix::prelude::*;
use wire::register::ProviderStatus;
use wire::result::TaskResult;
use wire::row::Status;
use wire::texts;

use super::links::Links;
use super::messages::{Abort, Cancel, Drain, GetReport, Infer, ProviderReport, Reconfigure, SetPaused};
use crate::options::ProviderConfig;
use crate::outbox::Outbox;
use crate::supervise::CrashReporter;
use crate::wake::messages::PowerChanged;

/// One published LLM.
pub struct ProviderActor {
    config: Arc<ProviderConfig>,
    outbox: Outbox,
}

impl ProviderActor {
    /// A provider.
    pub fn new(config: Arc<ProviderConfig>, _: Links, outbox: Outbox, _: CrashReporter) -> Self {
        Self { config, outbox }
    }
}

impl Actor for ProviderActor {
    type Context = Context<Self>;
}

impl Supervised for ProviderActor {}

impl Handler<Infer> for ProviderActor {
    type Result = ();

    fn handle(&mut self, infer: Infer, _: &mut Self::Context) {
        let error = TaskResult::Error(texts::BACKEND_NOT_AVAILABLE.to_owned());
        self.outbox.finish(infer.ticket, &error);
    }
}

impl Handler<GetReport> for ProviderActor {
    type Result = ProviderReport;

    fn handle(&mut self, _: GetReport, _: &mut Self::Context) -> ProviderReport {
        ProviderReport {
            status: ProviderStatus {
                name: self.config.wire_name.to_string(),
                status: Status::Active,
                in_flight: 0,
                queued: 0,
                max_concurrency: 1,
            },
            reason: None,
            tasks_done: 0,
            tokens_per_second: None,
            paused: false,
        }
    }
}

macro_rules! deaf {
    ($($message:ty),+) => {
        $(impl Handler<$message> for ProviderActor {
            type Result = ();
            fn handle(&mut self, _: $message, _: &mut Self::Context) {}
        })+
    };
}

deaf!(Abort, Cancel, Drain, Reconfigure, SetPaused, PowerChanged);
