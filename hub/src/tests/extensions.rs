//! The extensions of SPEC.md section 4, with registrars that name them and registrars that do not.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::http::Ask;
use super::publisher::{Publisher, chunk, provider, report};
use super::road::{chat, infer};
use super::support::{ADMIN, eventually, hub};

/// F89: the hello of a classic registrar is empty.
#[actix_rt::test]
async fn only_a_registrar_that_names_features_gets_them_in_its_hello() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    assert_eq!(publisher.open(&hub, None).await, json!({}));
    let hello = publisher.open(&hub, Some("cancel, result-stream, nonsense")).await;
    let all = ["cancel", "chunk-seq", "status", "drain", "endpoints", "guard", "beat"];
    assert_eq!(hello["features"], json!(all));
    assert!(hello["streamId"].is_string());
    hub.stop().await;
}

/// Sends a call and disconnects the caller when the publisher has the task. Returns the task.
async fn call_and_disconnect(ask: &Ask, publisher: &mut Publisher) -> serde_json::Value {
    let connection = ask.begin().await;
    let task = publisher.task().await;
    drop(connection);
    task
}

/// F75, F76: when a caller disconnects before or after the first token, its task is cancelled within a second.
#[actix_rt::test]
async fn a_task_is_cancelled_when_its_caller_disconnects() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    for stream in [false, true] {
        let task = call_and_disconnect(&infer(&hub, "a", stream), &mut publisher).await;
        let id = tokio::time::timeout(std::time::Duration::from_secs(1), publisher.cancelled()).await;
        assert_eq!(task["taskId"], id.expect("within a second"));
        assert_eq!(publisher.answer(&hub, &task, "late").await, 410);
    }
    // The caller disconnects after the first token.
    let (answer, task) = publisher.begins(&hub, &infer(&hub, "a", true), "one").await;
    drop(answer);
    assert_eq!(task["taskId"], publisher.cancelled().await);
    assert_eq!(publisher.chunk(&hub, &task, "two").await, 410);
    hub.stop().await;
}

/// F32: a publisher without the feature `cancel` gets 410 for its next chunk when the caller has disconnected.
#[actix_rt::test]
async fn a_classic_publisher_gets_410_when_the_caller_has_disconnected() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let task = call_and_disconnect(&infer(&hub, "a", true), &mut publisher).await;
    eventually("a chunk gets 410", async || publisher.chunk(&hub, &task, "one").await == 410).await;
    // The channel has no cancel event: its next event is the next task.
    let next = call_and_disconnect(&infer(&hub, "a", false), &mut publisher).await;
    assert_ne!(next["taskId"], task["taskId"]);
    hub.stop().await;
}

/// An upload of a registrar of a version before is refused like any unknown path, before and after the task has begun.
#[actix_rt::test]
async fn the_former_path_of_uploads_is_unknown() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let path = |id: &str, what: &str| format!("/api/v1/llms/_provider-task/{id}/{what}");
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let id = task["taskId"].as_str().unwrap();
        for text in ["one", "two"] {
            let unknown = hub.ask("POST", path(id, "nonsense")).body("{}").json().await;
            assert_eq!((unknown.0, &unknown.1["code"]), (404, &json!("not_found")), "{}", unknown.1);
            let mut upload = hub.ask("POST", path(id, "stream")).body("data: [DONE]\n\n").json().await;
            upload.1["error"] = upload.1["error"].as_str().unwrap().replace("stream", "nonsense").into();
            assert_eq!(upload, unknown);
            assert_eq!(publisher.chunk(&hub, &task, text).await, 200);
        }
        publisher.done(&hub, &task).await;
    });
    assert_eq!(answer.1, format!("data: {}\n\ndata: {}\n\ndata: [DONE]\n\n", chunk("one"), chunk("two")));
    hub.stop().await;
}

/// F74, P7, A26: a caller that does not read blocks the POSTs of its own answer in bounded memory, and no other answer.
#[actix_rt::test]
async fn a_caller_that_does_not_read_blocks_the_chunks_of_its_answer_only() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, chunk-seq")).await;
    let (answer, task) = publisher.begins(&hub, &infer(&hub, "a", true), "one").await;
    let path = format!("/api/v1/llms/_provider-task/{}/result", task["taskId"].as_str().unwrap());
    let body = json!({ "chunk": { "data": chunk(&"x".repeat(30_000)) } }).to_string();
    let post = hub.ask("POST", path).body(body.as_str());
    let mut posted = 0;
    let waiting = loop {
        let mut sending = Box::pin(post.send());
        match timeout(Duration::from_millis(500), &mut sending).await {
            Ok(answer) => assert_eq!(answer.0, 200),
            Err(_elapsed) => break sending,
        }
        posted += body.len();
        assert!(posted < 64 << 20, "{posted} bytes are buffered");
    };
    publisher.serves(&hub, &infer(&hub, "a", false), "hello").await;
    drop(answer);
    assert_eq!(task["taskId"], publisher.cancelled().await);
    assert_eq!(waiting.await.0, 410);
    hub.stop().await;
}

/// P6: a heartbeat whose `streamId` is not the session's channel gets 409.
#[actix_rt::test]
async fn a_heartbeat_for_an_unknown_stream_is_409() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let hello = publisher.open(&hub, Some("status")).await;
    let report = |status: &str| json!([report("a", status, 0, 2)]);
    let beat = json!({ "streamId": hello["streamId"], "providers": report("inactive") });
    assert_eq!(publisher.beat(&hub, beat).await, 200);
    assert_eq!(hub.row("a").await["status"], "inactive");
    assert_eq!(publisher.beat(&hub, json!({})).await, 200);
    assert_eq!(hub.row("a").await["status"], "inactive", "a heartbeat without a report revived the row");
    assert_eq!(publisher.beat(&hub, json!({ "providers": report("hibernating") })).await, 200);
    assert_eq!(hub.row("a").await["status"], "hibernating");
    assert_eq!(publisher.beat(&hub, json!({ "streamId": "stream-of-old" })).await, 409);

    publisher.open(&hub, None).await;
    assert_eq!(publisher.beat(&hub, json!({ "providers": report("inactive") })).await, 200);
    assert_ne!(hub.row("a").await["status"], "inactive");
    hub.stop().await;
}

#[actix_rt::test]
async fn embeddings_go_only_to_publishers_with_the_feature_endpoints() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let _classic = Publisher::start(&hub, ADMIN, &[provider("b")], None).await;
    let ask = |model: &str| {
        hub.ask("POST", "/v1/embeddings").body(json!({ "model": model, "input": "x" }).to_string())
    };
    let call = ask("a");
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(task["endpoint"], "embeddings");
        publisher.post(&hub, &task, &json!({ "status": 200, "body": { "data": [] } })).await;
    });
    assert_eq!(answer, (200, r#"{"data":[]}"#.into()));
    let (status, body) = ask("b").json().await;
    assert_eq!(status, 400);
    assert_eq!(body["error"]["type"], "invalid_request_error");
    hub.stop().await;
}

/// P3, F30, F31: a repeated chunk is dropped, and a missing chunk ends the stream with an error.
#[actix_rt::test]
async fn a_repeated_chunk_is_dropped_and_a_missing_chunk_fails_the_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("chunk-seq")).await;
    let ask = hub.ask("POST", "/v1/chat/completions").body(chat("a", true));
    let numbered = |text: &str, seq: u64| json!({ "chunk": { "data": chunk(text), "seq": seq } });
    let (mut answer, task) = futures_util::join!(ask.open(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.post(&hub, &task, &numbered("one", 0)).await, 200);
        assert_eq!(publisher.post(&hub, &task, &numbered("one", 0)).await, 200);
        assert_eq!(publisher.post(&hub, &task, &numbered("two", 1)).await, 200);
        assert_eq!(publisher.post(&hub, &task, &numbered("four", 3)).await, 409);
        task
    });
    let text = answer.rest().await;
    assert!(
        text.starts_with(&format!("data: {}\n\ndata: {}\n\ndata: {{\"error\"", chunk("one"), chunk("two"))),
        "{text}"
    );
    assert!(!text.contains("[DONE]"));
    assert_eq!(publisher.done(&hub, &task).await, 410);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_draining_publisher_finishes_its_tasks_and_gets_no_more() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("drain")).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let drain = json!({ "providerSessionId": publisher.session }).to_string();
        let ask = hub.ask("POST", "/api/v1/llms/_provider-drain").body(drain);
        assert_eq!(ask.send().await.0, 200);
        assert_eq!(infer(&hub, "a", false).send().await.0, 503);
        assert_eq!(hub.row("a").await["status"], "active");
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    assert_eq!(hub.row("a").await["status"], "inactive");
    assert_eq!(publisher.beat(&hub, json!({})).await, 200);
    assert_eq!(hub.row("a").await["status"], "inactive", "a heartbeat revived a drained row");
    publisher.open(&hub, None).await;
    assert_eq!(hub.row("a").await["status"], "active");
    let other = hub.member("bob").await;
    let drain = json!({ "providerSessionId": publisher.session }).to_string();
    let ask = hub.ask_as(&other, "POST", "/api/v1/llms/_provider-drain").body(drain);
    assert_eq!(ask.send().await.0, 404);
    hub.stop().await;
}
