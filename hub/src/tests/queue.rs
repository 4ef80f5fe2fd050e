//! Durable tasks: acceptance, order, results, resumed streams, cancellation.

mod failures;

use std::time::Duration;

use serde_json::{Value, json};

use super::publisher::{Publisher, chunk, completion, private, provider, report};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::options::DataDir;

fn request_body(llm: &str, streaming: bool) -> String {
    json!({ "llm": llm, "streaming": streaming,
        "request": { "seed": 18_446_744_073_709_551_615_u64, "messages": [ { "role": "user", "content": "canary-prompt" } ] } })
    .to_string()
}

async fn enqueue_as(hub: &TestHub, token: &str, llm: &str, streaming: bool) -> String {
    let ask = hub.ask_as(token, "POST", "/api/v1/inference-tasks").body(request_body(llm, streaming));
    let (status, answer) = ask.json().await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(answer["status"], "pending");
    assert!(answer["position"].as_u64().unwrap() >= 1);
    answer["id"].as_str().unwrap().into()
}

async fn enqueue(hub: &TestHub, llm: &str, streaming: bool) -> String {
    enqueue_as(hub, ADMIN, llm, streaming).await
}

async fn until_status(hub: &TestHub, id: &str, status: &str) -> Value {
    eventually(&format!("{id} is {status}"), async || hub.durable_task(id).await["status"] == status).await;
    hub.durable_task(id).await
}

/// Sends a heartbeat that reports a capacity of `room` for the row `name`.
async fn report_capacity(publisher: &Publisher, hub: &TestHub, name: &str, capacity: u32) {
    let status = json!({ "providers": [ report(name, "active", 0, capacity) ] });
    assert_eq!(publisher.beat(hub, status).await, 200);
}

#[actix_rt::test]
async fn a_task_waits_for_its_publisher_and_its_result_is_kept() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let (first, second) = (enqueue(&hub, "a", false).await, enqueue(&hub, "a", false).await);
    let waiting = hub.durable_task(&second).await;
    assert_eq!((waiting["position"].as_u64(), waiting["durable"].as_bool()), (Some(2), Some(true)));
    publisher.open(&hub, None).await;
    // Both tasks are claimed at once and reach the channel in any order.
    for _ in 0..2 {
        let sent = publisher.task().await;
        assert_eq!(sent["request"]["seed"], 18_446_744_073_709_551_615_u64);
        assert_eq!(sent["request"]["model"], "model-of-a");
        assert_eq!(publisher.answer(&hub, &sent, "hello").await, 200);
    }
    for id in [&first, &second] {
        let done = until_status(&hub, id, "completed").await;
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
    let hidden = private(provider("hidden"));
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
    let ask =
        |name: &str| hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(request_body(name, false));
    let (hidden, unknown) = (ask("hidden").send().await, ask("nobody").send().await);
    assert_eq!(hidden, (404, unknown.1.replace("nobody", "hidden")));
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
    assert_eq!(hub.durable_task(&id).await["status"], "pending");
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
    assert_eq!(hub.durable_task(&id).await["status"], "running");
    drop(reader);
    publisher.chunk(&hub, &sent, "two").await;
    let mut reader = hub.ask("GET", path.as_str()).header("last-event-id", "1").open().await;
    assert_eq!(reader.until("two").await, format!("id: 2\ndata: {}\n\n", chunk("two")));
    publisher.done(&hub, &sent).await;
    assert_eq!(reader.rest().await, "id: 3\ndata: [DONE]\n\n");
    let done = until_status(&hub, &id, "completed").await;
    assert_eq!(done["result"]["chunks"].as_array().unwrap().len(), 2);
    // The ended task's stream is read from the store: the same bytes.
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

/// P3, F13: if the publisher is lost before the first byte, the task becomes pending again; after it, the task fails.
#[actix_rt::test]
async fn a_task_is_retried_before_the_first_byte_and_not_after() {
    let hub = hub_with(|options| options.timings.reattach_grace = Duration::from_millis(20)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = enqueue(&hub, "a", true).await;
    let lost = publisher.task().await;
    assert_eq!(hub.durable_task(&id).await["status"], "claimed");
    publisher.close();
    until_status(&hub, &id, "pending").await;
    publisher.open(&hub, None).await;
    let sent = publisher.task().await;
    assert_ne!(sent["taskId"], lost["taskId"], "the second dispatch has the id of the first");
    assert_eq!(publisher.chunk(&hub, &lost, "late").await, 410);
    publisher.chunk(&hub, &sent, "one").await;
    until_status(&hub, &id, "running").await;
    publisher.close();
    let ended = until_status(&hub, &id, "error").await;
    assert_eq!(ended["error"], "the publisher was lost in the middle of its answer");
    let (_, text) = hub.ask("GET", format!("/api/v1/inference-tasks/{id}/stream")).send().await;
    assert!(text.contains("error") && !text.contains("[DONE]"), "{text}");
    publisher.open(&hub, None).await;
    assert_eq!(publisher.chunk(&hub, &sent, "two").await, 410);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_cancellation_of_a_running_task_reaches_its_publisher() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, status")).await;
    report_capacity(&publisher, &hub, "a", 1).await;
    let (running, waiting) = (enqueue(&hub, "a", false).await, enqueue(&hub, "a", false).await);
    let sent = publisher.task().await;
    for id in [&waiting, &running] {
        assert_eq!(hub.ask("DELETE", format!("/api/v1/inference-tasks/{id}")).send().await.0, 204);
        until_status(&hub, id, "cancelled").await;
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
    report_capacity(&publisher, &hub, "a", 1).await;
    let first = enqueue_as(&hub, &bob, "a", false).await;
    let mut sent = publisher.task().await;
    let second = enqueue_as(&hub, &bob, "a", false).await;
    let third = enqueue_as(&hub, &bob, "a", false).await;
    let of_alice = enqueue_as(&hub, &alice, "a", false).await;
    assert_eq!(hub.durable_task(&second).await["status"], "pending", "a task is claimed without capacity");
    for (running, next) in
        [(&first, Some(&of_alice)), (&of_alice, Some(&second)), (&second, Some(&third)), (&third, None)]
    {
        assert_eq!(hub.durable_task(running).await["status"], "claimed");
        publisher.answer(&hub, &sent, "x").await;
        until_status(&hub, running, "completed").await;
        if next.is_some() {
            sent = publisher.task().await;
        }
    }
    hub.stop().await;
}

/// Users take turns, however many tasks each has in the queue.
#[actix_rt::test]
async fn users_take_turns_with_their_tasks() {
    let hub = hub().await;
    let (alice, mallory) = (hub.member("alice").await, hub.member("mallory").await);
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    report_capacity(&publisher, &hub, "a", 1).await;
    let mut mallorys = Vec::new();
    for _ in 0..4 {
        mallorys.push(enqueue_as(&hub, &mallory, "a", false).await);
    }
    let mut sent = publisher.task().await;
    let alices = [enqueue_as(&hub, &alice, "a", false).await, enqueue_as(&hub, &alice, "a", false).await];
    let order = [&mallorys[0], &alices[0], &mallorys[1], &alices[1], &mallorys[2], &mallorys[3]];
    for (at, running) in order.into_iter().enumerate() {
        assert_eq!(hub.durable_task(running).await["status"], "claimed", "{at}");
        publisher.answer(&hub, &sent, "x").await;
        until_status(&hub, running, "completed").await;
        if at + 1 < order.len() {
            sent = publisher.task().await;
        }
    }
    hub.stop().await;
}
