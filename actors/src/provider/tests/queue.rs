//! Admission of tasks to a provider's queue.

use wire::Feature;

use super::*;

#[actix::test]
async fn at_most_max_concurrency_tasks_run_in_order() {
    let setup = start(ProviderConfig { max_concurrency: 2, ..config() });
    for id in ["t1", "t2", "t3", "t4"] {
        setup.infer(id).await;
    }
    assert_eq!(setup.backend.calls(), 2);
    let status = setup.report().await.status;
    assert_eq!((status.in_flight, status.queued, status.max_concurrency), (2, 2, 2));
    setup.backend.next().whole(200, &answer("one"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1"), [json!({ "status": 200, "body": answer("one") })]);
    assert_eq!(setup.backend.calls(), 2);
    for _ in 0..3 {
        setup.backend.next().whole(200, &answer("x"));
        run_ready_tasks().await;
    }
    let order: Vec<String> = setup.results.posts.borrow().iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(order, ["t1", "t2", "t3", "t4"]);
}

/// F79: the 429 has its own error code.
#[actix::test]
async fn a_task_above_max_queue_is_answered_429() {
    let setup = start(ProviderConfig { max_concurrency: 1, max_queue: 1, ..config() });
    for id in ["t1", "t2", "t3"] {
        setup.infer(id).await;
    }
    assert_eq!(setup.results.of("t3")[0]["status"], 429);
    assert!(setup.results.of("t3")[0]["body"]["error"].is_object());
    assert!(setup.results.of("t2").is_empty());
    assert_eq!(setup.report().await.tasks_refused, 1);
}

impl Setup {
    /// Sends a task with a request of `size` bytes.
    async fn infer_large(&self, id: &str, size: usize) {
        let mut task = infer_task(id, false);
        task.request = serde_json::value::to_raw_value(&json!({ "x": "y".repeat(size) })).unwrap();
        let ticket = self.outbox.accept(&task.id, 0).unwrap();
        self.actor.do_send(Infer { task, ticket, features: Features::ALL });
        run_ready_tasks().await;
    }

    fn waits(&self, id: &str) -> bool {
        self.results.of(id).is_empty()
    }
}

/// P7: a task above the limit is answered 429. A task for a provider with a free slot is not affected.
#[actix::test]
async fn the_queued_bytes_of_all_providers_are_bounded() {
    const KIB: usize = 1 << 10;
    pause();
    let results = Rc::<PostedResults>::default();
    let outbox = Outbox::with_limits(Rc::new(FakeUplink(Rc::clone(&results))), 64 << 20, 1 << 20);
    let provider =
        || start_at(Rc::clone(&results), outbox.clone(), ProviderConfig { max_concurrency: 1, ..config() });
    let (one, two, free) = (provider(), provider(), provider());
    one.infer_large("runs", 3000 * KIB).await;
    let running = one.backend.next();
    two.infer_large("runs-too", 10).await;
    assert_eq!(outbox.backlog().bytes(), 0, "running tasks do not count");
    one.infer_large("waits", 400 * KIB).await;
    two.infer_large("waits-too", 500 * KIB).await;
    for (setup, id) in [(&one, "more"), (&two, "more-too")] {
        setup.infer_large(id, 200 * KIB).await;
        let refused = results.of(id);
        assert_eq!(refused[0]["status"], 429);
        let error = &refused[0]["body"]["error"];
        assert_eq!(error["message"], "1 MiB of requests wait at the publisher already, try again later");
        assert_eq!(error["code"], "queue_full");
    }
    one.infer_large("small", 10).await;
    free.infer_large("served", 2000 * KIB).await;
    assert!(["waits", "waits-too", "small", "served"].iter().all(|id| one.waits(id)));
    assert_eq!(one.backend.calls(), 2, "a free slot is used");

    one.actor.do_send(Poison);
    running.whole(200, &answer("x"));
    run_ready_tasks().await;
    one.infer_large("fits-now", 300 * KIB).await;
    two.cancel("waits-too").await;
    two.infer_large("fits-too", 400 * KIB).await;
    assert!(one.waits("fits-now") && one.waits("fits-too"));
    two.infer_large("too-much", 500 * KIB).await;
    assert_eq!(results.of("too-much")[0]["status"], 429);
    one.actor.do_send(Drain);
    two.handle.stop();
    run_ready_tasks().await;
    assert_eq!(outbox.backlog().bytes(), 0);
}

#[actix::test]
async fn request_headers_and_endpoint_count_as_queued_bytes() {
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
        let ticket = setup.outbox.accept(&task.id, 0).unwrap();
        setup.actor.do_send(Infer { task, ticket, features: Features::ALL });
        run_ready_tasks().await;
        let more = request + value + endpoint + 1000;
        assert!((more..more + 200).contains(&(bytes() - last)), "{id}: {}", bytes() - last);
        last = bytes();
    }
}

/// A hub without `guard` does not name the caller, so owner-only parts of a request are refused or removed.
#[actix::test]
async fn without_guard_every_caller_counts_as_another_user() {
    let send = |setup: &Setup, id: &str, request: Value, features| {
        let mut task = infer_task(id, false);
        task.request = serde_json::value::to_raw_value(&request).unwrap();
        task.endpoint = request.get("input").map(|_| "responses".to_owned());
        let ticket = setup.outbox.accept(&task.id, 0).unwrap();
        setup.actor.do_send(Infer { task, ticket, features });
    };
    let remote = json!({ "messages": [{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "https://nas.lan/x.png" } }] }] });
    let old = Features::ALL.without(Feature::Guard);
    let setup = start(config());
    for (id, features) in [("t1", Features::CLASSIC), ("t2", old)] {
        send(&setup, id, remote.clone(), features);
        run_ready_tasks().await;
        let refused = &setup.results.of(id)[0];
        assert_eq!(
            (&refused["status"], &refused["body"]["error"]["param"]),
            (&json!(400), &json!("messages"))
        );
    }
    assert_eq!(setup.backend.calls(), 0);
    let tools = json!([{ "type": "web_search" }, { "type": "function", "function": { "name": "f" } }]);
    send(&setup, "t3", json!({ "messages": [], "tools": tools }), old);
    send(&setup, "t4", remote.clone(), Features::ALL);
    run_ready_tasks().await;
    assert_eq!(
        setup.backend.next().body()["tools"],
        json!([{ "type": "function", "function": { "name": "f" } }])
    );
    assert_eq!(setup.backend.next().body()["messages"], remote["messages"]);
    for (id, features, store) in [("t6", old, json!(false)), ("t7", Features::ALL, Value::Null)] {
        send(&setup, id, json!({ "input": "x", "Model": "another", "STREAM": true }), features);
        run_ready_tasks().await;
        let body = setup.backend.next().body();
        assert_eq!((&body["store"], body.get("Model"), body.get("STREAM")), (&store, None, None));
    }
    let opened = Arc::new(ProviderConfig { allow_remote_urls: true, ..config() });
    setup.actor.do_send(Reconfigure { config: opened });
    send(&setup, "t5", remote.clone(), Features::CLASSIC);
    run_ready_tasks().await;
    assert_eq!(setup.backend.next().body()["messages"], remote["messages"]);
}
