//! Durable tasks: accepted, run once, kept, resumed, taken back.

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, chunk, completion, provider};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::options::DataDir;

fn wanted(llm: &str, streaming: bool) -> String {
    json!({ "llm": llm, "streaming": streaming,
        "request": { "seed": 18_446_744_073_709_551_615_u64, "messages": [ { "role": "user", "content": "canary-prompt" } ] } })
    .to_string()
}

async fn enqueue_as(hub: &TestHub, token: &str, llm: &str, streaming: bool) -> String {
    let ask = hub.ask_as(token, "POST", "/api/v1/inference-tasks").body(wanted(llm, streaming));
    let (status, answer) = ask.json().await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["status"], "pending");
    assert!(answer["position"].as_u64().unwrap() >= 1);
    answer["id"].as_str().unwrap().into()
}

async fn enqueue(hub: &TestHub, llm: &str, streaming: bool) -> String {
    enqueue_as(hub, ADMIN, llm, streaming).await
}

async fn task(hub: &TestHub, id: &str) -> Value {
    hub.ask("GET", format!("/api/v1/inference-tasks/{id}")).json().await.1
}

async fn until(hub: &TestHub, id: &str, status: &str) -> Value {
    eventually(&format!("{id} is {status}"), async || task(hub, id).await["status"] == status).await;
    task(hub, id).await
}

/// A provider that tells how much it takes.
async fn with_room(publisher: &Publisher, hub: &TestHub, name: &str, room: u32) {
    let status = json!({ "providers": [ { "name": name, "status": "active", "inFlight": 0, "queued": 0,
        "maxConcurrency": room } ] });
    assert_eq!(publisher.beat(hub, status).await, 200);
}

#[actix_rt::test]
async fn a_task_waits_for_its_publisher_and_its_result_is_kept() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let (first, second) = (enqueue(&hub, "a", false).await, enqueue(&hub, "a", false).await);
    let waiting = task(&hub, &second).await;
    assert_eq!((waiting["position"].as_u64(), waiting["durable"].as_bool()), (Some(2), Some(true)));
    publisher.open(&hub, None).await;
    // Both are claimed at once: which of them is on the channel first is left to chance.
    for _ in 0..2 {
        let sent = publisher.task().await;
        assert_eq!(sent["request"]["seed"], 18_446_744_073_709_551_615_u64);
        assert_eq!(sent["request"]["model"], "model-of-a");
        assert_eq!(publisher.answer(&hub, &sent, "hello").await, 200);
    }
    for id in [&first, &second] {
        let done = until(&hub, id, "completed").await;
        assert_eq!(done["result"], json!({ "status": 200, "body": completion("hello") }));
        assert_eq!(done["worker"].as_str(), Some(publisher.session.as_str()));
        assert_eq!((done["llmName"].as_str(), done["model"].as_str()), (Some("a"), Some("model-of-a")));
    }
    let path = format!("/api/v1/inference-tasks/{first}");
    assert_eq!(hub.ask("DELETE", path.as_str()).send().await.0, 204);
    assert_eq!(hub.ask("GET", path.as_str()).send().await.0, 404);
    let (_, list) = hub.ask("GET", "/api/v1/inference-tasks").send().await;
    assert!(!list.contains(&first) && list.contains(&second), "{list}");
    hub.stop().await;
}

#[actix_rt::test]
async fn an_invalid_task_and_one_for_a_hidden_llm_are_refused() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut hidden = provider("hidden");
    hidden["visibility"] = "private".into();
    Publisher::register(&hub, &alice, None, &[hidden]).await;
    for body in [
        "",
        "[]",
        "{}",
        r#"{"llm":"hidden"}"#,
        r#"{"llm":"hidden","request":[]}"#,
        r#"{"llm":1,"request":{}}"#,
    ] {
        let (status, _) = hub.ask_as(&alice, "POST", "/api/v1/inference-tasks").body(body).send().await;
        assert_eq!(status, 400, "{body}");
    }
    let ask = |name: &str| hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(wanted(name, false));
    let (theirs, nobodys) = (ask("hidden").send().await, ask("nobodys").send().await);
    assert_eq!(theirs, (404, nobodys.1.replace("nobodys", "hidden")));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_task_exists_for_its_owner_and_admins_only() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    Publisher::register(&hub, &alice, None, &[provider("a")]).await;
    let id = enqueue_as(&hub, &alice, "a", false).await;
    for (method, path) in [("GET", ""), ("GET", "/stream"), ("DELETE", "")] {
        let ask = |id: &str| hub.ask_as(&bob, method, format!("/api/v1/inference-tasks/{id}{path}"));
        let (hidden, unknown) = (ask(&id).send().await, ask("task-0").send().await);
        assert_eq!(hidden, (404, unknown.1.replace("task-0", &id)), "{method} {path}");
    }
    assert_eq!(hub.ask_as(&bob, "GET", "/api/v1/inference-tasks").json().await.1, json!([]));
    assert_eq!(task(&hub, &id).await["status"], "pending");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_streamed_task_is_read_live_and_resumed() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = enqueue(&hub, "a", true).await;
    let path = format!("/api/v1/inference-tasks/{id}/stream");
    let sent = publisher.task().await;
    assert_eq!(sent["streaming"], true);
    let mut reader = hub.ask("GET", path.as_str()).open().await;
    publisher.chunk(&hub, &sent, "one").await;
    assert_eq!(reader.until("one").await, format!("id: 1\ndata: {}\n\n", chunk("one")));
    assert_eq!(task(&hub, &id).await["status"], "running");
    drop(reader);
    publisher.chunk(&hub, &sent, "two").await;
    let mut reader = hub.ask("GET", path.as_str()).header("last-event-id", "1").open().await;
    assert_eq!(reader.until("two").await, format!("id: 2\ndata: {}\n\n", chunk("two")));
    publisher.done(&hub, &sent).await;
    assert_eq!(reader.rest().await, "id: 3\ndata: [DONE]\n\n");
    let done = until(&hub, &id, "completed").await;
    assert_eq!(done["result"]["chunks"].as_array().unwrap().len(), 2);
    // From the store now: the same bytes.
    for (last, expected) in [
        (
            "0",
            format!(
                "id: 1\ndata: {}\n\nid: 2\ndata: {}\n\nid: 3\ndata: [DONE]\n\n",
                chunk("one"),
                chunk("two")
            ),
        ),
        ("2", "id: 3\ndata: [DONE]\n\n".to_owned()),
    ] {
        let again = hub.ask("GET", path.as_str()).header("last-event-id", last).send().await;
        assert_eq!(again, (200, expected));
    }
    hub.stop().await;
}

/// P3, F13: a publisher lost before the first byte makes the task pending again, one lost after it ends the task.
#[actix_rt::test]
async fn a_task_is_retried_before_the_first_byte_and_not_after() {
    let hub = hub_with(|options| options.timings.reattach_grace = Duration::from_millis(20)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = enqueue(&hub, "a", true).await;
    let lost = publisher.task().await;
    assert_eq!(task(&hub, &id).await["status"], "claimed");
    publisher.close();
    until(&hub, &id, "pending").await;
    publisher.open(&hub, None).await;
    let sent = publisher.task().await;
    assert_ne!(sent["taskId"], lost["taskId"], "a new dispatch has a new id");
    assert_eq!(publisher.chunk(&hub, &lost, "late").await, 410);
    publisher.chunk(&hub, &sent, "one").await;
    until(&hub, &id, "running").await;
    publisher.close();
    let ended = until(&hub, &id, "error").await;
    assert_eq!(ended["error"], "the publisher was lost in the middle of its answer");
    let (_, text) = hub.ask("GET", format!("/api/v1/inference-tasks/{id}/stream")).send().await;
    assert!(text.contains("error") && !text.contains("[DONE]"), "{text}");
    publisher.open(&hub, None).await;
    assert_eq!(publisher.chunk(&hub, &sent, "two").await, 410);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_cancelled_task_is_cancelled_at_its_publisher() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, status")).await;
    with_room(&publisher, &hub, "a", 1).await;
    let (running, waiting) = (enqueue(&hub, "a", false).await, enqueue(&hub, "a", false).await);
    let sent = publisher.task().await;
    for id in [&waiting, &running] {
        assert_eq!(hub.ask("DELETE", format!("/api/v1/inference-tasks/{id}")).send().await.0, 204);
        until(&hub, id, "cancelled").await;
    }
    assert_eq!(publisher.cancelled().await, sent["taskId"].as_str().unwrap());
    assert_eq!(publisher.answer(&hub, &sent, "late").await, 410);
    hub.stop().await;
}

#[actix_rt::test]
async fn tasks_are_claimed_in_order_as_capacity_allows() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("status")).await;
    with_room(&publisher, &hub, "a", 1).await;
    let first = enqueue_as(&hub, &bob, "a", false).await;
    let mut sent = publisher.task().await;
    let second = enqueue_as(&hub, &bob, "a", false).await;
    let third = enqueue_as(&hub, &bob, "a", false).await;
    let own = enqueue_as(&hub, &alice, "a", false).await;
    assert_eq!(task(&hub, &second).await["status"], "pending", "no room, no claim");
    for (running, next) in
        [(&first, Some(&own)), (&own, Some(&second)), (&second, Some(&third)), (&third, None)]
    {
        assert_eq!(task(&hub, running).await["status"], "claimed");
        publisher.answer(&hub, &sent, "x").await;
        until(&hub, running, "completed").await;
        if next.is_some() {
            sent = publisher.task().await;
        }
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_task_that_fails_on_every_member_is_an_error() {
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
    let done = until(&hub, &id, "completed").await;
    assert_eq!(
        (done["poolName"].as_str(), done["llmName"].as_str()),
        (Some("p"), second["llmName"].as_str())
    );

    let id = enqueue(&hub, "a", false).await;
    let sent = publisher.task().await;
    publisher
        .post(&hub, &sent, &json!({ "status": 400, "body": { "error": { "message": "too long" } } }))
        .await;
    let failed = until(&hub, &id, "error").await;
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
    assert_eq!(until(&hub, &id, "error").await["error"], crate::tasks::EXPIRED);
    hub.stop().await;
}

/// F02: a durable task that ran when the hub died ends with an error, and its request is deleted.
#[actix_rt::test]
async fn a_restart_runs_pending_tasks_and_fails_running_ones() {
    let dir = tempfile::tempdir().unwrap();
    let start = || hub_with(|options| options.data = DataDir::Path(dir.path().into()));
    let hub = start().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    with_room(&publisher, &hub, "a", 1).await;
    let running = enqueue(&hub, "a", false).await;
    let lost = publisher.task().await;
    let waiting = enqueue(&hub, "a", false).await;
    // As a crash would leave it: no word to anybody.
    let copy = tempfile::tempdir().unwrap();
    // The log first: what is folded into the file meanwhile is then in both.
    for file in ["hub.db-wal", "hub.db"] {
        let _ = std::fs::copy(dir.path().join(file), copy.path().join(file));
    }
    let hub_after = hub_with(|options| options.data = DataDir::Path(copy.path().into())).await;
    let failed = task(&hub_after, &running).await;
    assert_eq!(
        (failed["status"].as_str(), failed["error"].as_str()),
        (Some("error"), Some(crate::tasks::HUB_RESTARTED))
    );
    assert_eq!(task(&hub_after, &waiting).await["status"], "pending");
    let session = Some(publisher.session.as_str());
    let mut again = Publisher::register(&hub_after, ADMIN, session, &[provider("a")]).await;
    again.open(&hub_after, None).await;
    let sent = again.task().await;
    assert_ne!(sent["taskId"], lost["taskId"]);
    again.answer(&hub_after, &sent, "hello").await;
    until(&hub_after, &waiting, "completed").await;
    hub_after.stop().await;
    for entry in std::fs::read_dir(copy.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(13).any(|window| window == b"canary-prompt"));
    }
    // The first hub has nothing left to wait for.
    hub.ask("DELETE", format!("/api/v1/inference-tasks/{waiting}")).send().await;
    publisher.answer(&hub, &lost, "hello").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn an_agents_task_carries_its_prompt() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let agent = json!({ "name": "helper", "llmName": "a", "systemPrompt": "Be brief." });
    assert_eq!(hub.ask("POST", "/api/v1/agents").body(agent.to_string()).send().await.0, 201);
    let id = enqueue(&hub, "helper", false).await;
    let sent = publisher.task().await;
    assert_eq!(sent["request"]["messages"][0]["content"], "Be brief.");
    publisher.answer(&hub, &sent, "hello").await;
    until(&hub, &id, "completed").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn synchronous_inferences_are_listed_beside_durable_ones() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let caller = super::road::infer(&hub, "a", false).begin().await;
    let sent = publisher.task().await;
    let (_, list) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
    assert_eq!((list[0]["status"].as_str(), list[0]["durable"].as_bool()), (Some("claimed"), Some(false)));
    assert_eq!(list[0]["worker"].as_str(), Some(publisher.session.as_str()));
    publisher.answer(&hub, &sent, "hello").await;
    eventually("completed", async || {
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
    let one = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    let mut pages = Vec::new();
    for _ in 0..4 {
        for n in 0..ROUND {
            // A tenth of them durable, with 10 kB of an answer each.
            let (durable, call) = (n % 10 == 0, super::road::infer(&hub, "a", false));
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
        eventually("nothing is kept", async || {
            one("SELECT (SELECT count(*) FROM tasks) + (SELECT count(*) FROM audit)") == 0
        })
        .await;
        pages.push(one("PRAGMA page_count"));
    }
    // How much of a round is there at once is left to chance; two of them whole would be three times as much.
    assert!(pages[3] < 2 * pages[1], "{pages:?}");
    hub.stop().await;
}
