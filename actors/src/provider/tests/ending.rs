//! Tasks that end by a cancel, a crash, a drain, a pause or a reload.

use wire::row::Timestamp;

use super::*;
use crate::status::Pause;

/// F75, F76: a cancel before or after the first token drops the request and frees the slot.
#[actix::test]
async fn a_cancelled_task_drops_the_backend_request_at_once() {
    let setup = start(config());
    setup.infer("t1").await;
    let waiting = setup.backend.next();
    setup.cancel("t1").await;
    assert!(waiting.is_dropped());
    assert_eq!(setup.report().await.status.in_flight, 0);
    assert!(setup.results.of("t1").is_empty(), "a cancelled task has no result");
    let pieces = setup.stream("t2", Features::ALL).await;
    pieces.send(Ok(piece("x"))).unwrap();
    setup.cancel("t2").await;
    assert!(pieces.is_closed());
}

/// F76: the backend is not called for a cancelled task.
#[actix::test]
async fn a_task_cancelled_in_the_queue_never_runs() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("t1").await;
    setup.infer("t2").await;
    setup.cancel("t2").await;
    setup.backend.next().whole(200, &answer("x"));
    run_ready_tasks().await;
    assert_eq!(setup.backend.calls(), 0);
    assert_eq!(setup.outbox.open(), 0);
}

#[actix::test]
async fn with_on_abort_drain_a_cancelled_task_keeps_its_slot() {
    let setup = start(ProviderConfig { max_concurrency: 1, on_abort: OnAbort::Drain, ..config() });
    let pieces = setup.stream("t1", Features::ALL).await;
    pieces.send(Ok(piece("x"))).unwrap();
    run_ready_tasks().await;
    setup.cancel("t1").await;
    setup.infer("t2").await;
    assert!(!pieces.is_closed());
    assert_eq!(setup.backend.calls(), 0, "the slot is taken");
    pieces.send(Ok(piece("y"))).unwrap();
    drop(pieces);
    run_ready_tasks().await;
    assert_eq!(setup.backend.calls(), 1);
}

/// F86: the panic counts as a crash of the provider.
#[actix::test]
async fn a_panic_of_one_task_ends_only_that_task() {
    let setup = start(config());
    setup.infer("t1").await;
    setup.backend.panics.set(true);
    setup.infer("t2").await;
    assert!(setup.results.error_of("t2").is_some());
    let reports: Vec<_> = setup.crashes.borrow().clone();
    assert!(
        matches!(reports[..], [ChildReport::Failed { cause: crate::supervise::Cause::Task, .. }]),
        "{reports:?}"
    );
    setup.backend.next().whole(200, &answer("one"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1")[0]["status"], 200);
}

/// F86: running tasks, queued tasks and tasks in the mailbox survive.
#[actix::test]
async fn tasks_survive_a_crash_of_the_provider_actor() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("running").await;
    setup.infer("waiting").await;
    setup.actor.do_send(Poison);
    setup.send("in-the-mailbox", false, Features::CLASSIC);
    run_ready_tasks().await;
    for id in ["running", "waiting", "in-the-mailbox"] {
        setup.backend.next().whole(200, &answer(id));
        run_ready_tasks().await;
        assert_eq!(setup.results.of(id)[0]["status"], 200, "{id}");
    }
}

/// P8: running tasks finish during a drain.
#[actix::test]
async fn a_drain_refuses_queued_and_new_tasks() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("runs").await;
    setup.infer("waits").await;
    setup.actor.do_send(Drain);
    setup.infer("comes").await;
    for id in ["waits", "comes"] {
        assert_eq!(setup.results.error_of(id).as_deref(), Some("publisher shutting down"));
    }
    setup.backend.next().whole(200, &answer("x"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("runs")[0]["status"], 200);
}

/// P8: the drain timeout aborts running tasks.
#[actix::test]
async fn an_abort_ends_running_tasks_with_the_given_error() {
    let setup = start(config());
    setup.infer("runs").await;
    let waiting = setup.backend.next();
    setup.actor.do_send(Abort);
    run_ready_tasks().await;
    assert_eq!(setup.results.error_of("runs").as_deref(), Some("publisher shutting down"));
    assert!(waiting.is_dropped());
}

#[actix::test]
async fn a_paused_provider_is_inactive_and_its_tasks_wait() {
    let setup = start(config());
    setup.actor.do_send(SetPaused(Some(Pause { until: Some(Timestamp(60_000)) })));
    setup.infer("t1").await;
    assert_eq!(setup.backend.calls(), 0);
    let status = setup.report().await.status;
    assert_eq!(
        (status.status, status.paused, status.paused_until),
        (Status::Inactive, true, Some(Timestamp(60_000)))
    );
    setup.actor.do_send(SetPaused(None));
    run_ready_tasks().await;
    assert_eq!(setup.backend.calls(), 1);
    let status = setup.report().await.status;
    assert_eq!((status.paused, status.paused_until), (false, None));
}

/// The hub can then try another publisher.
#[actix::test]
async fn a_paused_provider_refuses_tasks_if_the_hub_has_status() {
    let setup = start(config());
    let until = Timestamp(jiff::Timestamp::now().as_millisecond() + 90_000);
    for (id, until) in [("t1", Some(until)), ("t2", None)] {
        setup.actor.do_send(SetPaused(Some(Pause { until })));
        setup.send(id, false, Features::ALL);
        run_ready_tasks().await;
        let posts = setup.results.of(id);
        assert_eq!(
            (&posts[0]["status"], &posts[0]["body"]["error"]["code"]),
            (&json!(503), &json!("paused"))
        );
        let message = posts[0]["body"]["error"]["message"].as_str().unwrap();
        match until {
            Some(until) => {
                assert!(message.contains(&until.to_string()), "{message}");
                assert!((80..=90).contains(&posts[0]["retryAfter"].as_u64().unwrap()), "{posts:?}");
            }
            None => assert!(posts[0].get("retryAfter").is_none(), "{posts:?}"),
        }
    }
    assert_eq!(setup.backend.calls(), 0);
}

#[actix::test]
async fn a_changed_report_is_sent_to_the_listeners() {
    let setup = start(config());
    setup.infer("t1").await;
    sleep(Duration::from_millis(200)).await;
    let last = setup.reports.borrow().last().cloned().unwrap();
    assert_eq!(last.status.in_flight, 1);
}

#[actix::test]
async fn running_tasks_keep_their_settings() {
    let setup = start(config());
    setup.infer("t1").await;
    setup.actor.do_send(Reconfigure { config: Arc::new(ProviderConfig { model: "n".into(), ..config() }) });
    setup.infer("t2").await;
    let (first, second) = (setup.backend.next(), setup.backend.next());
    assert_eq!((first.body()["model"].clone(), second.body()["model"].clone()), (json!("m"), json!("n")));
    first.whole(200, &answer("still"));
    run_ready_tasks().await;
    assert_eq!(setup.results.of("t1")[0]["status"], 200);
}

#[actix::test]
async fn tasks_of_a_stopped_provider_get_the_error_not_registered_locally() {
    let setup = start(ProviderConfig { max_concurrency: 1, ..config() });
    setup.infer("t1").await;
    setup.infer("t2").await;
    setup.handle.stop();
    run_ready_tasks().await;
    for id in ["t1", "t2"] {
        assert_eq!(setup.results.error_of(id).as_deref(), Some("provider 'a' not registered locally"));
    }
}
