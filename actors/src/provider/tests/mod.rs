//! A `ProviderActor` with a fake uplink and a backend that the test controls, on a paused clock.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, pause, sleep};
use wire::Features;
use wire::row::Status;
use wire::task::InferTask;

use super::messages::{Abort, Cancel, Drain, GetReport, Reconfigure, SetPaused};
use super::*;
use crate::Secret;
use crate::backend::BackendError;
use crate::fakes::backend::{BackendHandle, FakeUplink, PostedResults, ScriptedBackend, infer_task};
use crate::fakes::hub::{Received, probe};
use crate::options::{Action, BackendConfig, CustomBackend, OnAbort, SleepRecipe, WakeRecipe};
use crate::supervise::{ChildHandle, ChildReport, PreparedActor};
use crate::uplink::Outcome;
use crate::wake::messages::{EnsureAwake, PutToSleep};

mod delivery;
mod ending;
mod health;
mod queue;
mod slow_hub;
mod waking;

thread_local! {
    /// The backend of the test on this thread. Settings are sent in messages, which cannot contain an `Rc`.
    static BACKEND: Rc<ScriptedBackend> = Rc::default();
}

/// Replaces the `WakeActor`: stores the requests, and returns prepared answers.
#[derive(Default)]
struct Waker {
    asked: Rc<RefCell<Vec<&'static str>>>,
    answers: Rc<RefCell<VecDeque<Result<Duration, String>>>>,
    takes: Duration,
    falls_asleep_in: Rc<Cell<Duration>>,
}

impl Actor for Waker {
    type Context = Context<Self>;
}

impl Handler<EnsureAwake> for Waker {
    type Result = ResponseFuture<Result<Duration, String>>;

    fn handle(&mut self, _: EnsureAwake, _: &mut Self::Context) -> Self::Result {
        self.asked.borrow_mut().push("wake");
        let answer = self.answers.borrow_mut().pop_front().unwrap_or(Ok(Duration::ZERO));
        let takes = self.takes;
        Box::pin(async move {
            sleep(takes).await;
            BACKEND.with(|backend| backend.down.set(answer.is_err()));
            answer
        })
    }
}

impl Handler<PutToSleep> for Waker {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, _: PutToSleep, _: &mut Self::Context) -> Self::Result {
        self.asked.borrow_mut().push("sleep");
        let takes = self.falls_asleep_in.get();
        Box::pin(async move {
            sleep(takes).await;
            BACKEND.with(|backend| backend.down.set(true));
            Ok(())
        })
    }
}

struct Setup {
    results: Rc<PostedResults>,
    backend: Rc<ScriptedBackend>,
    outbox: Outbox,
    actor: Addr<ProviderActor>,
    reports: Received<ProviderReport>,
    crashes: Received<ChildReport>,
    asked: Rc<RefCell<Vec<&'static str>>>,
    wake_answers: Rc<RefCell<VecDeque<Result<Duration, String>>>>,
    falls_asleep_in: Rc<Cell<Duration>>,
    handle: ChildHandle,
}

fn config() -> ProviderConfig {
    let backend = CustomBackend(Arc::new(|| {
        let backend = BACKEND.with(Rc::clone);
        backend.made.set(backend.made.get() + 1);
        Rc::new(BackendHandle(backend))
    }));
    ProviderConfig::new("a".parse().unwrap(), "m", BackendConfig::Custom(backend))
}

fn with_recipe() -> ProviderConfig {
    let action = Action::Http {
        url: Secret::new("http://127.0.0.1:1/"),
        method: "POST".into(),
        headers: Vec::new(),
        body: None,
    };
    ProviderConfig { wake: Some(WakeRecipe { action, max_wait: Duration::from_mins(1) }), ..config() }
}

fn start(config: ProviderConfig) -> Setup {
    pause();
    let results = Rc::<PostedResults>::default();
    let outbox = Outbox::new(Rc::new(FakeUplink(Rc::clone(&results))));
    start_at(results, outbox, config)
}

/// Starts a provider that shares `results` and `outbox` with others, as the providers of a registrar do.
fn start_at(results: Rc<PostedResults>, outbox: Outbox, config: ProviderConfig) -> Setup {
    let waker = Waker { takes: Duration::from_secs(3), ..Waker::default() };
    let (asked, wake_answers) = (Rc::clone(&waker.asked), Rc::clone(&waker.answers));
    let falls_asleep_in = Rc::clone(&waker.falls_asleep_in);
    let waker = waker.start();
    let ((changed, reports), (parent, crashes)) = (probe(), probe());
    let links = ProviderLinks {
        ensure_awake: waker.clone().recipient(),
        put_to_sleep: waker.recipient(),
        changed: vec![changed],
        http: crate::backend::Client::new(None),
        check_every: Duration::from_secs(10),
    };
    let prepared = PreparedActor::<ProviderActor>::new();
    let (actor, reporter) = (prepared.address(), prepared.crash_reporter());
    let provider = ProviderActor::new(Arc::new(config), links, outbox.clone(), reporter);
    let handle = prepared.start("provider a", parent, provider);
    let backend = BACKEND.with(Rc::clone);
    Setup { results, backend, outbox, actor, reports, crashes, asked, wake_answers, falls_asleep_in, handle }
}

impl Setup {
    fn send(&self, id: &str, streaming: bool, features: Features) {
        self.send_at(id, None, streaming, features);
    }

    fn send_at(&self, id: &str, endpoint: Option<&str>, streaming: bool, features: Features) {
        let mut task = infer_task(id, streaming);
        task.endpoint = endpoint.map(str::to_owned);
        let ticket = self.outbox.accept(&task.id, 0).unwrap();
        self.actor.do_send(Infer { task, ticket, features });
    }

    async fn infer(&self, id: &str) {
        self.send(id, false, Features::CLASSIC);
        run_ready_tasks().await;
    }

    async fn infer_at(&self, id: &str, endpoint: &str) {
        self.send_at(id, Some(endpoint), false, Features::CLASSIC);
        run_ready_tasks().await;
    }

    async fn stream(
        &self,
        id: &str,
        features: Features,
    ) -> tokio::sync::mpsc::UnboundedSender<Result<String, BackendError>> {
        self.send(id, true, features);
        run_ready_tasks().await;
        self.backend.next().stream()
    }

    async fn cancel(&self, id: &str) {
        self.actor.do_send(Cancel { task_id: TaskId::parse(id).unwrap() });
        run_ready_tasks().await;
    }

    async fn report(&self) -> ProviderReport {
        self.actor.send(GetReport).await.unwrap()
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Poison;

impl Handler<Poison> for ProviderActor {
    type Result = ();

    fn handle(&mut self, _: Poison, _: &mut Self::Context) {
        panic!("the test asked for it");
    }
}

/// Runs all ready tasks without advancing the clock.
async fn run_ready_tasks() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn answer(text: &str) -> Value {
    json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": text } }] })
}

fn piece(text: &str) -> String {
    json!({ "choices": [{ "index": 0, "delta": { "content": text } }] }).to_string()
}
