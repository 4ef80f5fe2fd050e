//! Message handlers of the `WakeActor`.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::result::TaskResult;
use wire::{Feature, texts};

use super::backoff::RecipeBackoff;
use super::messages::{EnsureAwake, PowerChanged, PutToSleep, SetProviders, SetWakePaused, Shutdown, Wake};
use super::recipe::RecipeKind;
use super::run::RunResult;
use super::{RunEnded, Waiter, WakeActor};
use crate::failed::{self, Code};
use crate::news::news;

impl Handler<Wake> for WakeActor {
    type Result = ();

    fn handle(&mut self, Wake { task, ticket, features }: Wake, ctx: &mut Self::Context) {
        if let Some(pause) = self.pause.filter(|_| self.providers.contains_key(&task.llm_name)) {
            failed::note(&ticket, &task.llm_name, Code::Word(texts::PAUSED));
            // Only a hub with `status` knows the answer 503 of a paused publisher.
            let result = if features.has(Feature::Status) {
                pause.refusal(&task.llm_name)
            } else {
                TaskResult::error(texts::paused(&task.llm_name, pause.until))
            };
            return self.outbox.finish(ticket, &result);
        }
        self.request(RecipeKind::Wake, &task.llm_name, Waiter::Task(ticket), ctx);
    }
}

impl Handler<EnsureAwake> for WakeActor {
    type Result = ResponseActFuture<Self, Result<Duration, String>>;

    fn handle(&mut self, wake: EnsureAwake, ctx: &mut Self::Context) -> Self::Result {
        let (answer, woken) = oneshot::channel();
        let waiter = Waiter::Local { answer, by_owner: wake.by_owner };
        self.request(RecipeKind::Wake, &wake.wire_name, waiter, ctx);
        Box::pin(
            async { woken.await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned())) }.into_actor(self),
        )
    }
}

impl Handler<PutToSleep> for WakeActor {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, sleep: PutToSleep, ctx: &mut Self::Context) -> Self::Result {
        let (answer, slept) = oneshot::channel();
        let waiter = Waiter::Local { answer, by_owner: false };
        self.request(RecipeKind::Sleep, &sleep.wire_name, waiter, ctx);
        let slept =
            async { slept.await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned())).map(|_| ()) };
        Box::pin(slept.into_actor(self))
    }
}

impl Handler<RunEnded> for WakeActor {
    type Result = ();

    fn handle(&mut self, ended: RunEnded, ctx: &mut Self::Context) {
        // A run that `Shutdown` removed has already answered its waiters.
        if self.runs.get(&ended.name).is_none_or(|run| run.serial != ended.serial) {
            return;
        }
        let Some(run) = self.runs.remove(&ended.name) else { return };
        let managed = self.providers.get(&ended.name);
        let RunResult { took, ran } = ended.result;
        if ran {
            let backoff = self.backoffs.entry(ended.name.clone()).or_default();
            backoff.ended(run.kind, took.as_ref().err(), Instant::now());
        }
        match (&took, managed) {
            (Ok(_), Some(managed)) => {
                managed.power_changed.do_send(PowerChanged { awake: run.kind == RecipeKind::Wake });
            }
            (Ok(_), None) => (),
            (Err(_), _) if !ran => (),
            (Err(reason), _) => {
                news!(
                    warn,
                    "failed recipes",
                    &ended.name,
                    [provider = ended.name],
                    "provider {}: {reason}",
                    ended.name
                );
            }
        }
        let config = managed.map(|managed| Arc::clone(&managed.config));
        for waiter in run.waiters {
            self.answer(&ended.name, waiter, took.clone());
        }
        match config {
            Some(config) if !run.then_wake.is_empty() => {
                self.start(RecipeKind::Wake, &ended.name, config, run.then_wake, ctx);
            }
            _ => {
                for waiter in run.then_wake {
                    self.answer(&ended.name, waiter, Err(texts::not_registered_locally(&ended.name)));
                }
            }
        }
    }
}

impl Handler<SetWakePaused> for WakeActor {
    type Result = ();

    fn handle(&mut self, SetWakePaused(pause): SetWakePaused, _: &mut Self::Context) {
        self.pause = pause;
    }
}

impl Handler<SetProviders> for WakeActor {
    type Result = ();

    fn handle(&mut self, new: SetProviders, _: &mut Self::Context) {
        self.providers = new
            .providers
            .into_iter()
            .map(|managed| (managed.config.wire_name.to_string(), managed))
            .collect();
        self.backoffs.retain(|name, _| self.providers.contains_key(name));
        self.backoffs.values_mut().for_each(RecipeBackoff::reset);
    }
}

impl Handler<Shutdown> for WakeActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        self.closing = true;
        // A dropped run kills its process group.
        for (name, run) in std::mem::take(&mut self.runs) {
            for waiter in run.waiters.into_iter().chain(run.then_wake) {
                self.answer(&name, waiter, Err(texts::SHUTTING_DOWN.to_owned()));
            }
        }
    }
}
