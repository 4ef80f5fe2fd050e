//! A call as its caller sees it: first content, failover, timeouts, errors.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::json;

use super::http::Ask;
use super::publisher::{Publisher, chunk, pooled, provider, report};
use super::road::{chat, infer};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

/// Three publishers, each with one member of the pool `p`.
async fn pool(hub: &TestHub, features: Option<&str>) -> Vec<Publisher> {
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        members.push(Publisher::start(hub, ADMIN, &[pooled(name, "p")], features).await);
    }
    members
}

fn v1(hub: &TestHub, model: &str, stream: bool) -> Ask {
    hub.ask("POST", "/v1/chat/completions").body(chat(model, stream))
}

/// F78: after a failure before the first byte the next member is tried, and each member once.
#[actix_rt::test]
async fn each_member_is_tried_once_before_the_first_byte() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    let failures = [
        json!({ "error": "it broke" }),
        json!({ "status": 503, "body": { "error": "loading" } }),
        json!({ "status": 429, "body": { "error": "queue full" } }),
    ];
    let call = v1(&hub, "p", true);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let tasks = members.iter_mut().map(Publisher::task);
        // The hub tries one member after the other, in an order of its choice.
        let (mut waiting, mut ids) = (futures_util::future::select_all(tasks.map(Box::pin)), Vec::new());
        for failure in &failures {
            let (task, index, rest) = waiting.await;
            let id = task["taskId"].as_str().unwrap().to_owned();
            assert!(!ids.contains(&id), "each try has a task id of its own");
            let path = format!("/api/v1/llms/_provider-task/{id}/result");
            assert_eq!(hub.ask("POST", path).body(failure.to_string()).send().await.0, 200);
            ids.push(id);
            let _ = index;
            if rest.is_empty() {
                return;
            }
            waiting = futures_util::future::select_all(rest);
        }
    });
    assert_eq!(answer.0, 429, "the caller gets the last failure");
    assert_eq!(answer.1["error"]["message"], "queue full");
    hub.stop().await;
}

/// P1, P3: a call whose member fails after the first byte ends without an end mark.
#[actix_rt::test]
async fn after_the_first_byte_no_other_member_is_tried() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    let call = v1(&hub, "p", true);
    let (answer, rest) = futures_util::join!(call.send(), async {
        let tasks = members.iter_mut().map(|member| Box::pin(member.task()));
        let (task, _, rest) = futures_util::future::select_all(tasks).await;
        let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
        for said in [json!({ "chunk": { "data": chunk("one") } }), json!({ "error": "it broke" })] {
            assert_eq!(hub.ask("POST", path.as_str()).body(said.to_string()).send().await.0, 200);
        }
        rest
    });
    let error =
        r#"{"error":{"message":"it broke","type":"server_error","param":null,"code":"upstream_error"}}"#;
    assert_eq!(answer, (200, format!("data: {}\n\ndata: {error}\n\n", chunk("one"))));
    assert!(rest.into_iter().all(|task| task.now_or_never().is_none()), "another member got a task");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_call_to_a_row_by_its_own_name_is_tried_once() {
    let hub = hub().await;
    let mut members = pool(&hub, None).await;
    for _ in 0..4 {
        let call = v1(&hub, "b", false);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = members[1].task().await;
            assert_eq!(task["request"]["model"], "model-of-b");
            members[1]
                .post(&hub, &task, &json!({ "status": 400, "body": { "error": "no such tool" } }))
                .await;
        });
        assert_eq!(answer.0, 400);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn the_member_with_the_least_load_is_picked() {
    let hub = hub().await;
    let mut small = Publisher::register(&hub, ADMIN, None, &[pooled("small", "p")]).await;
    let mut large = Publisher::register(&hub, ADMIN, None, &[pooled("large", "p")]).await;
    for (publisher, name, room) in [(&mut small, "small", 1), (&mut large, "large", 3)] {
        publisher.open(&hub, Some("status")).await;
        let status = report(name, "active", 0, room);
        publisher.beat(&hub, json!({ "providers": [status] })).await;
    }
    let calls: Vec<_> = (0..4).map(|_| v1(&hub, "p", false)).collect();
    let calls = futures_util::future::join_all(calls.iter().map(Ask::send));
    let (answers, ()) = futures_util::join!(calls, async {
        let mut tasks = vec![small.task().await];
        for _ in 0..3 {
            tasks.push(large.task().await);
        }
        for task in &tasks {
            small.answer(&hub, task, "hello").await;
        }
    });
    assert!(answers.iter().all(|(status, _)| *status == 200));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_caller_with_a_wait_timeout_waits_for_capacity() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let patient = infer(&hub, "a", false).header("x-queue-timeout", "5");
    let (answer, ()) = futures_util::join!(patient.send(), async {
        publisher.open(&hub, Some("status")).await;
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    let status = json!([report("a", "active", 1, 1)]);
    publisher.beat(&hub, json!({ "providers": status })).await;
    let short = infer(&hub, "a", false).header("x-queue-timeout", "0.05");
    assert_eq!(short.send().await.0, 503);
    let (answer, ()) = futures_util::join!(patient.send(), async {
        let status = json!([report("a", "active", 0, 1)]);
        publisher.beat(&hub, json!({ "providers": status })).await;
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    assert_eq!(infer(&hub, "a", false).header("x-queue-timeout", "soon").send().await.0, 400);
    hub.stop().await;
}

/// P2, F07, F77, A42: a call that times out gets 504, and its task is cancelled.
#[actix_rt::test]
async fn a_timeout_is_504_and_cancels_the_task() {
    let hub = hub_with(|options| options.timings.wait_timeout = Duration::from_millis(100)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    for stream in [false, true] {
        let call = infer(&hub, "a", stream);
        let (answer, task) = futures_util::join!(call.send(), publisher.task());
        assert_eq!(answer.0, 504, "{}", answer.1);
        assert_eq!(task["taskId"], publisher.cancelled().await);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn comments_of_a_long_wait_do_not_end_failover() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(50)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[pooled("a", "p")], None).await;
    let mut other = Publisher::start(&hub, ADMIN, &[pooled("b", "p")], None).await;
    let call = v1(&hub, "p", true);
    let (mut answer, ()) = futures_util::join!(call.open(), async {
        // Either member may be tried first.
        let (task, who) = tokio::select! {
            task = publisher.task() => (task, "a"),
            task = other.task() => (task, "b"),
        };
        assert_eq!(task["llmName"], who);
        tokio::time::sleep(Duration::from_millis(200)).await;
        publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
    });
    assert_eq!(answer.status, 200);
    let task = tokio::select! {
        task = publisher.task() => task,
        task = other.task() => task,
    };
    publisher.chunk(&hub, &task, "one").await;
    publisher.done(&hub, &task).await;
    let text = answer.rest().await;
    assert!(text.starts_with(": keepalive\n\n: keepalive\n\n"), "{text}");
    assert!(text.ends_with(&format!("data: {}\n\ndata: [DONE]\n\n", chunk("one"))), "{text}");
    assert!(!text.contains("error"));
    hub.stop().await;
}

/// P3: a failure after a keep-alive comment ends the stream without an end mark.
#[actix_rt::test]
async fn a_failure_after_the_first_comment_ends_the_stream_without_done() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(30)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", true);
    let (mut answer, task) = futures_util::join!(call.open(), publisher.task());
    answer.until(":").await;
    publisher.post(&hub, &task, &json!({ "status": 409, "body": { "error": { "message": "no" } } })).await;
    assert!(answer.rest().await.ends_with("data: {\"error\":\"no\",\"code\":\"backend_error\"}\n\n"));
    hub.stop().await;
}

/// F72, P8: a stopping hub finishes its calls and refuses new ones.
#[actix_rt::test]
async fn a_stopping_hub_finishes_calls_and_refuses_new_ones() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (mut answer, task) = publisher.begins(&hub, &infer(&hub, "a", true), "one").await;
    let (new, late) = (
        infer(&hub, "a", false),
        hub.ask("POST", format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap())),
    );
    let stopping = actix_rt::spawn(hub.stop());
    eventually("new calls get 503", async || new.open().await.status == 503).await;
    assert_eq!(
        late.body(json!({ "chunk": { "data": "[DONE]", "done": true } }).to_string()).send().await.0,
        200
    );
    assert!(answer.rest().await.ends_with("data: [DONE]\n\n"));
    assert!(publisher.event().await.is_none(), "the channel is still open");
    tokio::time::timeout(Duration::from_secs(5), stopping).await.unwrap().unwrap();
}
