//! A provider between a hub's desk and a backend by hand, on a paused clock.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, pause, sleep};
use wire::Features;
use wire::row::Status;
use wire::task::InferTask;

use super::*;
use crate::backend::BackendError;
use crate::options::{Action, BackendConfig, CustomBackend, OnAbort, SleepRecipe, WakeRecipe};
use crate::secret::Secret;
use crate::supervise::{ChildHandle, ChildReport, Policy, Seat};
use crate::test_hub::desk::{ByHand, Desk, DeskUplink, Shared, infer_task};
use crate::test_hub::scripted::{Heard, probe};
use crate::uplink::{Agreed, Posted};
use crate::wake::messages::{EnsureAwake, PutToSleep};

thread_local! {
    /// The backend of the test that runs on this thread: settings travel in messages, and an `Rc` cannot.
    static BACKEND: Rc<ByHand> = Rc::default();
}

/// Stands in for the `WakeActor`: remembers who asked, and answers as told.
#[derive(Default)]
struct Waker {
    asked: Rc<RefCell<Vec<&'static str>>>,
    answers: Rc<RefCell<VecDeque<Result<Duration, String>>>>,
    takes: Duration,
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
    type Result = Result<(), String>;

    fn handle(&mut self, _: PutToSleep, _: &mut Self::Context) -> Self::Result {
        self.asked.borrow_mut().push("sleep");
        BACKEND.with(|backend| backend.down.set(true));
        Ok(())
    }
}

struct Setup {
    desk: Rc<Desk>,
    backend: Rc<ByHand>,
    outbox: Outbox,
    actor: Addr<ProviderActor>,
    reports: Heard<ProviderReport>,
    crashes: Heard<ChildReport>,
    asked: Rc<RefCell<Vec<&'static str>>>,
    wake_answers: Rc<RefCell<VecDeque<Result<Duration, String>>>>,
    _handle: ChildHandle,
}

fn config() -> ProviderConfig {
    let backend = CustomBackend(Arc::new(|| BACKEND.with(|backend| Rc::new(Shared(Rc::clone(backend))))));
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
    let desk = Rc::<Desk>::default();
    let outbox = Outbox::new(Rc::new(DeskUplink(Rc::clone(&desk))));
    let waker = Waker { takes: Duration::from_secs(3), ..Waker::default() };
    let (asked, wake_answers) = (Rc::clone(&waker.asked), Rc::clone(&waker.answers));
    let waker = waker.start();
    let ((changed, reports), (parent, crashes)) = (probe(), probe());
    let links = Links {
        ensure_awake: waker.clone().recipient(),
        put_to_sleep: waker.recipient(),
        changed: vec![changed],
        http: crate::http::client(None),
        check_every: Duration::from_secs(10),
    };
    let seat = Seat::<ProviderActor>::new();
    let (actor, reporter) = (seat.address(), seat.crashes());
    let provider = ProviderActor::new(Arc::new(config), links, outbox.clone(), reporter);
    let handle = seat.start("provider a", Policy::default(), parent, provider);
    let backend = BACKEND.with(Rc::clone);
    Setup { desk, backend, outbox, actor, reports, crashes, asked, wake_answers, _handle: handle }
}

impl Setup {
    fn send(&self, id: &str, streaming: bool, features: Features) {
        let task = infer_task(id, streaming);
        let ticket = self.outbox.admit(&task.id).unwrap();
        self.actor.do_send(Infer { task, ticket, agreed: Agreed { features } });
    }

    async fn infer(&self, id: &str) {
        self.send(id, false, Features::CLASSIC);
        turns().await;
    }

    async fn stream(
        &self,
        id: &str,
        features: Features,
    ) -> tokio::sync::mpsc::UnboundedSender<Result<String, BackendError>> {
        self.send(id, true, features);
        turns().await;
        self.backend.next().stream()
    }

    async fn cancel(&self, id: &str) {
        self.actor.do_send(Cancel { task_id: TaskId::parse(id).unwrap() });
        turns().await;
    }

    async fn report(&self) -> ProviderReport {
        self.actor.send(GetReport).await.unwrap()
    }
}

/// Lets everything that is ready run, and no timer.
async fn turns() {
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

#[actix::test]
async fn at_most_max_concurrency_run_and_the_rest_start_in_the_order_in_which_they_came() {
    let setup = start(ProviderConfig { max_concurrency: 2, ..config() });
    for id in ["t1", "t2", "t3", "t4"] {
        setup.infer(id).await;
    }
    assert_eq!(setup.backend.calls(), 2);
    let status = setup.report().await.status;
    assert_eq!((status.in_flight, status.queued, status.max_concurrency), (2, 2, 2));
    setup.backend.next().whole(200, &answer("one"));
    turns().await;
    assert_eq!(setup.desk.of("t1"), [json!({ "status": 200, "body": answer("one") })]);
    assert_eq!(setup.backend.calls(), 2);
    for _ in 0..3 {
        setup.backend.next().whole(200, &answer("x"));
        turns().await;
    }
    let order: Vec<String> = setup.desk.posts.borrow().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(order, ["t1", "t2", "t3", "t4"]);
}

#[actix::test]
async fn a_task_that_finds_the_queue_full_is_answered_429() {
    let setup = start(ProviderConfig { max_concurrency: 1, max_queue: 1, ..config() });
    for id in ["t1", "t2", "t3"] {
        setup.infer(id).await;
    }
    assert_eq!(setup.desk.of("t3")[0]["status"], 429);
    assert!(setup.desk.of("t3")[0]["body"]["error"].is_object());
    assert!(setup.desk.of("t2").is_empty());
}

#[actix::test]
async fn a_caller_gets_the_published_model_and_large_integers_pass() {
    let setup = start(config());
    setup.infer("t1").await;
    let body = setup.backend.next().body();
    assert_eq!(
        (&body["model"], &body["seed"], &body["stream"]),
        (&json!("m"), &json!(u64::MAX), &json!(false))
    );
}

#[actix::test]
async fn a_cancelled_task_drops_the_backend_request_at_once() {
    let setup = start(config());
    setup.infer("t1").await;
    let waiting = setup.backend.next();
    setup.cancel("t1").await;
    assert!(waiting.is_dropped());
    assert_eq!(setup.report().await.status.in_flight, 0);
    assert!(setup.desk.of("t1").is_empty(), "nobody waits for a word");
    let pieces = setup.stream("t2", Features::ALL).await;
    pieces.send(Ok(piece("x"))).unwrap();
    setup.cancel("t2").await;
    assert!(pieces.is_closed());
}

#[actix::test]
async fn a_cancelled_task_that_waits_never_runs() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("t1").await;
    setup.infer("t2").await;
    setup.cancel("t2").await;
    setup.backend.next().whole(200, &answer("x"));
    turns().await;
    assert_eq!(setup.backend.calls(), 0);
    assert_eq!(setup.outbox.open(), 0);
}

#[actix::test]
async fn with_on_abort_drain_the_backend_finishes_and_keeps_its_slot_until_then() {
    let setup = start(ProviderConfig { max_concurrency: 1, on_abort: OnAbort::Drain, ..config() });
    let pieces = setup.stream("t1", Features::ALL).await;
    pieces.send(Ok(piece("x"))).unwrap();
    turns().await;
    setup.cancel("t1").await;
    setup.infer("t2").await;
    assert!(!pieces.is_closed());
    assert_eq!(setup.backend.calls(), 0, "the slot is taken");
    pieces.send(Ok(piece("y"))).unwrap();
    drop(pieces);
    turns().await;
    assert_eq!(setup.backend.calls(), 1);
}

#[actix::test]
async fn a_panic_while_answering_one_task_ends_that_task_and_counts_as_a_crash() {
    let setup = start(config());
    setup.infer("t1").await;
    setup.backend.panics.set(true);
    setup.infer("t2").await;
    assert!(setup.desk.error_of("t2").is_some());
    let reports: Vec<_> = setup.crashes.borrow().clone();
    assert!(
        matches!(reports[..], [ChildReport::Failed { cause: crate::supervise::Cause::Task, .. }]),
        "{reports:?}"
    );
    setup.backend.next().whole(200, &answer("one"));
    turns().await;
    assert_eq!(setup.desk.of("t1")[0]["status"], 200);
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

#[actix::test]
async fn what_runs_and_what_waits_outlives_a_crash_of_the_actor() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("running").await;
    setup.infer("waiting").await;
    setup.actor.do_send(Poison);
    setup.send("in-the-mailbox", false, Features::CLASSIC);
    turns().await;
    for id in ["running", "waiting", "in-the-mailbox"] {
        setup.backend.next().whole(200, &answer(id));
        turns().await;
        assert_eq!(setup.desk.of(id)[0]["status"], 200, "{id}");
    }
}

#[actix::test]
async fn a_drain_refuses_what_waits_and_what_comes_and_lets_finish_what_runs() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("runs").await;
    setup.infer("waits").await;
    setup.actor.do_send(Drain);
    setup.infer("comes").await;
    for id in ["waits", "comes"] {
        assert_eq!(setup.desk.error_of(id).as_deref(), Some("publisher shutting down"));
    }
    setup.backend.next().whole(200, &answer("x"));
    turns().await;
    assert_eq!(setup.desk.of("runs")[0]["status"], 200);
}

#[actix::test]
async fn an_abort_ends_what_runs_with_its_error() {
    let setup = start(config());
    setup.infer("runs").await;
    let waiting = setup.backend.next();
    setup.actor.do_send(Abort { error: "publisher shutting down".into() });
    turns().await;
    assert_eq!(setup.desk.error_of("runs").as_deref(), Some("publisher shutting down"));
    assert!(waiting.is_dropped());
}

#[actix::test]
async fn a_paused_provider_reads_inactive_and_its_tasks_wait_until_it_resumes() {
    let setup = start(config());
    setup.actor.do_send(SetPaused(true));
    setup.infer("t1").await;
    assert_eq!(setup.backend.calls(), 0);
    assert_eq!(setup.report().await.status.status, Status::Inactive);
    setup.actor.do_send(SetPaused(false));
    turns().await;
    assert_eq!(setup.backend.calls(), 1);
}

#[actix::test]
async fn on_a_classic_hub_chunks_that_wait_behind_a_post_are_merged_and_order_is_kept() {
    let setup = start(config());
    setup.desk.hold.set(true);
    let pieces = setup.stream("t1", Features::CLASSIC).await;
    for text in ["a", "b", "c"] {
        pieces.send(Ok(piece(text))).unwrap();
        turns().await;
    }
    drop(pieces);
    for _ in 0..3 {
        turns().await;
        let held = setup.desk.held.borrow_mut().drain(..).collect::<Vec<_>>();
        assert_eq!(held.len(), 1, "never two POSTs at once");
        for post in held {
            post.send(Posted::Taken).unwrap();
        }
    }
    turns().await;
    let data: Vec<Value> =
        setup.desk.of("t1").into_iter().map(|post| post["chunk"]["data"].clone()).collect();
    assert_eq!(data, [json!(piece("a")), json!(piece("bc")), json!("[DONE]")]);
}

#[actix::test]
async fn with_chunk_seq_each_chunk_has_its_number_and_a_failed_post_is_repeated() {
    let setup = start(config());
    let lost_answer = Posted::Failed { retry_after: None, nothing_taken: false };
    setup.desk.answers.borrow_mut().push_back(lost_answer);
    let pieces = setup.stream("t1", Features::CLASSIC.with(wire::Feature::ChunkSeq)).await;
    pieces.send(Ok(piece("a"))).unwrap();
    drop(pieces);
    sleep(Duration::from_secs(1)).await;
    let seqs: Vec<Value> = setup.desk.of("t1").into_iter().map(|post| post["chunk"]["seq"].clone()).collect();
    assert_eq!(seqs, [json!(0), json!(0), json!(1)]);
}

#[actix::test]
async fn without_chunk_seq_a_chunk_whose_post_broke_is_never_said_twice() {
    let setup = start(config());
    let lost_answer = Posted::Failed { retry_after: None, nothing_taken: false };
    setup.desk.answers.borrow_mut().push_back(lost_answer);
    let pieces = setup.stream("t1", Features::CLASSIC).await;
    pieces.send(Ok(piece("a"))).unwrap();
    sleep(Duration::from_secs(1)).await;
    let posts = setup.desk.of("t1");
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert!(posts[1]["error"].is_string());
    assert!(pieces.is_closed());
}

#[actix::test]
async fn without_chunk_seq_a_chunk_that_was_certainly_not_taken_is_repeated() {
    let setup = start(config());
    let refused = Posted::Failed { retry_after: None, nothing_taken: true };
    setup.desk.answers.borrow_mut().push_back(refused);
    let pieces = setup.stream("t1", Features::CLASSIC).await;
    pieces.send(Ok(piece("a"))).unwrap();
    drop(pieces);
    sleep(Duration::from_secs(1)).await;
    let data: Vec<Value> =
        setup.desk.of("t1").into_iter().map(|post| post["chunk"]["data"].clone()).collect();
    assert_eq!(data, [json!(piece("a")), json!(piece("a")), json!("[DONE]")]);
}

#[actix::test]
async fn with_result_stream_one_upload_carries_the_whole_answer() {
    let setup = start(config());
    let pieces = setup.stream("t1", Features::ALL).await;
    for text in ["a", "b"] {
        pieces.send(Ok(piece(text))).unwrap();
        turns().await;
    }
    drop(pieces);
    turns().await;
    let expected = vec![piece("a"), piece("b"), "[DONE]".to_owned()];
    assert_eq!(*setup.desk.uploads.borrow(), [("t1".to_owned(), expected)]);
    assert!(setup.desk.of("t1").is_empty());
    assert_eq!(setup.outbox.open(), 0);
}

#[actix::test]
async fn a_backend_that_breaks_off_is_an_error_and_never_an_end_mark() {
    let setup = start(config());
    for (id, features) in [("t1", Features::ALL), ("t2", Features::CLASSIC)] {
        let pieces = setup.stream(id, features).await;
        pieces.send(Ok(piece("a"))).unwrap();
        pieces.send(Err(BackendError::Failed("broke off".into()))).unwrap();
        turns().await;
    }
    let uploads = setup.desk.uploads.borrow();
    assert_eq!(uploads[0].1, [piece("a"), r#"{"error":"broke off"}"#.to_owned()]);
    assert_eq!(setup.desk.error_of("t2").as_deref(), Some("broke off"));
}

#[actix::test]
async fn a_failure_before_the_first_piece_is_a_plain_result_that_can_be_tried_elsewhere() {
    let setup = start(config());
    let pieces = setup.stream("t1", Features::ALL).await;
    pieces.send(Err(BackendError::Failed("broke off".into()))).unwrap();
    turns().await;
    assert_eq!(setup.desk.error_of("t1").as_deref(), Some("broke off"));
    assert!(setup.desk.uploads.borrow().is_empty());
}

#[actix::test]
async fn a_backend_that_answers_a_stream_with_one_body_gives_a_chunk_and_the_end_mark() {
    let setup = start(config());
    setup.send("t1", true, Features::CLASSIC);
    turns().await;
    setup.backend.next().whole(200, &answer("hello"));
    turns().await;
    let posts = setup.desk.of("t1");
    let chunk: Value = serde_json::from_str(posts[0]["chunk"]["data"].as_str().unwrap()).unwrap();
    assert_eq!(chunk["choices"][0]["delta"]["content"], "hello");
    assert_eq!(posts[1], json!({ "chunk": { "data": "[DONE]", "done": true } }));
}

#[actix::test]
async fn a_backends_refusal_is_passed_on_with_its_status_and_in_words_to_a_classic_stream() {
    let setup = start(config());
    let refusal = json!({ "error": { "message": "too long" } });
    for (id, streaming, features) in
        [("t1", false, Features::CLASSIC), ("t2", true, Features::ALL), ("t3", true, Features::CLASSIC)]
    {
        setup.send(id, streaming, features);
        turns().await;
        setup.backend.next().whole(400, &refusal);
        turns().await;
    }
    for id in ["t1", "t2"] {
        assert_eq!(setup.desk.of(id), [json!({ "status": 400, "body": refusal })]);
    }
    assert_eq!(setup.desk.error_of("t3").as_deref(), Some("backend answered 400: too long"));
}

#[actix::test]
async fn an_endpoint_outside_the_list_is_refused_locally() {
    let setup = start(config());
    let task = InferTask { endpoint: Some("../slots".into()), ..infer_task("t1", false) };
    let ticket = setup.outbox.admit(&task.id).unwrap();
    setup.actor.do_send(Infer { task, ticket, agreed: Agreed { features: Features::ALL } });
    turns().await;
    assert!(setup.desk.error_of("t1").is_some());
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn a_backend_that_refuses_connections_is_woken_once_and_then_asked_again() {
    let setup = start(with_recipe());
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    let start = Instant::now();
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().whole(200, &answer("awake"));
    turns().await;
    assert_eq!(setup.desk.of("t1")[0]["status"], 200);
    assert_eq!(*setup.asked.borrow(), ["wake"]);
    assert!(start.elapsed() < Duration::from_secs(5));
    setup.infer("t2").await;
    setup.backend.next().fail(BackendError::Unavailable);
    sleep(Duration::from_secs(4)).await;
    setup.backend.next().fail(BackendError::Unavailable);
    turns().await;
    assert_eq!(setup.desk.error_of("t2").as_deref(), Some("backend not available"));
}

#[actix::test]
async fn a_backend_that_sleeps_is_woken_before_it_is_asked_and_a_failed_wake_is_the_answer() {
    let setup = start(with_recipe());
    setup.backend.down.set(true);
    sleep(Duration::from_secs(11)).await;
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.wake_answers.borrow_mut().push_back(Err("wake recipe failed: wake HTTP returned 500".into()));
    setup.infer("t1").await;
    sleep(Duration::from_secs(4)).await;
    let error = setup.desk.error_of("t1");
    assert_eq!(error.as_deref(), Some("wake recipe failed: wake HTTP returned 500"));
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn without_a_recipe_an_unreachable_backend_is_not_available_and_reads_inactive() {
    let setup = start(config());
    setup.backend.down.set(true);
    setup.infer("t1").await;
    setup.backend.next().fail(BackendError::Unavailable);
    turns().await;
    assert_eq!(setup.desk.error_of("t1").as_deref(), Some("backend not available"));
    assert_eq!(setup.report().await.status.status, Status::Inactive);
}

#[actix::test]
async fn after_idle_seconds_without_a_task_the_sleep_recipe_runs_and_not_before() {
    let wake = with_recipe();
    let action = wake.wake.as_ref().unwrap().action.clone();
    let idle = Some(Duration::from_mins(1));
    let sleep_recipe = SleepRecipe { action, max_wait: Duration::from_mins(1), idle };
    let setup = start(ProviderConfig { sleep: Some(sleep_recipe), ..wake });
    sleep(Duration::from_secs(50)).await;
    setup.infer("t1").await;
    sleep(Duration::from_mins(5)).await;
    assert!(setup.asked.borrow().is_empty(), "a task runs");
    setup.backend.next().whole(200, &answer("x"));
    sleep(Duration::from_secs(59)).await;
    assert!(setup.asked.borrow().is_empty());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep"]);
    assert_eq!(setup.report().await.status.status, Status::Hibernating);
    setup.infer("t2").await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(*setup.asked.borrow(), ["sleep", "wake"]);
    assert_eq!(setup.backend.calls(), 1);
}

#[actix::test]
async fn a_change_is_reported_unasked() {
    let setup = start(config());
    setup.infer("t1").await;
    sleep(Duration::from_millis(200)).await;
    let last = setup.reports.borrow().last().cloned().unwrap();
    assert_eq!(last.status.in_flight, 1);
}

#[actix::test]
async fn tasks_end_on_the_settings_they_started_with() {
    let setup = start(config());
    setup.infer("t1").await;
    setup.actor.do_send(Reconfigure { config: Arc::new(ProviderConfig { model: "n".into(), ..config() }) });
    setup.infer("t2").await;
    let (first, second) = (setup.backend.next(), setup.backend.next());
    assert_eq!((first.body()["model"].clone(), second.body()["model"].clone()), (json!("m"), json!("n")));
    first.whole(200, &answer("still"));
    turns().await;
    assert_eq!(setup.desk.of("t1")[0]["status"], 200);
}
