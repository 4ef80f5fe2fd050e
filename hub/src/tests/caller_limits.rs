//! Limits that an admin sets for a token or a user: on every way of a call, in the shape of each API.

mod models;
mod slots;
mod tokens;

use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TASKS, TestHub, hub};

/// Creates a token of `user` with `limits`. Returns its secret and its id.
async fn limited(hub: &TestHub, user: &str, limits: &Value) -> (String, String) {
    let mut request = limits.clone();
    request["user"] = user.into();
    let (status, made) = hub.ask("POST", "/api/v1/tokens").body(request.to_string()).json().await;
    assert_eq!(status, 201, "{made}");
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("token"), text("id"))
}

/// Changes the limits of a user. Returns its view.
async fn set_user(hub: &TestHub, user: &str, limits: &Value) -> Value {
    let (status, view) =
        hub.ask("PATCH", format!("/api/v1/users/{user}/limits")).body(limits.to_string()).json().await;
    assert_eq!(status, 200, "{view}");
    view
}

/// The token with this id as the list has it.
async fn token_view(hub: &TestHub, id: &str) -> Value {
    let list = hub.ask("GET", "/api/v1/tokens").json().await.1;
    list.as_array().unwrap().iter().find(|token| token["id"] == id).unwrap().clone()
}

fn chat(hub: &TestHub, token: &str, llm: &str) -> Ask {
    let body = json!({ "model": llm, "messages": [] });
    hub.ask_as(token, "POST", "/v1/chat/completions").body(body.to_string())
}

/// The value of a header in an answer's head.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Every way of a call: its path and body.
const WAYS: &[(&str, &str)] = &[
    ("/v1/chat/completions", r#"{"model":"a","messages":[]}"#),
    ("/v1/chat/completions", r#"{"model":"a","messages":[],"stream":true}"#),
    ("/openai/deployments/a/chat/completions", r#"{"messages":[]}"#),
    ("/v1/completions", r#"{"model":"a","prompt":""}"#),
    ("/v1/embeddings", r#"{"model":"a","input":""}"#),
    ("/v1/responses", r#"{"model":"a","input":""}"#),
    ("/v1/messages", r#"{"model":"a","messages":[]}"#),
    ("/v1/messages/count_tokens", r#"{"model":"a","messages":[]}"#),
    ("/v1/responses/input_tokens", r#"{"model":"a","input":""}"#),
    ("/v1/rerank", r#"{"model":"a","query":"","documents":[]}"#),
    ("/api/chat", r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#),
    ("/api/generate", r#"{"model":"a","prompt":"x"}"#),
    ("/api/embed", r#"{"model":"a","input":"x"}"#),
    ("/api/v1/llms/a/infer", r#"{"messages":[]}"#),
    ("/api/v1/agents/helper/infer", r#"{"messages":[]}"#),
    (TASKS, r#"{"llm":"a","request":{"messages":[]}}"#),
];

/// A27: no way of a call leads around a limit, and each refusal has the shape of its API.
#[actix_rt::test]
async fn every_way_of_a_call_is_limited_in_the_shape_of_its_api() {
    let hub = hub().await;
    Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    hub.create_agent(ADMIN, &json!({ "name": "helper", "llmName": "a", "visibility": "public" })).await;
    for (way, body) in WAYS {
        let (token, _) = limited(&hub, "bob", &json!({ "requestsPerMinute": 1 })).await;
        let call = hub.ask_as(&token, "POST", *way).body(*body);
        // Its publisher is away, or the task is accepted.
        let first = call.open().await;
        assert!([200, 202, 503].contains(&first.status), "{way}: {}", first.status);
        assert_eq!(header(&first.head, "x-ratelimit-remaining-requests"), Some("0"), "{way}: {}", first.head);
        let refused = call.open().await;
        assert_eq!(refused.status, 429, "{way}");
        let number = |name| header(&refused.head, name).unwrap().trim_end_matches('s').parse::<u32>().ok();
        let wait = number("retry-after").unwrap();
        // A minute, less what has passed since the first call.
        assert!((30..=60).contains(&wait), "{way}: {wait}");
        assert_eq!(number("x-ratelimit-limit-requests"), Some(1), "{way}");
        let reset = header(&refused.head, "x-ratelimit-reset-requests").unwrap();
        let is_near = [wait, wait - 1].iter().any(|wait| reset == format!("{wait}s"));
        assert!(is_near || reset == "1m0s", "{way}: {reset} of {wait}");
        let is_anthropics = way.starts_with("/v1/messages");
        let of_anthropic = header(&refused.head, "anthropic-ratelimit-requests-remaining");
        assert_eq!(of_anthropic, is_anthropics.then_some("0"), "{way}");
        let error = refused.json().await.1;
        let text = format!("an admin allows you no more than 1 request a minute: try again in {wait} s");
        let expected = if is_anthropics {
            json!({ "type": "error", "error": { "type": "rate_limit_error", "message": text, "code": "rate_limit_exceeded" } })
        } else if way.starts_with("/api") {
            json!({ "error": text, "code": "rate_limit_exceeded" })
        } else {
            json!({ "error": { "message": text, "type": "rate_limit_error", "param": null, "code": "rate_limit_exceeded" } })
        };
        assert_eq!(error, expected, "{way}");
    }
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    let line = format!(r#"limit_refusals_total{{limit="requests_per_minute"}} {}"#, WAYS.len());
    assert!(metrics.contains(&line), "{metrics}");
    hub.stop().await;
}

/// All answers of a limited caller have the headers, those of others never.
#[actix_rt::test]
async fn answers_tell_what_is_left() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("endpoints")).await;
    let (token, _) = limited(&hub, "bob", &json!({ "requestsPerMinute": 6, "tokensPerDay": 1000 })).await;
    // A token of another user with the same limits for the user and for the token: the stricter is told.
    set_user(&hub, "bob", &json!({ "tokensPerDay": 100 })).await;
    let answer = publisher.answer_for(&hub, &chat(&hub, &token, "a"), "hi").await;
    for (name, value) in [
        ("x-ratelimit-limit-requests", "6"),
        ("x-ratelimit-remaining-requests", "5"),
        ("x-ratelimit-limit-tokens", "100"),
        ("x-ratelimit-remaining-tokens", "92"),
    ] {
        assert_eq!(header(&answer.head, name), Some(value), "{name}: {}", answer.head);
    }
    let reset = header(&answer.head, "x-ratelimit-reset-requests").unwrap();
    assert!(["10s", "9s", "8s", "7s"].contains(&reset), "{reset}");
    assert!(header(&answer.head, "x-ratelimit-reset-tokens").unwrap().ends_with('s'), "{}", answer.head);
    for path in ["/v1/models", "/v1/models/unknown", "/api/v1/whoami", "/api/tags"] {
        let answer = hub.ask_as(&token, "GET", path).open().await;
        assert_eq!(header(&answer.head, "x-ratelimit-remaining-tokens"), Some("92"), "{path}");
    }
    let unlimited = hub.member("carol").await;
    let answer = publisher.answer_for(&hub, &chat(&hub, &unlimited, "a"), "hi").await;
    assert!(!answer.head.contains("ratelimit"), "{}", answer.head);
    hub.stop().await;
}

#[actix_rt::test]
async fn limits_are_set_shown_and_cleared_one_by_one() {
    let hub = hub().await;
    let all =
        json!({ "models": ["a", "b*"], "tokensPerDay": 10, "requestsPerMinute": 20, "maxConcurrent": 30 });
    let (secret, id) = limited(&hub, "bob", &all).await;
    let limits = |row: &Value| {
        json!(
            ["models", "tokensPerDay", "requestsPerMinute", "maxConcurrent", "tokensToday"]
                .map(|key| &row[key])
        )
    };
    let shown = json!([["a", "b*"], 10, 20, 30, 0]);
    assert_eq!(limits(&token_view(&hub, &id).await), shown);
    let me = hub.ask_as(&secret, "GET", "/api/v1/whoami").json().await.1;
    assert_eq!((limits(&me["tokenLimits"]), me.get("userLimits")), (shown, None));
    // Names of users ignore case.
    assert_eq!(limits(&set_user(&hub, "BOB", &all).await)[1], 10);
    let me = hub.ask_as(&secret, "GET", "/api/v1/whoami").json().await.1;
    assert_eq!(limits(&me["userLimits"]), limits(&me["tokenLimits"]));
    for (change, expected) in [
        (json!({ "tokensPerDay": null }), json!([["a", "b*"], null, 20, 30, 0])),
        (json!({ "models": ["*"], "requestsPerMinute": 7 }), json!([null, null, 7, 30, 0])),
        (json!({ "requestsPerMinute": null, "maxConcurrent": null }), json!([null, null, null, null, null])),
    ] {
        let path = format!("/api/v1/tokens/{id}/limits");
        let (status, view) = hub.ask("PATCH", path).body(change.to_string()).json().await;
        assert_eq!((status, limits(&view)), (200, expected), "{change}");
    }
    let users = hub.ask("GET", "/api/v1/users").json().await.1;
    let names: Vec<_> =
        users.as_array().unwrap().iter().map(|user| (&user["name"], &user["maxConcurrent"])).collect();
    assert_eq!(names, [(&json!("admin"), &json!(null)), (&json!("bob"), &json!(30))]);
    for bad in [
        json!({ "tokensPerDay": 0 }),
        json!({ "tokensPerDay": -1 }),
        json!({ "requestsPerMinute": 1.5 }),
        json!({ "maxConcurrent": "3" }),
        json!({ "maxConcurrent": 1_000_001 }),
        json!({ "models": [] }),
        json!({ "models": ["a b"] }),
        json!({ "models": "a" }),
    ] {
        for (method, path) in [("PATCH", "/api/v1/users/bob/limits"), ("POST", "/api/v1/tokens")] {
            let mut body = bad.clone();
            body["user"] = "bob".into();
            let (status, answer) = hub.ask(method, path).body(body.to_string()).send().await;
            assert_eq!(status, 400, "{method} {bad}: {answer}");
        }
    }
    for path in ["/api/v1/users/nobody/limits", "/api/v1/tokens/nothing/limits"] {
        assert_eq!(hub.ask("PATCH", path).body("{}").send().await.0, 404, "{path}");
    }
    assert_eq!(hub.ask("GET", "/api/v1/users/nobody").send().await.0, 404);
    hub.stop().await;
}
