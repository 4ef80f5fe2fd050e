//! Requests and results of hostile publishers and callers.

use serde_json::{Value, json};

use super::http::ask;
use super::link::peer::Peer;
use super::publisher::{Publisher, provider};
use super::road::infer;
use super::support::{ADMIN, hub};

/// A19: a publisher's chunk becomes exactly one event, or fails the task if it is not JSON.
#[actix_rt::test]
async fn a_publishers_chunk_is_one_event_or_a_failure() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let mut peer = Peer::start(&hub, ADMIN, &[provider("b")]).await;
    // Line breaks between JSON tokens are removed; line breaks in a JSON string are escaped already.
    let call = infer(&hub, "a", true);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        let data = "{\n\n\"a\"\r\n:\r\"event: done\\n\\ndata: {}\"}";
        assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": data } })).await, 200);
        publisher.done(&hub, &task).await;
    });
    assert_eq!(answer.1, "data: {\"a\":\"event: done\\n\\ndata: {}\"}\n\ndata: [DONE]\n\n");
    // Text that is not JSON reaches no caller, neither from a POST nor over a link.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for bad in ["hi\n\nevent: done\ndata: {}", "{\"a\":1}{", &deep] {
        let call = infer(&hub, "a", true);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": bad } })).await, 400);
            assert_eq!(publisher.done(&hub, &task).await, 410);
        });
        assert_eq!(answer.0, 502, "{}", answer.1);
        let call = infer(&hub, "b", true);
        let (answer, ()) = futures_util::join!(call.send(), async {
            let (task, _) = peer.task().await;
            let events = format!("data: {}\n\n", bad.replace('\n', "\ndata: "));
            assert_eq!(peer.streams(&task, &events).await, 400);
        });
        assert_eq!(answer.0, 502, "{}", answer.1);
    }
    hub.stop().await;
}

/// Every type of JSON value except an object.
const NON_OBJECTS: [&str; 7] = ["null", "5", "-1e3", "[]", r#"[{"index":0}]"#, r#""{}""#, "true"];

/// The code of an error in the dialect of `path`.
fn code<'a>(path: &str, body: &'a Value) -> &'a Value {
    assert_eq!(body["type"] == "error", path == "/v1/messages", "{body}");
    if path.starts_with("/v1") { &body["error"]["code"] } else { &body["code"] }
}

fn request_for_any_path(model: &str, stream: bool) -> String {
    json!({ "model": model, "stream": stream, "messages": [], "max_tokens": 9, "input": "x", "query": "x",
        "documents": ["x"] })
    .to_string()
}

/// A19: an answer or a chunk that is JSON but not an object becomes a 502 in the caller's dialect, and later results
/// for the task are refused.
#[actix_rt::test]
async fn an_answer_that_is_not_an_object_is_an_error_in_each_dialect() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let paths = ["chat/completions", "completions", "embeddings", "responses", "messages", "rerank"];
    let paths = paths.map(|path| format!("/v1/{path}"));
    for path in paths.iter().map(String::as_str).chain(["/api/v1/llms/a/infer"]) {
        for bad in NON_OBJECTS {
            let body: Value = serde_json::from_str(bad).unwrap();
            let call = hub.ask("POST", path).body(request_for_any_path("a", false));
            let (answer, ()) = futures_util::join!(call.json(), async {
                let task = publisher.task().await;
                assert_eq!(publisher.post(&hub, &task, &json!({ "status": 200, "body": body })).await, 400);
                assert_eq!(publisher.answer(&hub, &task, "hello").await, 410);
            });
            assert_eq!((answer.0, code(path, &answer.1)), (502, &json!("upstream_error")), "{path} {bad}");
            if body.is_null() {
                continue;
            }
            // An error status is passed on whatever the body is.
            let call = hub.ask("POST", path).body(request_for_any_path("a", false));
            let answer =
                publisher.post_for(&hub, &call, &json!({ "status": 418, "body": body })).await.json().await;
            assert_eq!((answer.0, code(path, &answer.1)), (418, &json!("backend_error")), "{path} {bad}");
        }
    }
    let mut peer = Peer::start(&hub, ADMIN, &[provider("b")]).await;
    for path in ["/v1/chat/completions", "/v1/messages", "/api/v1/llms/{llm}/infer"] {
        for bad in NON_OBJECTS {
            for llm in ["a", "b"] {
                let body = request_for_any_path(llm, true);
                let call = hub.ask("POST", path.replace("{llm}", llm)).body(body);
                let (answer, ()) = futures_util::join!(call.json(), async {
                    let status = if llm == "b" {
                        let (task, _) = peer.task().await;
                        peer.streams(&task, &format!("data: {bad}\n\ndata: [DONE]\n\n")).await
                    } else {
                        let task = publisher.task().await;
                        publisher.post(&hub, &task, &json!({ "chunk": { "data": bad } })).await
                    };
                    assert_eq!(status, 400);
                });
                assert_eq!(
                    (answer.0, code(path, &answer.1)),
                    (502, &json!("upstream_error")),
                    "{path} {bad}"
                );
            }
        }
    }
    // After the first chunk, the error ends the stream.
    let call = hub.ask("POST", "/v1/chat/completions").body(request_for_any_path("a", true));
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.chunk(&hub, &task, "one").await, 200);
        assert_eq!(publisher.post(&hub, &task, &json!({ "chunk": { "data": "[7]" } })).await, 400);
    });
    assert!(answer.1.contains("one") && answer.1.contains("upstream_error"), "{}", answer.1);
    assert!(!answer.1.contains("[DONE]") && !answer.1.contains("[7]"), "{}", answer.1);
    hub.stop().await;
}

/// A27: a record keeps only the beginning of a long error text.
#[actix_rt::test]
async fn records_keep_the_beginning_of_an_errors_text() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let error = json!({ "error": "é".repeat(2 << 20) });
    let body = r#"{"llm":"a","request":{"messages":[]}}"#;
    assert_eq!(hub.ask("POST", "/api/v1/inference-tasks").body(body).send().await.0, 202);
    let task = publisher.task().await;
    publisher.post(&hub, &task, &error).await;
    let call = infer(&hub, "a", false);
    let answer = publisher.post_for(&hub, &call, &error).await.text().await;
    assert_eq!(answer.0, 502);
    super::support::eventually("both tasks are listed with the beginning of the error", async || {
        let (_, list) = hub.ask("GET", "/api/v1/inference-tasks").json().await;
        let errors: Vec<_> =
            list.as_array().unwrap().iter().filter_map(|task| task["error"].as_str()).collect();
        errors.len() == 2 && errors.iter().all(|error| error.len() < 5000 && error.ends_with("é…"))
    })
    .await;
    hub.stop().await;
}

/// A20: a publisher's status that is neither success nor error becomes 502.
#[actix_rt::test]
async fn a_publishers_status_302_becomes_502() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for (theirs, ours) in [(201, 201), (204, 200), (302, 502), (404, 404), (599, 599)] {
        let call = infer(&hub, "a", false);
        let mut answer =
            publisher.post_for(&hub, &call, &json!({ "status": theirs, "body": { "a": 1 } })).await;
        assert_eq!(answer.status, ours);
        assert!(answer.head.contains("content-type: application/json"));
        assert_eq!(answer.rest().await, r#"{"a":1}"#);
    }
    hub.stop().await;
}

/// P7, A23, A24: a body over the limit, too deep, or not an object is refused, and the client can read the answer.
#[actix_rt::test]
async fn a_body_that_is_too_large_or_not_an_object_is_refused() {
    let hub = hub().await;
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let huge = format!(r#"{{"messages":"{}"}}"#, "x".repeat(33 << 20));
    let (status, body) = infer(&hub, "a", false).body(huge).json().await;
    assert_eq!((status, &body["error"]), (413, &json!("the request's body is larger than 32 MiB")));
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    for bad in ["", "[]", "{", "\"model\"", deep.as_str()] {
        assert_eq!(infer(&hub, "a", false).body(bad).send().await.0, 400, "{}", &bad[..bad.len().min(9)]);
    }
    let (status, body) = hub.ask("POST", "/v1/chat/completions").body(r#"{"model":{}}"#).json().await;
    assert_eq!((status, &body["error"]["type"]), (400, &json!("invalid_request_error")));
    hub.stop().await;
}

#[actix_rt::test]
async fn a_body_of_many_megabytes_reaches_the_publisher_unchanged() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let body = format!(
        r#"{{ "model": "a", "mo\u0064el": "x", "seed": 18446744073709551615, "x": 1.10, "image": "{}" }}"#,
        "x".repeat(20 << 20)
    );
    let ask = hub.ask("POST", "/v1/chat/completions").body(body.replace("\"x\",", "\"a\","));
    let (answer, ()) = futures_util::join!(ask.send(), async {
        let event = publisher.event().await.unwrap();
        let expected = r#""model": "model-of-a", "mo\u0064el": "model-of-a", "seed": 18446744073709551615, "x": 1.10, "image": "xxx"#;
        assert!(event.data.contains(expected), "{:.300}", event.data);
        let task: Value = serde_json::from_str(&event.data).unwrap();
        publisher.answer(&hub, &task, "hello").await;
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// A27: a path of more than 4096 bytes is refused before routing and authentication.
#[actix_rt::test]
async fn a_path_that_is_too_long_is_refused_with_a_reason() {
    let hub = hub().await;
    for (prefix, dialect) in [
        ("/api/v1/llms/", "/api/v1"),
        ("/v1/models/", "/v1"),
        ("/v1/messages/", "/v1/messages"),
        ("//", "/api/v1"),
    ] {
        let path = |length: usize| format!("{prefix}{}", "a".repeat(length - prefix.len()));
        for method in ["GET", "HEAD", "OPTIONS", "POST"] {
            let (longest, longer) = (path(4 << 10), path((4 << 10) + 1));
            assert_ne!(ask(hub.addr, method, longest).open().await.status, 414);
            assert_eq!(ask(hub.addr, method, longer).open().await.status, 414);
        }
        let (status, body) = ask(hub.addr, "GET", path(60_000)).json().await;
        assert_eq!((status, code(dialect, &body)), (414, &json!("path_too_long")));
        let text = if dialect == "/api/v1" { &body["error"] } else { &body["error"]["message"] };
        assert_eq!(text, "the path has more than 4096 bytes");
    }
    hub.stop().await;
}
