//! Limits for each user. A user at a limit does not affect other users.

mod probes;
mod refusals;

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};
use crate::telemetry::Limit;

/// A27: a user's concurrent calls are limited; another user is served.
#[actix_rt::test]
async fn a_user_with_too_many_calls_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.calls = 2).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let first = ask(&alice).begin().await;
    let task = publisher.task().await;
    let second = ask(&alice).begin().await;
    publisher.task().await;
    let (status, refused) = ask(&alice).json().await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (429, &json!("you have 2 calls under way already: wait for some to end"))
    );
    let call = ask(&bob);
    publisher.serves(&hub, &call, "hello").await;
    // An answered call and one whose caller disconnected no longer count.
    assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    drop((first, second));
    publisher.cancelled().await;
    publisher.serves(&hub, &ask(&alice), "hello").await;
    hub.stop().await;
}

/// A27: a user's concurrent audit searches are limited; another user is served.
#[actix_rt::test]
async fn a_user_with_too_many_searches_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.searches = 2).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let _publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let under_way: Vec<_> = (0..2)
        .map(|_| hub.core().quotas.searches.take("alice", 2, "searches", Limit::Searches).unwrap())
        .collect();
    for path in ["/api/v1/audit?id=x", "/api/v1/audit", "/api/v1/llms/a/tasks"] {
        let (status, refused) = hub.ask_as(&alice, "GET", path).json().await;
        assert_eq!(
            (status, &refused["error"]),
            (429, &json!("you have 2 searches under way already: wait for some to end")),
            "{path}"
        );
        assert_eq!(hub.ask_as(&bob, "GET", path).send().await.0, 200, "{path}");
    }
    drop(under_way);
    assert_eq!(hub.ask_as(&alice, "GET", "/api/v1/audit").send().await.0, 200);
    assert_eq!(hub.core().quotas.searches.taken_by("alice"), 0);
    hub.stop().await;
}

/// A24, A27: request bytes count for their user until the call ends; another user is served.
#[actix_rt::test]
async fn a_user_whose_requests_fill_memory_is_refused_and_another_is_served() {
    let hub = hub_with(|options| options.limits.bytes = 4 << 20).await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let body = format!(r#"{{"model":"a","messages":[],"image":"{}"}}"#, "x".repeat(3 << 20));
    let ask = |token: &str| hub.ask_as(token, "POST", "/v1/chat/completions").body(body.clone());
    let held = ask(&alice).begin().await;
    publisher.task().await;
    let (status, refused) = ask(&alice).json().await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (429, &json!("you have 4 MiB of requests under way: wait for some to end"))
    );
    let others = ask(&bob).begin().await;
    publisher.task().await;
    drop((held, others));
    eventually("alice's next request is accepted", async || {
        let call = ask(&alice).begin().await;
        // The call may have been refused, and then there is no event.
        let event = timeout(Duration::from_millis(300), publisher.event()).await;
        drop(call);
        event.is_ok_and(|event| event.unwrap().name() == "task")
    })
    .await;
    hub.stop().await;
}

/// A24, A26, A27: unread answer bytes count for their caller; at the limit the publisher's next answer gets 503, and
/// answers for other callers are accepted.
#[actix_rt::test]
async fn unread_answers_of_a_user_are_bounded() {
    // Enough for two answers, or for one result and its parsed copy.
    let hub = hub_with(|options| options.limits.bytes = 44 << 20).await;
    let (alice, bob, carol) = (hub.member("alice").await, hub.member("bob").await, hub.member("carol").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    // More than the socket buffers of a connection hold.
    let large = json!({ "status": 200, "body": { "x": "x".repeat(20 << 20) } });
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let mut unread = Vec::new();
    for _ in 0..2 {
        unread.push(ask(&bob).begin().await);
        let task = publisher.task().await;
        assert_eq!(publisher.post(&hub, &task, &large).await, 200);
    }
    let last = ask(&bob).begin().await;
    let task = publisher.task().await;
    assert_eq!(publisher.post(&hub, &task, &large).await, 503, "a third answer is accepted");
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"unread_answer_bytes\"} 1\n"), "{metrics}");
    let others = ask(&carol);
    let answer = publisher.post_for(&hub, &others, &large).await.text().await;
    assert_eq!((answer.0, answer.1.len()), (200, (20 << 20) + 8));
    let mut read = super::http::Answer::of(unread.remove(0)).await;
    assert_eq!(read.rest().await.len(), (20 << 20) + 8);
    eventually("the third answer is accepted", async || publisher.post(&hub, &task, &large).await == 200)
        .await;
    assert_eq!(super::http::Answer::of(last).await.status, 200);
    hub.stop().await;
}

/// A27, A42: the unfinished answer of a durable task counts for its owner, and fails the task at the limit.
#[actix_rt::test]
async fn an_endless_answer_of_a_durable_task_fails_the_task() {
    let hub = hub_with(|options| options.limits.bytes = 1 << 20).await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let task = r#"{"llm":"a","streaming":true,"request":{"messages":[],"max_tokens":1000000000,"n":1000}}"#;
    let (_, made) = hub.ask_as(&bob, "POST", "/api/v1/inference-tasks").body(task).json().await;
    let dispatch = publisher.task().await;
    let large = "x".repeat(300 << 10);
    let mut chunks = 0;
    eventually("a chunk gets 410", async || {
        chunks += 1;
        publisher.chunk(&hub, &dispatch, &large).await == 410
    })
    .await;
    // Chunks are counted after they are acknowledged, so that some more are accepted.
    assert!((4..16).contains(&chunks), "{chunks}");
    let path = format!("/api/v1/inference-tasks/{}", made["id"].as_str().unwrap());
    eventually("the task has the reason", async || {
        let task = hub.ask_as(&bob, "GET", path.as_str()).json().await.1;
        task["status"] == "error"
            && task["error"].as_str().unwrap().starts_with("you have 1 MiB of unfinished answers")
    })
    .await;
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"unstored_answer_bytes\"} 1\n"), "{metrics}");
    hub.stop().await;
}

/// A27: a user's sessions, rows, agents and open tasks are limited, with an error that names the limit.
#[actix_rt::test]
async fn sessions_rows_agents_and_open_tasks_are_bounded_by_user() {
    let hub = hub_with(|options| {
        options.limits.sessions = 2;
        options.limits.rows = 3;
        options.limits.open_tasks = 1;
    })
    .await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let register = async |token: &str, session: &str, names: &[&str]| {
        let providers: Vec<_> = names.iter().map(|name| provider(name)).collect();
        let body = json!({ "providerSessionId": session, "providers": providers }).to_string();
        hub.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body).json().await
    };
    let over = |what: &str| json!(format!("you have {what} already: wait for some to end"));
    assert_eq!(register(&alice, "one", &["a", "b"]).await.0, 201);
    let (status, refused) = register(&alice, "two", &["c", "d"]).await;
    assert_eq!((status, &refused["error"]), (429, &over("3 LLMs")));
    assert_eq!(hub.row("c").await["error"], "LLM 'c' not found", "a row of the refused call exists");
    assert_eq!(register(&alice, "two", &["c"]).await.0, 201);
    let (status, refused) = register(&alice, "three", &[]).await;
    assert_eq!((status, &refused["error"]), (429, &over("2 sessions")));
    assert_eq!(register(&alice, "two", &["c"]).await.0, 201, "an existing row is refused");
    assert_eq!(register(&bob, "bobs", &["e", "f", "g"]).await.0, 201);

    let agent = async |name: &str| {
        let body = json!({ "name": name, "llmName": "a" }).to_string();
        hub.ask_as(&alice, "POST", "/api/v1/agents").body(body).json().await
    };
    for name in ["x", "y", "z"] {
        assert_eq!(agent(name).await.0, 201);
    }
    let (status, refused) = agent("more").await;
    assert_eq!((status, &refused["error"]), (429, &over("3 agents")));

    let enqueue = async |token: &str| {
        let body = r#"{"llm":"a","request":{"messages":[]}}"#;
        hub.ask_as(token, "POST", "/api/v1/inference-tasks").body(body).json().await
    };
    assert_eq!(enqueue(&alice).await.0, 202);
    let (status, refused) = enqueue(&alice).await;
    assert_eq!((status, &refused["error"]), (429, &over("1 open tasks")));
    assert_eq!(enqueue(&bob).await.0, 202);
    hub.stop().await;
}
