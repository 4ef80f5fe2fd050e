//! `ProviderActor`: one published LLM. At most `maxConcurrency` inferences at a time, the rest in a bounded queue.
//!
//! Each inference is a future of its own, which a crash of the actor does not touch: a panic in one ends that task and
//! counts against the actor, and the actor's own panic costs the message that caused it.

mod admission_queue;
mod backend_call;
mod deliver;
mod health;
mod job;
pub mod links;
pub mod messages;
mod refuse;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;
use wire::{Feature, TaskId, texts};

use crate::backend::{self, Backend};
use crate::options::ProviderConfig;
use crate::outbox::{Load, Outbox};
use crate::status::Pause;
use crate::supervise::{CrashReporter, catch_panic};
use crate::wake::messages::PowerChanged;

use admission_queue::{Admission, AdmissionQueue};
use health::{BackendState, Health, ProbeDelay};
use job::{Job, Outcome, Stop};
use links::ProviderLinks;
use messages::{Abort, Cancel, Drain, GetReport, Infer, ProviderReport, Reconfigure, SetPaused};

/// One published LLM.
pub struct ProviderActor {
    config: Arc<ProviderConfig>,
    links: ProviderLinks,
    outbox: Outbox,
    crashes: CrashReporter,
    backend: Rc<dyn Backend>,
    /// Outlives a crash: what waits and what runs has callers.
    admission: AdmissionQueue<Waiting, oneshot::Sender<Stop>>,
    /// Outlives one too: whom we put to sleep stays asleep.
    health: Health,
    /// The owner's pause; also outlives a crash.
    pause: Option<Pause>,
    /// How the backend stood when that was last logged.
    stood: BackendState,
    tasks_done: u64,
    tokens_per_second: Option<f64>,
    state: State,
}

/// A task that waits, and what it counts for.
#[derive(Debug)]
struct Waiting {
    infer: Infer,
    _load: Load,
}

/// What a crash resets.
#[derive(Default)]
struct State {
    /// What the listeners know.
    reported: Option<ProviderReport>,
    /// Whether a report is on its way.
    reporting: bool,
    /// The question after the backend's health that has no answer yet.
    check: Option<SpawnHandle>,
    rest: ProbeDelay,
}

/// From an inference of this provider: it has ended. Its slot is free.
#[derive(Message)]
#[rtype(result = "()")]
struct JobEnded {
    id: TaskId,
    outcome: Outcome,
}

impl ProviderActor {
    /// A provider with its backend.
    pub fn new(
        config: Arc<ProviderConfig>,
        links: ProviderLinks,
        outbox: Outbox,
        crashes: CrashReporter,
    ) -> Self {
        let backend = backend::make(&config, &links.http);
        let admission = AdmissionQueue::new(config.max_concurrency.max(1), config.max_queue);
        let (health, state) = (Health::default(), State::default());
        let (tasks_done, tokens_per_second) = (0, None);
        let pause = None;
        Self {
            config,
            links,
            outbox,
            crashes,
            backend,
            admission,
            health,
            pause,
            stood: BackendState::Up,
            tasks_done,
            tokens_per_second,
            state,
        }
    }

    /// Starts what may run.
    fn start_next(&mut self, ctx: &mut Context<Self>) {
        while !self.state.rest.begins
            && let Some((id, Waiting { infer, .. })) = self.admission.next()
        {
            let (stop, stopped) = oneshot::channel();
            self.admission.start(id.clone(), stop);
            let job = Job {
                task: infer.task,
                ticket: infer.ticket,
                features: infer.agreed.features,
                config: Arc::clone(&self.config),
                backend: Rc::clone(&self.backend),
                outbox: self.outbox.clone(),
                wake: self.links.ensure_awake.clone(),
                backend_state: self.health.backend_state(),
            };
            let (address, crashes) = (ctx.address(), self.crashes.clone());
            let name = format!("provider {}, one task", self.config.name).into();
            actix_rt::spawn(async move {
                let outcome = catch_panic(name, job.run(stopped)).await.unwrap_or_else(|_panicked| {
                    // Its ticket fell with it, which ends the task with an error.
                    crashes.task_crashed();
                    Outcome::default()
                });
                address.do_send(JobEnded { id, outcome });
            });
        }
        self.changed(ctx);
    }
}

impl Actor for ProviderActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_health(ctx);
        self.start_next(ctx);
        self.rest_when_idle(ctx);
    }
}

impl Supervised for ProviderActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.state = State::default();
        // What crashed may be the backend's own bookkeeping.
        self.backend = backend::make(&self.config, &self.links.http);
    }
}

/// Crashed too often, or removed: what still waits here gets the answer that later tasks get.
impl Drop for ProviderActor {
    fn drop(&mut self) {
        let error = texts::not_registered_locally(self.config.wire_name.as_str());
        for waiting in self.admission.close() {
            self.refuse(waiting.infer.ticket, &error);
        }
    }
}

impl Handler<Infer> for ProviderActor {
    type Result = ();

    fn handle(&mut self, infer: Infer, ctx: &mut Self::Context) {
        if let Some(pause) = self.pause.filter(|_| infer.agreed.features.has(Feature::Status)) {
            // The hub learns of the pause within a second; what it sends until then is told to try again, elsewhere or later.
            return self.refuse_paused(infer.ticket, pause);
        }
        let (backlog, size) = (self.outbox.backlog(), infer.size());
        let load = if self.admission.makes_wait() { backlog.take(size) } else { Some(backlog.add(size)) };
        let Some(load) = load else {
            let most = backlog.mebibytes();
            let text = format!("{most} MiB of requests wait at the publisher already, try again later");
            return self.refuse_full(infer.ticket, &text);
        };
        match self.admission.admit(infer.task.id.clone(), Waiting { infer, _load: load }) {
            Admission::Waits => self.start_next(ctx),
            Admission::Closed(waiting) => self.refuse(waiting.infer.ticket, texts::SHUTTING_DOWN),
            Admission::Full(waiting) => {
                let text = format!("the queue of '{}' is full", self.config.wire_name);
                self.refuse_full(waiting.infer.ticket, &text);
            }
        }
    }
}

impl Handler<JobEnded> for ProviderActor {
    type Result = ();

    fn handle(&mut self, ended: JobEnded, ctx: &mut Self::Context) {
        self.admission.ended(&ended.id);
        self.tasks_done += 1;
        self.tokens_per_second = ended.outcome.pace.or(self.tokens_per_second);
        if let Some(reached) = ended.outcome.reached {
            self.health.met(reached);
        }
        self.start_next(ctx);
        self.rest_when_idle(ctx);
    }
}

impl Handler<Cancel> for ProviderActor {
    type Result = ();

    fn handle(&mut self, cancel: Cancel, ctx: &mut Self::Context) {
        if let Some(waiting) = self.admission.withdraw(&cancel.task_id) {
            self.outbox.close(waiting.infer.ticket);
            self.changed(ctx);
        } else if let Some(stop) = self.admission.handle(&cancel.task_id) {
            stop_job(stop, Stop::CallerLeft);
        }
    }
}

impl Handler<Drain> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: Drain, ctx: &mut Self::Context) {
        for waiting in self.admission.close() {
            self.refuse(waiting.infer.ticket, texts::SHUTTING_DOWN);
        }
        self.changed(ctx);
    }
}

impl Handler<Abort> for ProviderActor {
    type Result = ();

    fn handle(&mut self, abort: Abort, _: &mut Self::Context) {
        for waiting in self.admission.close() {
            self.refuse(waiting.infer.ticket, &abort.error);
        }
        for stop in self.admission.handles() {
            stop_job(stop, Stop::Error(abort.error.clone()));
        }
    }
}

impl Handler<Reconfigure> for ProviderActor {
    type Result = ();

    fn handle(&mut self, new: Reconfigure, ctx: &mut Self::Context) {
        self.config = new.config;
        self.backend = backend::make(&self.config, &self.links.http);
        self.admission.resize(self.config.max_concurrency.max(1), self.config.max_queue);
        // What was known, asked and waited for was about the old settings.
        for old in [self.state.check.take(), self.state.rest.timer.take()].into_iter().flatten() {
            ctx.cancel_future(old);
        }
        self.start_next(ctx);
        self.check_health(ctx);
        self.rest_when_idle(ctx);
    }
}

impl Handler<SetPaused> for ProviderActor {
    type Result = ();

    fn handle(&mut self, SetPaused(pause): SetPaused, ctx: &mut Self::Context) {
        self.admission.set_paused(pause.is_some());
        self.pause = pause;
        self.start_next(ctx);
    }
}

impl Handler<PowerChanged> for ProviderActor {
    type Result = ();

    fn handle(&mut self, power: PowerChanged, ctx: &mut Self::Context) {
        self.health.turned(power.awake);
        self.changed(ctx);
        self.rest_when_idle(ctx);
    }
}

impl Handler<GetReport> for ProviderActor {
    type Result = ProviderReport;

    fn handle(&mut self, _: GetReport, _: &mut Self::Context) -> ProviderReport {
        self.report()
    }
}

/// A job hears it once; the second word finds the first one's channel.
fn stop_job(stop: &mut oneshot::Sender<Stop>, why: Stop) {
    let (spent, _) = oneshot::channel();
    // One that has just ended hears nothing.
    let _ = std::mem::replace(stop, spent).send(why);
}
