//! What runs, what waits, what ends it.

use wire::Feature;
use wire::row::Timestamp;

use super::*;
use crate::status::Pause;

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

/// F79: with all slots taken and the queue full, a task is answered 429.
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

impl Setup {
    /// A task with a request of so many bytes.
    async fn infer_large(&self, id: &str, size: usize) {
        let mut task = infer_task(id, false);
        task.request = serde_json::value::to_raw_value(&json!({ "x": "y".repeat(size) })).unwrap();
        let ticket = self.outbox.admit(&task.id, 0).unwrap();
        self.actor.do_send(Infer { task, ticket, features: Features::ALL });
        turns().await;
    }

    fn waits(&self, id: &str) -> bool {
        self.desk.of(id).is_empty()
    }
}

/// P7: what waits at all providers of a registrar is bounded in bytes: one more is 429 at once, a provider with a free
/// place serves meanwhile, and what has had its turn or is taken back makes room.
#[actix::test]
async fn the_bytes_that_wait_are_bounded_over_all_providers() {
    const KIB: usize = 1 << 10;
    pause();
    let desk = Rc::<Desk>::default();
    let outbox = Outbox::with_limits(Rc::new(DeskUplink(Rc::clone(&desk))), 64 << 20, 1 << 20);
    let provider =
        || start_at(Rc::clone(&desk), outbox.clone(), ProviderConfig { max_concurrency: 1, ..config() });
    let (one, two, free) = (provider(), provider(), provider());
    one.infer_large("runs", 3000 * KIB).await;
    let running = one.backend.next();
    two.infer_large("runs-too", 10).await;
    assert_eq!(outbox.backlog().bytes(), 0, "what runs does not wait");
    one.infer_large("waits", 400 * KIB).await;
    two.infer_large("waits-too", 500 * KIB).await;
    for (setup, id) in [(&one, "more"), (&two, "more-too")] {
        setup.infer_large(id, 200 * KIB).await;
        let refused = desk.of(id);
        assert_eq!(refused[0]["status"], 429);
        let error = &refused[0]["body"]["error"];
        assert_eq!(error["message"], "1 MiB of requests wait at the publisher already, try again later");
        assert_eq!(error["code"], "queue_full");
    }
    one.infer_large("small", 10).await;
    free.infer_large("served", 2000 * KIB).await;
    assert!(["waits", "waits-too", "small", "served"].iter().all(|id| one.waits(id)));
    assert_eq!(one.backend.calls(), 2, "a free place is served, whatever waits elsewhere");

    one.actor.do_send(Poison);
    running.whole(200, &answer("x"));
    turns().await;
    one.infer_large("fits-now", 300 * KIB).await;
    two.cancel("waits-too").await;
    two.infer_large("fits-too", 400 * KIB).await;
    assert!(one.waits("fits-now") && one.waits("fits-too"));
    two.infer_large("too-much", 500 * KIB).await;
    assert_eq!(desk.of("too-much")[0]["status"], 429);
    one.actor.do_send(Drain);
    two.handle.stop();
    turns().await;
    assert_eq!(outbox.backlog().bytes(), 0);
}

/// All of a task counts while it waits: its request, what else the hub says of it, and what the registrar keeps beside it.
#[actix::test]
async fn all_that_waits_of_a_task_counts() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("runs").await;
    let bytes = || setup.outbox.backlog().bytes();
    let mut last = bytes();
    assert_eq!(last, 0);
    for (id, request, value, endpoint) in
        [("plain", 0, 0, 0), ("request", 9000, 0, 0), ("headers", 0, 9000, 0), ("endpoint", 0, 0, 9000)]
    {
        let mut task = infer_task(id, false);
        task.request = serde_json::value::to_raw_value(&"y".repeat(request)).unwrap();
        task.headers = vec![("anthropic-beta".to_owned(), "y".repeat(value))];
        task.endpoint = Some("y".repeat(endpoint));
        let ticket = setup.outbox.admit(&task.id, 0).unwrap();
        setup.actor.do_send(Infer { task, ticket, features: Features::ALL });
        turns().await;
        let more = request + value + endpoint + 1000;
        assert!((more..more + 200).contains(&(bytes() - last)), "{id}: {}", bytes() - last);
        last = bytes();
    }
}

/// A hub that does not look says nothing of who calls: what is the owner's alone is refused there, unless it is opened.
#[actix::test]
async fn on_a_hub_that_does_not_look_every_caller_counts_as_another_user() {
    let send = |setup: &Setup, id: &str, request: Value, features| {
        let mut task = infer_task(id, false);
        task.request = serde_json::value::to_raw_value(&request).unwrap();
        task.endpoint = request.get("input").map(|_| "responses".to_owned());
        let ticket = setup.outbox.admit(&task.id, 0).unwrap();
        setup.actor.do_send(Infer { task, ticket, features });
    };
    let remote = json!({ "messages": [{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "https://nas.lan/x.png" } }] }] });
    let old = Features::ALL.without(Feature::Guard);
    let setup = start(config());
    for (id, features) in [("t1", Features::CLASSIC), ("t2", old)] {
        send(&setup, id, remote.clone(), features);
        turns().await;
        let refused = &setup.desk.of(id)[0];
        assert_eq!(
            (&refused["status"], &refused["body"]["error"]["param"]),
            (&json!(400), &json!("messages"))
        );
    }
    assert_eq!(setup.backend.calls(), 0);
    let tools = json!([{ "type": "web_search" }, { "type": "function", "function": { "name": "f" } }]);
    send(&setup, "t3", json!({ "messages": [], "tools": tools }), old);
    send(&setup, "t4", remote.clone(), Features::ALL);
    turns().await;
    assert_eq!(
        setup.backend.next().body()["tools"],
        json!([{ "type": "function", "function": { "name": "f" } }])
    );
    assert_eq!(setup.backend.next().body()["messages"], remote["messages"]);
    for (id, features, store) in [("t6", old, json!(false)), ("t7", Features::ALL, Value::Null)] {
        send(&setup, id, json!({ "input": "x", "Model": "another", "STREAM": true }), features);
        turns().await;
        let body = setup.backend.next().body();
        assert_eq!((&body["store"], body.get("Model"), body.get("STREAM")), (&store, None, None));
    }
    let opened = Arc::new(ProviderConfig { allow_remote_urls: true, ..config() });
    setup.actor.do_send(Reconfigure { config: opened });
    send(&setup, "t5", remote.clone(), Features::CLASSIC);
    turns().await;
    assert_eq!(setup.backend.next().body()["messages"], remote["messages"]);
}

/// F75, F76: a cancel drops the backend's request, before its first token and in the middle, and frees the slot.
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

/// F76: a task whose caller leaves while it is queued never reaches the backend.
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

/// F86: a panic ends its own task with an error and no other.
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

/// F86: a crash of the actor loses no task that runs, waits, or is in its mailbox.
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

/// P8: a drain refuses what waits and what comes, and lets finish what runs.
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

/// P8: what has not ended when the grace is over ends with an error.
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
    setup.actor.do_send(SetPaused(Some(Pause { until: Some(Timestamp(60_000)) })));
    setup.infer("t1").await;
    assert_eq!(setup.backend.calls(), 0);
    let told = setup.report().await.status;
    assert_eq!(
        (told.status, told.paused, told.paused_until),
        (Status::Inactive, true, Some(Timestamp(60_000)))
    );
    setup.actor.do_send(SetPaused(None));
    turns().await;
    assert_eq!(setup.backend.calls(), 1);
    let told = setup.report().await.status;
    assert_eq!((told.paused, told.paused_until), (false, None));
}

/// A hub that knows of pauses tries another publisher, or tells its caller, instead of waiting.
#[actix::test]
async fn a_paused_provider_refuses_tasks_of_a_hub_that_knows_of_pauses() {
    let setup = start(config());
    let until = Timestamp(jiff::Timestamp::now().as_millisecond() + 90_000);
    for (id, until) in [("t1", Some(until)), ("t2", None)] {
        setup.actor.do_send(SetPaused(Some(Pause { until })));
        setup.send(id, false, Features::ALL);
        turns().await;
        let posts = setup.desk.of(id);
        assert_eq!(
            (&posts[0]["status"], &posts[0]["body"]["error"]["code"]),
            (&json!(503), &json!("paused"))
        );
        let said = posts[0]["body"]["error"]["message"].as_str().unwrap();
        match until {
            Some(until) => {
                assert!(said.contains(&until.to_string()), "{said}");
                assert!((80..=90).contains(&posts[0]["retryAfter"].as_u64().unwrap()), "{posts:?}");
            }
            None => assert!(posts[0].get("retryAfter").is_none(), "{posts:?}"),
        }
    }
    assert_eq!(setup.backend.calls(), 0);
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

#[actix::test]
async fn the_tasks_of_a_provider_that_is_withdrawn_are_not_registered_locally() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("t1").await;
    setup.infer("t2").await;
    setup.handle.stop();
    turns().await;
    for id in ["t1", "t2"] {
        assert_eq!(setup.desk.error_of(id).as_deref(), Some("provider 'a' not registered locally"));
    }
}
