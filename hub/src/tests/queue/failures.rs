//! Failures, time-outs, restarts and expiry of durable tasks.

use super::*;

#[actix_rt::test]
async fn a_failed_task_is_tried_on_the_next_member_and_then_ends() {
    let hub = hub().await;
    let mut pooled = [provider("a"), provider("b")];
    for member in &mut pooled {
        member["poolName"] = "p".into();
    }
    let mut publisher = Publisher::start(&hub, ADMIN, &pooled, None).await;
    let id = enqueue(&hub, "p", false).await;
    let first = publisher.task().await;
    publisher.post(&hub, &first, &json!({ "error": "backend not available" })).await;
    let second = publisher.task().await;
    assert_ne!(first["llmName"], second["llmName"]);
    publisher.answer(&hub, &second, "hello").await;
    let done = until_status(&hub, &id, "completed").await;
    assert_eq!(
        (done["poolName"].as_str(), done["llmName"].as_str()),
        (Some("p"), second["llmName"].as_str())
    );

    let id = enqueue(&hub, "a", false).await;
    let sent = publisher.task().await;
    publisher
        .post(&hub, &sent, &json!({ "status": 400, "body": { "error": { "message": "too long" } } }))
        .await;
    let failed = until_status(&hub, &id, "error").await;
    assert_eq!(
        (failed["error"].as_str(), failed["result"]["status"].as_u64()),
        (Some("too long"), Some(400))
    );
    hub.stop().await;
}

#[actix_rt::test]
async fn a_task_without_a_publisher_times_out() {
    let hub = hub_with(|options| options.timings.queue_timeout = Duration::from_millis(50)).await;
    Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let id = enqueue(&hub, "a", false).await;
    assert_eq!(until_status(&hub, &id, "error").await["error"], crate::tasks::EXPIRED);
    hub.stop().await;
}

/// F02: after a crash of the hub, pending tasks run, and tasks that ran end with an error; their requests are deleted.
#[actix_rt::test]
async fn a_restart_runs_pending_tasks_and_fails_running_ones() {
    let dir = tempfile::tempdir().unwrap();
    let start = || hub_with(|options| options.data = DataDir::Path(dir.path().into()));
    let hub = start().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    report_capacity(&publisher, &hub, "a", 1).await;
    let running = enqueue(&hub, "a", false).await;
    let lost = publisher.task().await;
    let waiting = enqueue(&hub, "a", false).await;
    // A copy of the files of a running hub is what a crash leaves.
    let copy = tempfile::tempdir().unwrap();
    // The WAL is copied first, so that changes checkpointed in between are in both files.
    for file in ["hub.db-wal", "hub.db"] {
        let _ = std::fs::copy(dir.path().join(file), copy.path().join(file));
    }
    let hub_after = hub_with(|options| options.data = DataDir::Path(copy.path().into())).await;
    let failed = hub_after.durable_task(&running).await;
    assert_eq!(
        (failed["status"].as_str(), failed["error"].as_str()),
        (Some("error"), Some(crate::tasks::HUB_RESTARTED))
    );
    assert_eq!(hub_after.durable_task(&waiting).await["status"], "pending");
    let session = Some(publisher.session.as_str());
    let mut again = Publisher::register(&hub_after, ADMIN, session, &[provider("a")]).await;
    again.open(&hub_after, None).await;
    let sent = again.task().await;
    assert_ne!(sent["taskId"], lost["taskId"]);
    again.answer(&hub_after, &sent, "hello").await;
    until_status(&hub_after, &waiting, "completed").await;
    hub_after.stop().await;
    for entry in std::fs::read_dir(copy.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"canary-prompt"));
    }
    // Ends the tasks of the first hub, so that it stops at once.
    hub.ask("DELETE", format!("/api/v1/inference-tasks/{waiting}")).send().await;
    publisher.answer(&hub, &lost, "hello").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn an_agents_task_carries_its_prompt() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    hub.create_agent(ADMIN, &json!({ "name": "helper", "llmName": "a", "systemPrompt": "Be brief." })).await;
    let id = enqueue(&hub, "helper", false).await;
    let sent = publisher.task().await;
    assert_eq!(sent["request"]["messages"][0]["content"], "Be brief.");
    publisher.answer(&hub, &sent, "hello").await;
    until_status(&hub, &id, "completed").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn synchronous_inferences_are_listed_beside_durable_ones() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let caller = crate::tests::road::infer(&hub, "a", false).begin().await;
    let sent = publisher.task().await;
    let (_, list) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
    assert_eq!((list[0]["status"].as_str(), list[0]["durable"].as_bool()), (Some("claimed"), Some(false)));
    assert_eq!(list[0]["worker"].as_str(), Some(publisher.session.as_str()));
    publisher.answer(&hub, &sent, "hello").await;
    eventually("the inference is completed", async || {
        hub.ask("GET", "/api/v1/inference-tasks").json().await.1[0]["status"] == "completed"
    })
    .await;
    drop(caller);
    hub.stop().await;
}

/// F90: expired tasks and audit records are deleted, and the file stops growing.
#[actix_rt::test]
async fn expired_tasks_and_records_leave_the_database() {
    const ROUND: usize = 100;
    let dir = tempfile::tempdir().unwrap();
    let hub = hub_with(|options| {
        options.data = DataDir::Path(dir.path().into());
        options.timings.task_retention = Duration::from_millis(20);
        options.timings.audit_retention = Duration::from_millis(20);
        options.timings.sweep_interval = Duration::from_millis(20);
    })
    .await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let file = rusqlite::Connection::open(dir.path().join("hub.db")).unwrap();
    let number_from = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut pages = Vec::new();
    for _ in 0..4 {
        for n in 0..ROUND {
            // Every tenth task is durable and has an answer of 10 kB.
            let (durable, call) = (n % 10 == 0, crate::tests::road::infer(&hub, "a", false));
            let text = "x".repeat(if durable { 10_000 } else { 10 });
            futures_util::join!(
                async {
                    if durable {
                        enqueue(&hub, "a", false).await;
                    } else {
                        assert_eq!(call.send().await.0, 200);
                    }
                },
                async {
                    let task = publisher.task().await;
                    publisher.answer(&hub, &task, &text).await;
                }
            );
        }
        eventually("all tasks and records are deleted", async || {
            number_from("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM audit)") == 0
        })
        .await;
        pages.push(number_from("PRAGMA page_count"));
    }
    // The tasks and records of several rounds would need three times as many pages.
    assert!(pages[3] < 2 * pages[1], "{pages:?}");
    hub.stop().await;
}
