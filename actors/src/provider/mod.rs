//! `ProviderActor`: one published LLM. At most `maxConcurrency` inferences run, the others wait in a bounded queue.
//!
//! The way of one inference through the registrar, from the control channel to the hub:
//!
//! ```text
//! read      StreamActor::channel_event   stream/reading.rs        gets the tasks of the control channel, a link or SSE
//! route     TaskRouter::task             stream/task_router.rs    takes a Ticket from Outbox::accept and sends Infer
//! admit     Handler<Infer>               provider/handlers.rs     puts the task into the AdmissionQueue, or refuses it
//! start     ProviderActor::start_next    provider/mod.rs          takes it from the queue and spawns a Job
//! run       Job::run                     provider/job.rs          ends the task: with its answer, or when it is stopped
//! build     Job::backend_request         provider/request.rs      checks the request and writes it for the backend
//! call      Job::call                    provider/job.rs          wakes the backend if it sleeps, and calls it
//!           BackendCall::head            provider/backend_call.rs waits for a whole reply or the begin of a stream
//! read      AnswerStream::poll_next      crate backend            decodes, checks and redacts the events of a stream
//! stream    send_events                  provider/link_stream.rs  writes chunks as SSE into one body over the link
//!           post_chunks                  provider/chunk_posts.rs  or posts them one by one without a link
//! send      Outbox::send_stream          outbox/mod.rs            drops what a superseded task still sends
//!           RegistrarLink::send_stream   hub_client/link/mod.rs   sends the body as far as the hub grants credit
//! finish    Outbox::finish               outbox/mod.rs            sends a whole result until the hub takes it
//! free      Handler<JobEnded>            provider/handlers.rs     frees the slot and starts the next task
//! ```
//!
//! Each inference is a future of its own, which a crash of the actor does not touch: its panic ends its task and counts
//! as a crash of the actor, and the panic of the actor costs the message that caused it.

mod admission_queue;
mod backend_call;
mod chunk_posts;
mod handlers;
mod health;
mod idle;
mod job;
mod link_stream;
pub(crate) mod messages;
mod refuse;
mod request;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wire::{TaskId, texts};

use crate::backend::{self, Backend, Client};
use crate::options::ProviderConfig;
use crate::outbox::{BacklogPermit, Outbox};
use crate::status::{Pace, Pause, ProviderReport};
use crate::supervise::{CrashReporter, catch_panic};
use crate::wake::messages::{EnsureAwake, PutToSleep};

use admission_queue::AdmissionQueue;
use health::{BackendState, Health};
use idle::IdleTimer;
use job::{Job, JobReport, StopReason};
use messages::Infer;

#[derive(Clone)]
pub(crate) struct ProviderLinks {
    /// `WakeActor`.
    pub(crate) ensure_awake: Recipient<EnsureAwake>,
    /// `WakeActor`, after `idleSeconds` without a task.
    pub(crate) put_to_sleep: Recipient<PutToSleep>,
    /// `HeartbeatActor` and the root, when the report changes.
    pub(crate) changed: Vec<Recipient<ProviderReport>>,
    /// The HTTP client of all backends.
    pub(crate) http: Client,
    /// Interval of the health checks.
    pub(crate) check_every: Duration,
}

/// One published LLM.
pub(crate) struct ProviderActor {
    config: Arc<ProviderConfig>,
    links: ProviderLinks,
    outbox: Outbox,
    crashes: CrashReporter,
    backend: Rc<dyn Backend>,
    // All fields except `state` survive a crash: waiting and running tasks have callers, and a backend put to sleep still sleeps.
    queue: AdmissionQueue<WaitingTask, oneshot::Sender<StopReason>>,
    health: Health,
    pause: Option<Pause>,
    logged_state: BackendState,
    tasks_done: u64,
    tasks_refused: u64,
    tokens_per_second: Option<f64>,
    pace: Pace,
    state: ProviderState,
}

#[derive(Debug)]
struct WaitingTask {
    infer: Infer,
    _permit: BacklogPermit,
}

/// State that a crash resets.
#[derive(Default)]
struct ProviderState {
    /// The last report that was sent to the listeners.
    reported: Option<ProviderReport>,
    /// Whether the timer of the next report runs.
    reporting: bool,
    /// The running health check.
    check: Option<SpawnHandle>,
    idle: IdleTimer,
}

/// An inference has ended, and its slot is free. Sent by its future.
#[derive(Message)]
#[rtype(result = "()")]
struct JobEnded {
    id: TaskId,
    report: JobReport,
    took: Duration,
}

impl ProviderActor {
    pub(crate) fn new(
        config: Arc<ProviderConfig>,
        links: ProviderLinks,
        outbox: Outbox,
        crashes: CrashReporter,
    ) -> Self {
        let backend = backend::make(&config, &links.http);
        let queue = AdmissionQueue::new(config.max_concurrency.max(1), config.max_queue);
        Self {
            config,
            links,
            outbox,
            crashes,
            backend,
            queue,
            health: Health::default(),
            pause: None,
            logged_state: BackendState::Up,
            tasks_done: 0,
            tasks_refused: 0,
            tokens_per_second: None,
            pace: Pace::default(),
            state: ProviderState::default(),
        }
    }

    /// Starts as many waiting tasks as may run.
    fn start_next(&mut self, ctx: &mut Context<Self>) {
        while !self.state.idle.falling_asleep
            && let Some((id, WaitingTask { infer, .. })) = self.queue.next()
        {
            let (stop, stopped) = oneshot::channel();
            self.queue.start(id.clone(), stop);
            let job = Job {
                task: infer.task,
                ticket: infer.ticket,
                features: infer.features,
                config: Arc::clone(&self.config),
                backend: Rc::clone(&self.backend),
                outbox: self.outbox.clone(),
                wake: self.links.ensure_awake.clone(),
                backend_state: self.health.backend_state(),
            };
            let (address, crashes) = (ctx.address(), self.crashes.clone());
            let name = format!("provider {}, one task", self.config.name).into();
            actix_rt::spawn(async move {
                let began = Instant::now();
                let report = catch_panic(name, job.run(stopped)).await.unwrap_or_else(|_panicked| {
                    // The dropped ticket ends the task with an error.
                    crashes.task_crashed();
                    JobReport::default()
                });
                address.do_send(JobEnded { id, report, took: began.elapsed() });
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
        self.sleep_when_idle(ctx);
    }
}

impl Supervised for ProviderActor {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.state = ProviderState::default();
        // The state of the backend may have caused the crash.
        self.backend = backend::make(&self.config, &self.links.http);
    }
}

/// Refuses the waiting tasks of a provider that crashed too often or was removed.
impl Drop for ProviderActor {
    fn drop(&mut self) {
        let error = texts::not_registered_locally(self.config.wire_name.as_str());
        self.refuse_waiting(&error);
    }
}
