//! `WakeActor`: runs recipes, one at a time for each provider, with a pause between two runs.
//!
//! Recipes come from the configuration alone: the hub sends the name of a provider and nothing more.

mod backoff;
mod handlers;
pub(crate) mod messages;
mod recipe;
mod run;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use wire::result::TaskResult;
use wire::texts;

use crate::backend::Client;
use crate::failed::{self, Code};
use crate::heartbeat::messages::Beat;
use crate::options::ProviderConfig;
use crate::outbox::{Outbox, Ticket};
use crate::status::Pause;
use crate::supervise::catch_panic;

use backoff::RecipeBackoff;
use messages::ManagedProvider;
use recipe::RecipeKind;
use run::RunResult;

#[derive(Clone)]
pub(crate) struct WakeLinks {
    /// `HeartbeatActor`, at each poll.
    pub(crate) beat: Recipient<Beat>,
    /// The HTTP client of recipes and polls.
    pub(crate) http: Client,
}

/// Runs recipes. All of its state survives a crash, because processes run and callers wait for them.
pub(crate) struct WakeActor {
    links: WakeLinks,
    outbox: Outbox,
    providers: HashMap<String, ManagedProvider>,
    runs: HashMap<String, Run>,
    backoffs: HashMap<String, RecipeBackoff>,
    /// Refuses wake tasks of the hub: a woken backend would take the GPU that the owner paused for.
    pause: Option<Pause>,
    closing: bool,
    serial: u64,
}

/// A recipe that runs, or waits for the end of its pause.
struct Run {
    serial: u64,
    kind: RecipeKind,
    waiters: Vec<Waiter>,
    /// Wake requests that came while the sleep recipe runs. A wake run follows it.
    then_wake: Vec<Waiter>,
    /// Ends the pause.
    skip_pause: Rc<Notify>,
    _stop: oneshot::Sender<()>,
}

/// A recipient of a run's result.
enum Waiter {
    /// A wake task of the hub.
    Task(Ticket),
    Local {
        answer: oneshot::Sender<Result<Duration, String>>,
        by_owner: bool,
    },
}

/// A run has ended. Sent by its future.
#[derive(Message)]
#[rtype(result = "()")]
struct RunEnded {
    name: String,
    serial: u64,
    result: RunResult,
}

impl WakeActor {
    pub(crate) fn new(links: WakeLinks, outbox: Outbox) -> Self {
        let (providers, runs, backoffs) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { links, outbox, providers, runs, backoffs, pause: None, closing: false, serial: 0 }
    }

    /// Starts a run, or adds `waiter` to the current run.
    fn request(&mut self, kind: RecipeKind, name: &str, waiter: Waiter, ctx: &mut Context<Self>) {
        if self.closing {
            return self.answer(name, waiter, Err(texts::SHUTTING_DOWN.to_owned()));
        }
        if let Some(run) = self.runs.get_mut(name) {
            if waiter.is_owner() {
                run.skip_pause.notify_one();
            }
            match (kind, run.kind) {
                (RecipeKind::Wake, RecipeKind::Sleep) => run.then_wake.push(waiter),
                (RecipeKind::Sleep, RecipeKind::Wake) => {
                    self.answer(name, waiter, Err(format!("provider '{name}' is waking up")));
                }
                _ => run.waiters.push(waiter),
            }
            return;
        }
        let Some(managed) = self.providers.get(name) else {
            return self.answer(name, waiter, Err(texts::not_registered_locally(name)));
        };
        let config = Arc::clone(&managed.config);
        self.start(kind, name, config, vec![waiter], ctx);
    }

    fn start(
        &mut self,
        kind: RecipeKind,
        name: &str,
        config: Arc<ProviderConfig>,
        waiters: Vec<Waiter>,
        ctx: &mut Context<Self>,
    ) {
        self.serial += 1;
        let (serial, name) = (self.serial, name.to_owned());
        let (stop, stopped) = oneshot::channel();
        let was_checked = !waiters.iter().any(|waiter| matches!(waiter, Waiter::Task(_)));
        let by_owner = waiters.iter().any(Waiter::is_owner);
        let backoff = self.backoffs.entry(name.clone()).or_default();
        let plan = backoff.plan(Instant::now(), by_owner, was_checked);
        let skip_pause = Rc::<Notify>::default();
        let run = Run {
            serial,
            kind,
            waiters,
            then_wake: Vec::new(),
            skip_pause: Rc::clone(&skip_pause),
            _stop: stop,
        };
        self.runs.insert(name.clone(), run);
        let label = format!("recipe of {}", config.name).into();
        let (http, beat) = (self.links.http.clone(), self.links.beat.clone());
        let running = run::run(kind, config, plan, skip_pause, http, beat, stopped);
        let address = ctx.address();
        actix_rt::spawn(async move {
            let crashed = || RunResult::ran(Err(texts::wake_recipe_failed("the recipe crashed")));
            let result = catch_panic(label, running).await.unwrap_or_else(|_panicked| crashed());
            address.do_send(RunEnded { name, serial, result });
        });
    }

    fn answer(&self, name: &str, waiter: Waiter, took: Result<Duration, String>) {
        match waiter {
            Waiter::Task(ticket) => {
                let result = match took {
                    Ok(took) => TaskResult::awake(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                    Err(error) => {
                        failed::note(&ticket, name, Code::of_text(&error));
                        TaskResult::error(error)
                    }
                };
                self.outbox.finish(ticket, &result);
            }
            // Fails when the request was dropped.
            Waiter::Local { answer, .. } => drop(answer.send(took)),
        }
    }
}

impl Waiter {
    fn is_owner(&self) -> bool {
        matches!(self, Self::Local { by_owner: true, .. })
    }
}

impl Actor for WakeActor {
    type Context = Context<Self>;
}

impl Supervised for WakeActor {}
