//! The extensions of SPEC.md section 4, with peers that have them and peers that have not.

use serde_json::json;

use super::http::Ask;
use super::publisher::{Publisher, chunk, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, eventually, hub};

/// F89: a classic registrar gets nothing new.
#[actix_rt::test]
async fn only_a_registrar_that_names_features_gets_them_in_its_hello() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    assert_eq!(publisher.open(&hub, None).await, json!({}));
    let hello = publisher.open(&hub, Some("cancel, nonsense")).await;
    let all = ["cancel", "result-stream", "chunk-seq", "status", "drain", "endpoints", "guard"];
    assert_eq!(hello["features"], json!(all));
    assert!(hello["streamId"].is_string());
    hub.stop().await;
}

/// A caller that left before it got anything.
async fn leave(ask: &Ask, publisher: &mut Publisher) -> serde_json::Value {
    let connection = ask.begin().await;
    let task = publisher.task().await;
    drop(connection);
    task
}

/// F75, F76: a caller that leaves, before the first token or after it, cancels its task within a second.
#[actix_rt::test]
async fn a_caller_that_leaves_cancels_its_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    for stream in [false, true] {
        let task = leave(&infer(&hub, "a", stream), &mut publisher).await;
        let id = tokio::time::timeout(std::time::Duration::from_secs(1), publisher.cancelled()).await;
        assert_eq!(task["taskId"], id.expect("within a second"));
        assert_eq!(publisher.answer(&hub, &task, "late").await, 410);
    }
    // In the middle of its answer.
    let (answer, task) = publisher.begins(&hub, &infer(&hub, "a", true), "one").await;
    drop(answer);
    assert_eq!(task["taskId"], publisher.cancelled().await);
    assert_eq!(publisher.chunk(&hub, &task, "two").await, 410);
    hub.stop().await;
}

/// F32: a publisher without the cancel feature gets 410.
#[actix_rt::test]
async fn a_classic_publisher_learns_by_410_that_the_caller_left() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let task = leave(&infer(&hub, "a", true), &mut publisher).await;
    eventually("410", async || publisher.chunk(&hub, &task, "one").await == 410).await;
    // No event came of it: the next one is the next task.
    let next = leave(&infer(&hub, "a", false), &mut publisher).await;
    assert_ne!(next["taskId"], task["taskId"]);
    hub.stop().await;
}

/// It fails at once, as a chunk does.
#[actix_rt::test]
async fn an_upload_to_a_call_that_does_not_stream_fails_the_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let call = infer(&hub, "a", false);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let events = format!("data: {}\n\ndata: [DONE]\n\n", chunk("one"));
        for expected in [409, 410] {
            let upload = hub.ask("POST", Publisher::upload_path(&task)).body(events.as_str());
            assert_eq!(upload.send().await.0, expected);
        }
    });
    assert_eq!(answer.0, 502, "{}", answer.1);
    hub.stop().await;
}

/// P3, F34: an upload that breaks off is a failure for its caller.
#[actix_rt::test]
async fn an_upload_that_breaks_off_fails_the_task() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let call = infer(&hub, "a", true);
    let (mut answer, _, upload) = publisher.begins_upload(&hub, &call, "one").await;
    drop(upload);
    assert_eq!(
        answer.rest().await,
        "data: {\"error\":\"the publisher's answer broke off\",\"code\":\"upstream_error\"}\n\n"
    );
    hub.stop().await;
}

/// F74, P7, A26: a caller that does not read blocks its own answer, in bounded memory, and no other.
#[actix_rt::test]
async fn a_caller_that_does_not_read_stops_the_upload_and_nothing_else() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let call = infer(&hub, "a", true);
    let (answer, task, mut upload) = publisher.begins_upload(&hub, &call, "one").await;
    let event = format!("data: {}\n\n", chunk(&"x".repeat(30_000)));
    let written = upload.write_until_stuck(&event).await;
    assert!(written < 64 << 20, "{written} bytes are somewhere");
    // Another caller is served meanwhile, and leaving frees the stuck upload.
    publisher.serves(&hub, &infer(&hub, "a", false), "hello").await;
    drop(answer);
    assert_eq!(task["taskId"], publisher.cancelled().await);
    assert_eq!(upload.answer().await.0, 410);
    hub.stop().await;
}

#[actix_rt::test]
async fn an_upload_between_two_chunks_ends_when_its_caller_leaves() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, result-stream")).await;
    let call = infer(&hub, "a", true);
    let (answer, _, upload) = publisher.begins_upload(&hub, &call, "one").await;
    drop(answer);
    assert_eq!(upload.answer().await.0, 410);
    hub.stop().await;
}

/// P6: a heartbeat for a channel that the hub does not hold gets 409.
#[actix_rt::test]
async fn a_heartbeat_for_an_unknown_stream_is_409() {
    let hub = hub().await;
    let mut publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let hello = publisher.open(&hub, Some("status")).await;
    let report = |status: &str| json!([{ "name": "a", "status": status, "inFlight": 0, "queued": 0, "maxConcurrency": 2 }]);
    let beat = json!({ "streamId": hello["streamId"], "providers": report("inactive") });
    assert_eq!(publisher.beat(&hub, beat).await, 200);
    assert_eq!(hub.row("a").await["status"], "inactive");
    assert_eq!(publisher.beat(&hub, json!({})).await, 200);
    assert_eq!(hub.row("a").await["status"], "inactive", "the report wins over revival");
    assert_eq!(publisher.beat(&hub, json!({ "providers": report("hibernating") })).await, 200);
    assert_eq!(hub.row("a").await["status"], "hibernating");
    assert_eq!(publisher.beat(&hub, json!({ "streamId": "stream-of-old" })).await, 409);

    publisher.open(&hub, None).await;
    assert_eq!(publisher.beat(&hub, json!({ "providers": report("inactive") })).await, 200);
    assert_ne!(hub.row("a").await["status"], "inactive");
    hub.stop().await;
}

#[actix_rt::test]
async fn an_endpoint_goes_to_publishers_that_know_endpoints() {
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

/// P3, F30, F31: a repeated chunk is dropped, and a gap ends the stream.
#[actix_rt::test]
async fn a_repeated_chunk_is_dropped_and_a_missing_one_is_a_failure() {
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
async fn a_draining_publisher_finishes_its_tasks_and_gets_none() {
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
    assert_eq!(hub.row("a").await["status"], "inactive", "a drained row is not revived");
    publisher.open(&hub, None).await;
    assert_eq!(hub.row("a").await["status"], "active");
    let other = hub.member("bob").await;
    let drain = json!({ "providerSessionId": publisher.session }).to_string();
    let ask = hub.ask_as(&other, "POST", "/api/v1/llms/_provider-drain").body(drain);
    assert_eq!(ask.send().await.0, 404);
    hub.stop().await;
}
