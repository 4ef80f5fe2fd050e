//! Stands in until the real one is there: nothing has a recipe.

use std::time::Duration;

use actix::prelude::*;
use wire::result::TaskResult;
use wire::texts;

use super::links::Links;
use super::messages::{EnsureAwake, PutToSleep, SetProviders, Shutdown, Wake};
use crate::outbox::Outbox;

/// Runs recipes.
pub struct WakeActor {
    outbox: Outbox,
}

impl WakeActor {
    /// The one there is.
    pub fn new(_: Links, outbox: Outbox) -> Self {
        Self { outbox }
    }
}

impl Actor for WakeActor {
    type Context = Context<Self>;
}

impl Supervised for WakeActor {}

impl Handler<Wake> for WakeActor {
    type Result = ();

    fn handle(&mut self, wake: Wake, _: &mut Self::Context) {
        let error = TaskResult::Error(texts::no_wake_recipe(&wake.task.llm_name));
        self.outbox.finish(wake.ticket, &error);
    }
}

impl Handler<EnsureAwake> for WakeActor {
    type Result = Result<Duration, String>;

    fn handle(&mut self, wake: EnsureAwake, _: &mut Self::Context) -> Self::Result {
        Err(texts::no_wake_recipe(&wake.wire_name))
    }
}

impl Handler<PutToSleep> for WakeActor {
    type Result = Result<(), String>;

    fn handle(&mut self, sleep: PutToSleep, _: &mut Self::Context) -> Self::Result {
        Err(texts::no_wake_recipe(&sleep.wire_name))
    }
}

impl Handler<SetProviders> for WakeActor {
    type Result = ();

    fn handle(&mut self, _: SetProviders, _: &mut Self::Context) {}
}

impl Handler<Shutdown> for WakeActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {}
}
