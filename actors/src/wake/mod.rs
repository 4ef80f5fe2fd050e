//! `WakeActor`: executes recipes. One run at a time for a provider, however many ask for it, and with a pause between two.
//!
//! Recipes come from the configuration alone: the hub sends a name and nothing more.

pub mod links;
pub mod messages;
mod pace;
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

use crate::failed::{self, Code};
use crate::news::news;
use crate::options::ProviderConfig;
use crate::outbox::{Outbox, Ticket};
use crate::supervise::catch_panic;

use links::WakeLinks;
use messages::{EnsureAwake, Managed, PowerChanged, PutToSleep, SetProviders, Shutdown, Wake};
use pace::Pace;
use run::{Ended, Kind};

/// The one who runs recipes.
pub struct WakeActor {
    links: WakeLinks,
    outbox: Outbox,
    /// All below outlives a crash: processes run, and callers wait for them.
    providers: HashMap<String, Managed>,
    runs: HashMap<String, Run>,
    paces: HashMap<String, Pace>,
    closing: bool,
    serial: u64,
}

/// A recipe that runs.
struct Run {
    serial: u64,
    kind: Kind,
    asked: Vec<Asker>,
    /// They came while it went to sleep: it has to come up again first.
    then_wake: Vec<Asker>,
    /// Ends the pause before it.
    hurry: Rc<Notify>,
    _stop: oneshot::Sender<()>,
}

/// Who wants to know how a run ends.
enum Asker {
    HubApi(Ticket),
    Here { waiting: oneshot::Sender<Result<Duration, String>>, by_owner: bool },
}

/// From a run: it has ended.
#[derive(Message)]
#[rtype(result = "()")]
struct RunEnded {
    name: String,
    serial: u64,
    ended: Ended,
}

impl WakeActor {
    /// The one there is.
    pub fn new(links: WakeLinks, outbox: Outbox) -> Self {
        let (providers, runs, paces) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { links, outbox, providers, runs, paces, closing: false, serial: 0 }
    }

    fn ask(&mut self, kind: Kind, name: &str, asker: Asker, ctx: &mut Context<Self>) {
        if self.closing {
            return self.answer(name, asker, Err(texts::SHUTTING_DOWN.to_owned()));
        }
        if let Some(run) = self.runs.get_mut(name) {
            if asker.is_owner() {
                run.hurry.notify_one();
            }
            match (kind, run.kind) {
                (Kind::Wake, Kind::Sleep) => run.then_wake.push(asker),
                (Kind::Sleep, Kind::Wake) => {
                    self.answer(name, asker, Err(format!("provider '{name}' is waking up")));
                }
                _ => run.asked.push(asker),
            }
            return;
        }
        let Some(managed) = self.providers.get(name) else {
            return self.answer(name, asker, Err(texts::not_registered_locally(name)));
        };
        let config = Arc::clone(&managed.config);
        self.start(kind, name, config, vec![asker], ctx);
    }

    fn start(
        &mut self,
        kind: Kind,
        name: &str,
        config: Arc<ProviderConfig>,
        asked: Vec<Asker>,
        ctx: &mut Context<Self>,
    ) {
        self.serial += 1;
        let (serial, name) = (self.serial, name.to_owned());
        let (stop, stopped) = oneshot::channel();
        let has_looked = !asked.iter().any(|asker| matches!(asker, Asker::HubApi(_)));
        let by_owner = asked.iter().any(Asker::is_owner);
        let first = self.paces.entry(name.clone()).or_default().first(Instant::now(), by_owner, has_looked);
        let hurry = Rc::<Notify>::default();
        let run = Run { serial, kind, asked, then_wake: Vec::new(), hurry: Rc::clone(&hurry), _stop: stop };
        self.runs.insert(name.clone(), run);
        let label = format!("recipe of {}", config.name).into();
        let (http, beat) = (self.links.http.clone(), self.links.beat.clone());
        let running = run::run(kind, config, first, hurry, http, beat, stopped);
        let address = ctx.address();
        actix_rt::spawn(async move {
            let crashed = || Ended::ran(Err(texts::wake_recipe_failed("the recipe crashed")));
            let ended = catch_panic(label, running).await.unwrap_or_else(|_panicked| crashed());
            address.do_send(RunEnded { name, serial, ended });
        });
    }

    fn answer(&self, name: &str, asker: Asker, outcome: Result<Duration, String>) {
        match asker {
            Asker::HubApi(ticket) => {
                let result = match outcome {
                    Ok(took) => TaskResult::awake(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
                    Err(error) => {
                        failed::note(&ticket, name, Code::of_text(&error));
                        TaskResult::error(error)
                    }
                };
                self.outbox.finish(ticket, &result);
            }
            // One who does not wait any more does not mind.
            Asker::Here { waiting, .. } => drop(waiting.send(outcome)),
        }
    }
}

impl Asker {
    fn is_owner(&self) -> bool {
        matches!(self, Self::Here { by_owner: true, .. })
    }
}

impl Actor for WakeActor {
    type Context = Context<Self>;
}

impl Supervised for WakeActor {}

impl Handler<Wake> for WakeActor {
    type Result = ();

    fn handle(&mut self, Wake { task, ticket }: Wake, ctx: &mut Self::Context) {
        self.ask(Kind::Wake, &task.llm_name, Asker::HubApi(ticket), ctx);
    }
}

impl Handler<EnsureAwake> for WakeActor {
    type Result = ResponseActFuture<Self, Result<Duration, String>>;

    fn handle(&mut self, wake: EnsureAwake, ctx: &mut Self::Context) -> Self::Result {
        let (waiting, woken) = oneshot::channel();
        let asker = Asker::Here { waiting, by_owner: wake.by_owner };
        self.ask(Kind::Wake, &wake.wire_name, asker, ctx);
        Box::pin(
            async { woken.await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned())) }.into_actor(self),
        )
    }
}

impl Handler<PutToSleep> for WakeActor {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, sleep: PutToSleep, ctx: &mut Self::Context) -> Self::Result {
        let (waiting, slept) = oneshot::channel();
        let asker = Asker::Here { waiting, by_owner: false };
        self.ask(Kind::Sleep, &sleep.wire_name, asker, ctx);
        let slept =
            async { slept.await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned())).map(|_| ()) };
        Box::pin(slept.into_actor(self))
    }
}

impl Handler<RunEnded> for WakeActor {
    type Result = ();

    fn handle(&mut self, ended: RunEnded, ctx: &mut Self::Context) {
        // One that shutdown has answered already is not asked again.
        if self.runs.get(&ended.name).is_none_or(|run| run.serial != ended.serial) {
            return;
        }
        let Some(run) = self.runs.remove(&ended.name) else { return };
        let managed = self.providers.get(&ended.name);
        let Ended { outcome, ran } = ended.ended;
        if ran {
            let pace = self.paces.entry(ended.name.clone()).or_default();
            pace.ended(run.kind, outcome.as_ref().err(), Instant::now());
        }
        match (&outcome, managed) {
            (Ok(_), Some(managed)) => {
                managed.provider.do_send(PowerChanged { awake: run.kind == Kind::Wake });
            }
            (Ok(_), None) => (),
            (Err(_), _) if !ran => (),
            (Err(reason), _) => {
                news!(warn, "failed recipes", &ended.name, "provider {}: {reason}", ended.name);
            }
        }
        let again = managed.map(|managed| Arc::clone(&managed.config));
        for asker in run.asked {
            self.answer(&ended.name, asker, outcome.clone());
        }
        match again {
            Some(config) if !run.then_wake.is_empty() => {
                self.start(Kind::Wake, &ended.name, config, run.then_wake, ctx);
            }
            _ => {
                for asker in run.then_wake {
                    self.answer(&ended.name, asker, Err(texts::not_registered_locally(&ended.name)));
                }
            }
        }
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
        self.paces.retain(|name, _| self.providers.contains_key(name));
        self.paces.values_mut().for_each(Pace::forgive);
    }
}

impl Handler<Shutdown> for WakeActor {
    type Result = ();

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) {
        self.closing = true;
        // Dropping a run's stop kills what it runs.
        for (name, run) in std::mem::take(&mut self.runs) {
            for asker in run.asked.into_iter().chain(run.then_wake) {
                self.answer(&name, asker, Err(texts::SHUTTING_DOWN.to_owned()));
            }
        }
    }
}
