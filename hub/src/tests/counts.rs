//! Counts of tokens: a backend's own, else an estimate that says so.

use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, asleep, private, provider, report};
use super::support::{ADMIN, TestHub, hub};

const FEATURES: Option<&str> = Some("cancel, status, endpoints, guard");
const HEADER: &str = "x-virtual-llm-estimate: true";

const PATHS: [&str; 2] = ["/v1/messages/count_tokens", "/v1/responses/input_tokens"];

fn count(hub: &TestHub, token: &str, path: &'static str, model: &str) -> Ask {
    let text = "x".repeat(700);
    let body = if path.contains("messages") {
        json!({ "model": model, "messages": [ { "role": "user", "content": text } ] })
    } else {
        json!({ "model": model, "input": text })
    };
    hub.ask_as(token, "POST", path).body(body.to_string())
}

/// Asserts that the call is answered with an estimate.
async fn is_estimated(call: &Ask, path: &str) {
    let answer = call.open().await;
    assert!(answer.head.contains(HEADER), "{path}: {}", answer.head);
    let (status, body) = answer.json().await;
    assert_eq!(status, 200, "{body}");
    has_shape(&body, path);
    let tokens = body["input_tokens"].as_u64().unwrap();
    assert!((200..210).contains(&tokens), "{body}");
}

/// Asserts that a body has exactly the members of the official SDK's type.
fn has_shape(body: &Value, path: &str) {
    let keys: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    if path.contains("messages") {
        assert_eq!(keys, ["input_tokens"]);
    } else {
        assert_eq!((keys.len(), &body["object"]), (2, &json!("response.input_tokens")));
    }
}

/// Answers the next task of `publisher`, a count, with `result`; returns the caller's head, status and body.
async fn counted(
    hub: &TestHub,
    publisher: &mut Publisher,
    path: &'static str,
    result: &Value,
) -> (String, u16, Value) {
    let call = count(hub, ADMIN, path, "a");
    let (answer, ()) = futures_util::join!(call.open(), async {
        let task = publisher.task().await;
        assert_eq!(task["endpoint"], path.strip_prefix("/v1/").unwrap());
        assert_eq!((&task["streaming"], &task["request"]["model"]), (&json!(false), &json!("model-of-a")));
        assert_eq!(publisher.post(hub, &task, result).await, 200);
    });
    let head = answer.head.clone();
    let (status, body) = answer.json().await;
    (head, status, body)
}

#[actix_rt::test]
async fn a_backends_count_is_passed_on_unmarked() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    for path in PATHS {
        let body = json!({ "input_tokens": 42, "object": "response.input_tokens" });
        let result = json!({ "status": 200, "body": body });
        let (head, status, answer) = counted(&hub, &mut publisher, path, &result).await;
        assert_eq!((status, answer), (200, body));
        assert!(!head.contains("estimate"), "{head}");
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_backend_that_counts_nothing_gets_an_estimate_in_its_place() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    for path in PATHS {
        for result in [
            json!({ "status": 404, "body": { "detail": "Not Found" } }),
            json!({ "status": 405, "body": {} }),
            json!({ "status": 501, "body": {} }),
            json!({ "status": 200, "body": { "tokens": [] } }),
            json!({ "error": "this publisher does not offer the endpoint that the task names" }),
            json!({ "error": "backend not available" }),
        ] {
            let (head, status, body) = counted(&hub, &mut publisher, path, &result).await;
            assert!(status == 200 && head.contains(HEADER), "{result}: {status} {head}");
            has_shape(&body, path);
        }
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_count_that_a_backend_refuses_is_passed_on() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    for path in PATHS {
        let result = json!({ "status": 400, "body": { "error": { "message": "no such tool" } } });
        let (head, status, body) = counted(&hub, &mut publisher, path, &result).await;
        assert_eq!((status, &body["error"]["message"]), (400, &json!("no such tool")));
        assert!(!head.contains("estimate"), "{head}");
    }
    hub.stop().await;
}

/// F35: a count is no reason to wake a backend.
#[actix_rt::test]
async fn a_count_for_a_sleeping_backend_is_estimated_and_wakes_nothing() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], FEATURES).await;
    for path in PATHS {
        is_estimated(&count(&hub, ADMIN, path, "a"), path).await;
    }
    assert!(!hub.is_waking("a"));
    // The first task of the publisher is the wake for this call.
    let call = super::road::infer(&hub, "a", false).begin().await;
    let wake = publisher.task().await;
    assert_eq!(wake["kind"], "wake");
    drop(call);
    publisher.post(&hub, &wake, &json!({ "status": 200, "body": { "ok": true } })).await;
    hub.stop().await;
}

#[actix_rt::test]
async fn a_classic_publisher_gets_no_count() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for path in PATHS {
        is_estimated(&count(&hub, ADMIN, path, "a"), path).await;
    }
    publisher.serves(&hub, &super::road::infer(&hub, "a", false), "hello").await;
    hub.stop().await;
}

#[actix_rt::test]
async fn a_count_for_a_full_backend_is_estimated_at_once() {
    let hub = hub().await;
    let publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    let full = json!([report("a", "active", 1, 1)]);
    assert_eq!(publisher.beat(&hub, json!({ "providers": full })).await, 200);
    for path in PATHS {
        is_estimated(&count(&hub, ADMIN, path, "a"), path).await;
    }
    hub.stop().await;
}

/// A01: an estimate reveals no LLM that the caller does not see.
#[actix_rt::test]
async fn a_count_for_a_hidden_llm_is_that_for_an_unknown_one() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    let rows = [asleep(private(provider("a")))];
    let _publisher = Publisher::start(&hub, ADMIN, &rows, FEATURES).await;
    for path in PATHS {
        let hidden = count(&hub, &bob, path, "a").json().await;
        assert_eq!((hidden.0, &hidden.1["error"]["code"]), (404, &json!("model_not_found")));
    }
    hub.stop().await;
}

/// A count is refused as the call itself would be, also where it is estimated.
#[actix_rt::test]
async fn a_count_keeps_the_rules_of_reach() {
    for features in [FEATURES, None] {
        let hub = hub().await;
        let bob = hub.member("bob").await;
        let _publisher = Publisher::start(&hub, ADMIN, &[asleep(provider("a"))], features).await;
        let body = json!({ "model": "a", "messages": [], "mcp_servers": [ { "url": "http://x" } ] });
        let call = hub.ask_as(&bob, "POST", PATHS[0]).body(body.to_string());
        let (status, answer) = call.json().await;
        assert_eq!((status, &answer["type"]), (400, &json!("error")), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("mcp_servers"), "{answer}");
        hub.stop().await;
    }
}

#[actix_rt::test]
async fn a_count_through_an_agent_has_its_prompt_and_no_other_parameter() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], FEATURES).await;
    let params = json!({ "temperature": 0.2, "tools": [] });
    let agent =
        json!({ "name": "clerk", "llmName": "a", "systemPrompt": "Be brief.", "defaultParams": params });
    hub.create_agent(ADMIN, &agent).await;
    for (path, key) in PATHS.into_iter().zip(["system", "instructions"]) {
        let call = count(&hub, ADMIN, path, "clerk");
        let result = json!({ "status": 200, "body": { "input_tokens": 1 } });
        let (_, ()) = futures_util::join!(call.open(), async {
            let task = publisher.task().await;
            assert_eq!(task["request"][key], "Be brief.");
            assert!(task["request"].get("temperature").is_none() && task["request"]["tools"].is_array());
            publisher.post(&hub, &task, &result).await;
        });
    }
    hub.stop().await;
}
