//! Errors before and within an answer, and streams that are silent.

use super::*;

#[actix_rt::test]
async fn errors_are_one_text_with_their_status() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let error = async |call: Ask, status: u16, code: &str| {
        let answer = call.open().await;
        let head = answer.head.clone();
        let (found, body) = answer.json().await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{body}");
        assert!(body["error"].is_string(), "{body}");
        head
    };
    let head = error(ask(hub.addr, "POST", "/api/chat"), 401, "invalid_api_key").await;
    assert!(head.contains("www-authenticate: bearer"), "{head}");
    error(chat(&hub, "none:latest", true), 404, "model_not_found").await;
    error(hub.ask("POST", "/api/chat").body("{"), 400, "invalid_request").await;
    error(hub.ask("POST", "/api/chat").bytes(vec![b' '; (32 << 20) + 1]), 413, "request_too_large").await;
    let head = error(hub.ask("GET", "/api/chat"), 405, "method_not_allowed").await;
    assert!(head.contains("allow: post\r\n"), "{head}");
    error(hub.ask("GET", "/api/none"), 404, "not_found").await;
    error(hub.ask("POST", "/api/v1/none"), 404, "not_found").await;
    // A backend's refusal, in the shape of OpenAI's API.
    let refusal = json!({ "status": 400, "body": { "error": { "message": "too long", "code": "context" } } });
    let answer = publisher.post_for(&hub, &chat(&hub, "a", true), &refusal).await;
    assert_eq!(answer.json().await, (400, json!({ "error": "too long", "code": "backend_error" })));
    publisher.close();
    hub.until_status("a", "inactive").await;
    let head = error(chat(&hub, "a", true), 503, "publisher_away").await;
    assert!(head.contains("retry-after: "), "{head}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_stream_that_fails_ends_with_a_line_that_says_why() {
    let hub = hub_with(|options| options.limits.bytes = 1 << 20).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let (mut answer, task) = publisher.begins(&hub, &chat(&hub, "a", true), "one").await;
    publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
    let rest = answer.rest().await;
    assert_eq!(rest, "{\"error\":\"it broke\",\"code\":\"upstream_error\"}\n");
    // What is kept of an answer counts for its caller.
    let (mut answer, task) = publisher.begins(&hub, &chat(&hub, "a", true), "one").await;
    let arguments = format!("{{\"x\":\"{}", "y".repeat(60 << 10));
    for index in 0..20 {
        let function = json!({ "name": "f", "arguments": arguments });
        let delta = json!({ "tool_calls": [{ "index": index, "function": function }] });
        publisher.post(&hub, &task, &call_chunk(&delta)).await;
    }
    let rest = answer.rest().await;
    assert!(rest.ends_with("\"code\":\"rate_limit_exceeded\"}\n"), "{rest}");
    hub.stop().await;
}

#[actix_rt::test]
async fn a_silent_stream_has_lines_that_say_nothing() {
    let hub = hub_with(|options| options.timings.keepalive_interval = Duration::from_millis(20)).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints, cancel")).await;
    let call = post(&hub, "/api/generate", &json!({ "model": "a", "prompt": "p" }));
    let (mut answer, task) = futures_util::join!(call.open(), publisher.task());
    let line: Value = serde_json::from_str(answer.until("\n").await.lines().next().unwrap()).unwrap();
    assert_eq!((&line["response"], &line["done"]), (&json!(""), &json!(false)), "{line}");
    publisher.chunk(&hub, &task, "one").await;
    answer.until("one").await;
    drop(answer);
    assert_eq!(publisher.cancelled().await, task["taskId"].as_str().unwrap());
    hub.stop().await;
}
