//! The hub asks for the usage of streams, and records the tokens of every answer.

mod dialects;
mod owned;
mod refusals;
mod sums;

use serde_json::{Value, json};
use testkit::wait::eventually;

use super::http::Ask;
use super::link::peer::Peer;
use super::publisher::{Publisher, chunk, provider};
use super::support::{ADMIN, TASKS, TestHub, hub};
use super::upstream::Upstream;

const USAGE: &str = r#"{"id":"c","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":4,"prompt_tokens_details":{"cached_tokens":6}}}"#;

fn post(hub: &TestHub, path: &str, mut body: Value) -> Ask {
    body["model"] = "a".into();
    hub.ask("POST", path).body(body.to_string())
}

/// A streaming call of the row `a`.
fn streaming(hub: &TestHub, options: &Value) -> Ask {
    let mut body = json!({ "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
    if !options.is_null() {
        body["stream_options"] = options.clone();
    }
    post(hub, "/v1/chat/completions", body)
}

/// Tokens of the newest row of the audit: input, cached, output, and whether the output was counted.
async fn audited(hub: &TestHub) -> Value {
    let audit = hub.ask("GET", "/api/v1/audit").json().await.1;
    json!(["inputTokens", "cachedTokens", "outputTokens", "counted"].map(|key| &audit[0][key]))
}

/// A stream of two tokens as the backend sends it to a request with `include_usage`.
fn events() -> [String; 4] {
    [chunk("one"), chunk("two"), USAGE.into(), "[DONE]".into()]
}

fn written(events: &[String]) -> String {
    events.iter().map(|event| format!("data: {event}\n\n")).collect::<Vec<_>>().concat()
}

/// What the caller reads of [`events`].
fn read(with_usage: bool) -> String {
    let shown = events().into_iter().filter(|event| with_usage || event != USAGE);
    written(&shown.collect::<Vec<_>>())
}

#[actix_rt::test]
async fn a_public_row_is_asked_for_usage_that_the_caller_does_not_get() {
    let hub = hub().await;
    let upstream = Upstream::start(&hub, "a", "openai").await;
    for (options, is_asked) in [
        (json!(null), false),
        (json!({}), false),
        (json!({ "include_usage": false, "chunk_include_usage": 7 }), false),
        (json!({ "include_usage": true }), true),
    ] {
        let call = streaming(&hub, &options);
        let ((status, answer), ()) = futures_util::join!(call.send(), async {
            let mut call = upstream.call().await;
            let sent = &call.body["stream_options"];
            assert_eq!(
                (&sent["include_usage"], &sent["chunk_include_usage"]),
                (&json!(true), &options["chunk_include_usage"])
            );
            call.open_stream().await;
            for event in events() {
                call.write(&format!("data: {event}\n\n")).await;
            }
        });
        assert_eq!((status, answer), (200, read(is_asked)), "{options}");
        assert_eq!(audited(&hub).await, json!([11, 6, 4, false]));
    }
    hub.stop().await;
}

/// Publishers with a link and classic ones, whose events are cut anywhere and come in a POST each.
#[actix_rt::test]
async fn publishers_are_asked_for_usage_that_the_caller_does_not_get() {
    let hub = hub().await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("a")]).await;
    for is_asked in [false, true] {
        let call = streaming(&hub, &json!({ "include_usage": is_asked }));
        let ((status, answer), ()) = futures_util::join!(call.send(), async {
            let (task, data) = peer.task().await;
            assert_eq!(data["request"]["stream_options"], json!({ "include_usage": true }));
            let all = written(&events());
            let (first, rest) = all.split_at(all.find("usage").unwrap() + 3);
            peer.events(&task, first).await;
            assert_eq!(peer.streams(&task, rest).await, 200);
        });
        assert_eq!((status, answer), (200, read(is_asked)));
        assert_eq!(audited(&hub).await, json!([11, 6, 4, false]));
    }
    drop(peer);
    hub.until_status("a", "inactive").await;
    let mut classic = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for is_asked in [false, true] {
        let call = streaming(&hub, &json!({ "include_usage": is_asked }));
        let ((status, answer), ()) = futures_util::join!(call.send(), async {
            let task = classic.task().await;
            assert_eq!(task["request"]["stream_options"], json!({ "include_usage": true }));
            for event in events() {
                let result = json!({ "chunk": { "data": event, "done": event == "[DONE]" } });
                assert_eq!(classic.post(&hub, &task, &result).await, 200);
            }
        });
        assert_eq!((status, answer), (200, read(is_asked)));
        assert_eq!(audited(&hub).await, json!([11, 6, 4, false]));
    }
    hub.stop().await;
}

/// The last result of a classic publisher may have the usage beside the end mark.
#[actix_rt::test]
async fn chunks_with_content_keep_their_usage() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let with = |text: &str, tokens: u64| {
        let mut event: Value = serde_json::from_str(&chunk(text)).unwrap();
        event["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": tokens });
        event.to_string()
    };
    let events = [with("one", 1), with("two", 2)];
    let call = streaming(&hub, &json!(null));
    let ((_, answer), ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        for event in &events {
            assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": event } })).await, 200);
        }
        let last = json!({ "chunk": { "data": USAGE, "done": true } });
        assert_eq!(publisher.post(&hub, &task, &last).await, 200);
    });
    assert_eq!(answer, written(&events) + "data: [DONE]\n\n");
    assert_eq!(audited(&hub).await, json!([11, 6, 4, false]));
    hub.stop().await;
}

/// F76: the audit row of a stream whose caller left has the tokens that were sent, marked as counted.
#[actix_rt::test]
async fn tokens_of_a_stream_without_usage_are_counted() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let call = streaming(&hub, &json!(null));
    let (mut answer, task) = publisher.begins(&hub, &call, "one").await;
    assert_eq!(publisher.chunk(&hub, &task, "two").await, 200);
    answer.until("two").await;
    drop(answer);
    publisher.cancelled().await;
    assert_eq!(audited(&hub).await, json!([null, null, 2, true]));
    // The backend sends no usage.
    let (answer, task) = publisher.begins(&hub, &call, "one").await;
    assert_eq!(publisher.done(&hub, &task).await, 200);
    answer.text().await;
    assert_eq!(audited(&hub).await, json!([null, null, 1, true]));
    // The stream fails behind a chunk with an older count.
    let (answer, task) = publisher.begins(&hub, &call, "one").await;
    let mut counted: Value = serde_json::from_str(&chunk("two")).unwrap();
    counted["usage"] = json!({ "prompt_tokens": 8, "completion_tokens": 2 });
    for event in [counted.to_string(), chunk("three")] {
        assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": event } })).await, 200);
    }
    assert_eq!(publisher.post(&hub, &task, &json!({ "error": "it broke" })).await, 200);
    answer.text().await;
    assert_eq!(audited(&hub).await, json!([8, null, 3, true]));
    // A call that fails before its first content has no tokens.
    assert_eq!(publisher.post_for(&hub, &call, &json!({ "error": "it broke" })).await.status, 502);
    assert_eq!(audited(&hub).await, json!([null, null, null, false]));
    let (_, task) = hub.ask("GET", format!("{TASKS}?limit=4")).json().await;
    assert_eq!((&task[1]["outputTokens"], &task[1]["counted"]), (&json!(3), &json!(true)), "{task}");
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    for line in [
        r#"tokens_total{kind="input"} 8"#,
        r#"tokens_total{kind="counted"} 6"#,
        r#"tokens_total{kind="output"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    hub.stop().await;
}

/// A34: how many tokens all users take is for admins.
#[actix_rt::test]
async fn sums_of_tokens_are_for_admins() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    let metrics = hub.ask_as(&bob, "GET", "/metrics").send().await;
    assert!(metrics.0 == 200 && !metrics.1.contains("tokens_total"), "{}", metrics.1);
    hub.stop().await;
}

#[actix_rt::test]
async fn a_durable_stream_has_the_same_tokens_and_no_chunk_with_usage() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let id = hub.enqueue(ADMIN, "a", true).await;
    let task = publisher.task().await;
    assert_eq!(task["request"]["stream_options"], json!({ "include_usage": true }));
    for event in events() {
        let result = json!({ "chunk": { "data": event, "done": event == "[DONE]" } });
        assert_eq!(publisher.post(&hub, &task, &result).await, 200);
    }
    let task = hub.until_task(&json!({ "id": id }), "status", "completed").await;
    let chunks =
        json!([chunk("one"), chunk("two")].map(|chunk| serde_json::from_str::<Value>(&chunk).unwrap()));
    assert_eq!(task["result"]["chunks"], chunks);
    assert_eq!(
        (&task["inputTokens"], &task["outputTokens"], &task["counted"]),
        (&json!(11), &json!(4), &json!(false))
    );
    assert_eq!(audited(&hub).await, json!([11, 6, 4, false]));
    // One that is cancelled.
    let id = hub.enqueue(ADMIN, "a", true).await;
    let task = publisher.task().await;
    assert_eq!(publisher.chunk(&hub, &task, "one").await, 200);
    hub.until_task(&json!({ "id": id }), "status", "running").await;
    let id = format!("{TASKS}/{id}");
    eventually("the chunk is read", async || hub.ask("DELETE", &id).send().await.0 == 204).await;
    let task = hub.ask("GET", &id).json().await.1;
    assert_eq!(
        (&task["inputTokens"], &task["outputTokens"], &task["counted"]),
        (&json!(null), &json!(1), &json!(true))
    );
    eventually("the task is audited", async || audited(&hub).await == json!([null, null, 1, true])).await;
    hub.stop().await;
}
