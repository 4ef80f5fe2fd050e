//! The basic path of a call: register, open the channel, infer, post the result.

use serde_json::{Value, json};

use super::publisher::{Publisher, asleep, chunk, provider};
use super::support::{ADMIN, TestHub, hub};

pub(crate) fn chat(model: &str, stream: bool) -> String {
    json!({ "model": model, "stream": stream, "messages": [ { "role": "user", "content": "hi" } ] })
        .to_string()
}

pub(crate) fn infer(hub: &TestHub, name: &str, stream: bool) -> super::http::Ask {
    hub.ask("POST", format!("/api/v1/llms/{name}/infer")).body(chat("own", stream))
}

#[actix_rt::test]
async fn an_inference_is_answered_by_the_publisher() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let task = publisher.task().await;
        assert_eq!(task["kind"], "infer");
        assert_eq!(task["llmName"], "a");
        assert_eq!(task["streaming"], false);
        assert_eq!(task["request"]["model"], "own", "the caller's `model` was changed");
        assert!(task.get("endpoint").is_none());
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    assert_eq!(answer.1["choices"][0]["message"]["content"], "hello");
    hub.stop().await;
}

#[actix_rt::test]
async fn chunks_are_passed_on_at_once_and_the_stream_ends_with_done() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
    let (mut answer, task) = futures_util::join!(ask.open(), async {
        let task = publisher.task().await;
        assert_eq!(task["streaming"], true);
        assert_eq!(task["request"]["model"], "model-of-a", "the row's model");
        assert_eq!(publisher.chunk(&hub, &task, "one").await, 200);
        task
    });
    assert_eq!(answer.status, 200);
    for header in
        ["content-type: text/event-stream", "x-accel-buffering: no", "cache-control: no-cache, no-transform"]
    {
        assert!(answer.head.contains(header), "{}", answer.head);
    }
    assert_eq!(answer.until("one").await, format!("data: {}\n\n", chunk("one")));
    assert_eq!(publisher.chunk(&hub, &task, "two").await, 200);
    assert_eq!(answer.until("two").await, format!("data: {}\n\n", chunk("two")));
    assert_eq!(publisher.done(&hub, &task).await, 200);
    assert_eq!(answer.rest().await, "data: [DONE]\n\n");
    hub.stop().await;
}

#[actix_rt::test]
async fn rows_and_models_are_listed() {
    let hub = hub().await;
    let mut pooled = provider("a");
    pooled["poolName"] = "p".into();
    let _publisher = Publisher::start(&hub, ADMIN, &[pooled, provider("b")], None).await;
    let (_, rows) = hub.ask("GET", "/api/v1/llms").json().await;
    let row = rows[0].as_object().unwrap();
    let keys = [
        "id",
        "name",
        "type",
        "model",
        "tier",
        "description",
        "kind",
        "status",
        "lastHeartbeatAt",
        "inactiveSince",
        "poolName",
        "visibility",
        "ownerId",
        "providerSessionId",
        "createdAt",
        "updatedAt",
    ];
    assert_eq!(row.len(), keys.len(), "{row:?}");
    assert!(keys.iter().all(|key| row.contains_key(*key)));
    let (_, models) = hub.ask("GET", "/v1/models").json().await;
    let ids: Vec<&Value> = models["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["a", "b", "p"]);
    let (_, pool) = hub.ask("GET", "/api/v1/llms/a/members").json().await;
    assert_eq!((&pool["poolName"], &pool["explicit"], &pool["size"]), (&json!("p"), &json!(true), &json!(1)));
    hub.stop().await;
}

/// F78: a call without a publisher gets 503 at once.
#[actix_rt::test]
async fn a_call_without_a_publisher_gets_503_with_retry_after() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    publisher.close();
    hub.until_status("a", "inactive").await;
    let mut answer = infer(&hub, "a", false).open().await;
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 5"), "{}", answer.head);
    assert!(answer.rest().await.starts_with(r#"{"error":"#));
    assert_eq!(infer(&hub, "unknown", false).send().await.0, 404);
    assert_eq!(super::http::ask(hub.addr, "GET", "/healthz").send().await.0, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_publishers_error_status_and_body_are_passed_on() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for (result, status, text) in [
        (json!({ "error": "it broke" }), 502, r#"{"error":"it broke","code":"upstream_error"}"#),
        (
            json!({ "error": "publisher shutting down" }),
            503,
            r#"{"error":"publisher shutting down","code":"publisher_stopping"}"#,
        ),
        (
            json!({ "status": 422, "body": { "error": { "message": "no" } } }),
            422,
            r#"{"error":{"message":"no"}}"#,
        ),
    ] {
        let call = infer(&hub, "a", false);
        let answer = publisher.post_for(&hub, &call, &result).await.text().await;
        assert_eq!(answer, (status, text.into()));
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn many_callers_of_a_hibernating_row_cause_one_wake() {
    const CALLERS: usize = 200;

    let hub = hub().await;
    let asleep = asleep(provider("a"));
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep], None).await;
    assert_eq!(hub.row("a").await["status"], "hibernating");
    let calls: Vec<_> = (0..CALLERS).map(|_| infer(&hub, "a", false)).collect();
    let calls = futures_util::future::join_all(calls.iter().map(super::http::Ask::send));
    let (answers, ()) = futures_util::join!(calls, async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake");
        // Callers that arrive after this result find the row active.
        assert_eq!(
            publisher.post(&hub, &wake, &json!({ "status": 200, "body": { "ok": true, "ms": 1 } })).await,
            200
        );
        for _ in 0..CALLERS {
            let task = publisher.task().await;
            assert_eq!(task["kind"], "infer");
            publisher.answer(&hub, &task, "hello").await;
        }
    });
    assert!(answers.len() == CALLERS && answers.iter().all(|(status, _)| *status == 200));
    assert_eq!(hub.row("a").await["status"], "active");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_failed_wake_is_503() {
    let hub = hub().await;
    let asleep = asleep(provider("a"));
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.open(), async {
        let wake = publisher.task().await;
        publisher.post(&hub, &wake, &json!({ "error": "wake recipe failed: wake HTTP timed out" })).await;
    });
    assert_eq!(answer.status, 503);
    assert!(answer.head.contains("retry-after: 5"));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_call_just_before_the_channel_opens_is_served() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    assert_eq!(hub.row("a").await["status"], "active");
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.json(), async {
        // The call is sent before the channel is opened.
        tokio::task::yield_now().await;
        publisher.open(&hub, None).await;
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_chunk_for_a_call_that_does_not_stream_fails_the_call() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.chunk(&hub, &task, "one").await, 409);
    });
    assert_eq!(answer.0, 502);
    hub.stop().await;
}
