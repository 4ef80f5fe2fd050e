//! Errors when no publisher answers: the cause of a 503, its code in each dialect, `Retry-After`.

use std::time::Duration;

use serde_json::{Value, json};
use wire::row::Timestamp;

use super::http::Answer;
use super::publisher::{Publisher, asleep, pooled, private, provider, report};
use super::road::{chat, infer};
use super::support::{ADMIN, TestHub, hub, hub_with};

/// Calls `model`. Returns the answer's status, `Retry-After` and body.
async fn error_of_call(hub: &TestHub, model: &str) -> (u16, Option<String>, Value) {
    let mut answer = hub.ask("POST", "/v1/chat/completions").body(chat(model, false)).open().await;
    let body = answer.rest().await;
    (answer.status, retry_after(&answer), serde_json::from_str(&body).unwrap())
}

fn retry_after(answer: &Answer) -> Option<String> {
    answer.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).map(str::to_owned)
}

/// Sends a heartbeat that reports `more` of the provider `name`.
async fn beat_with(publisher: &Publisher, hub: &TestHub, name: &str, more: Value) {
    let mut status = report(name, "inactive", 0, 1);
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    assert_eq!(publisher.beat(hub, json!({ "providers": [status] })).await, 200);
}

#[actix_rt::test]
async fn a_503_names_its_cause() {
    let hub = hub().await;
    let mut publisher =
        Publisher::start(&hub, ADMIN, &[provider("a")], Some("status, drain, endpoints")).await;
    let in_an_hour = crate::clock::now().plus_millis(3_600_000);
    let until = in_an_hour.to_string();
    for (more, code, says) in [
        (json!({ "paused": true, "pausedUntil": until }), "paused", until.as_str()),
        (json!({ "paused": true }), "paused", "paused by its owner, try again later"),
        (json!({}), "backend_unavailable", "backend of 'a' is not available"),
    ] {
        beat_with(&publisher, &hub, "a", more).await;
        let (status, seconds, body) = error_of_call(&hub, "a").await;
        assert_eq!((status, &body["error"]["code"]), (503, &json!(code)), "{body}");
        assert!(body["error"]["message"].as_str().unwrap().contains(says), "{body}");
        let seconds: u32 = seconds.expect("a 503 has a Retry-After").parse().unwrap();
        let expected = if says == until { 3590..=3600 } else { 5..=5 };
        assert!(expected.contains(&seconds), "{code}: {seconds}");
    }
    // The code is in the other dialects, too.
    let (status, body) = infer(&hub, "a", false).json().await;
    assert_eq!((status, &body["code"]), (503, &json!("backend_unavailable")), "{body}");
    let (status, body) = hub.ask("POST", "/v1/messages").body(chat("a", false)).json().await;
    assert_eq!((status, &body["error"]["type"]), (503, &json!("overloaded_error")), "{body}");
    assert_eq!(body["error"]["code"], "backend_unavailable");

    beat_with(&publisher, &hub, "a", json!({ "status": "active" })).await;
    let drain = json!({ "providerSessionId": publisher.session }).to_string();
    assert_eq!(hub.ask("POST", "/api/v1/llms/_provider-drain").body(drain).send().await.0, 200);
    assert_eq!(error_of_call(&hub, "a").await.2["error"]["code"], "publisher_stopping");
    publisher.close();
    hub.until_status("a", "inactive").await;
    super::support::eventually("the cause is publisher_away", async || {
        error_of_call(&hub, "a").await.2["error"]["code"] == "publisher_away"
    })
    .await;
    hub.stop().await;
}

/// Among several causes the error names the most specific; among several pauses, the one that ends first.
#[actix_rt::test]
async fn an_error_of_a_pool_names_the_most_specific_cause() {
    let hub = hub().await;
    let members = [pooled("a", "p"), pooled("b", "p"), pooled("c", "p")];
    let publisher = Publisher::start(&hub, ADMIN, &members, Some("status")).await;
    let statuses = |late: Timestamp, soon: Timestamp| {
        let one = |name: &str, until: Option<Timestamp>| {
            json!({ "name": name, "status": "inactive", "inFlight": 0, "queued": 0, "maxConcurrency": 1,
                "paused": until.is_some(), "pausedUntil": until })
        };
        json!({ "providers": [one("a", Some(late)), one("b", Some(soon)), one("c", None)] })
    };
    let now = crate::clock::now();
    let (late, soon) = (now.plus_millis(7_200_000), now.plus_millis(600_000));
    assert_eq!(publisher.beat(&hub, statuses(late, soon)).await, 200);
    let body = error_of_call(&hub, "p").await.2;
    assert!(body["error"]["message"].as_str().unwrap().contains(&soon.to_string()), "{body}");
    hub.stop().await;
}

/// A37: an error does not reveal the cause at a row that the caller cannot see, also through an agent.
#[actix_rt::test]
async fn the_cause_at_a_hidden_row_is_not_revealed() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let secret = private(provider("secret"));
    let publisher = Publisher::start(&hub, &alice, &[secret], Some("status")).await;
    hub.create_agent(&alice, &json!({ "name": "helper", "llmName": "secret", "visibility": "public" })).await;
    beat_with(&publisher, &hub, "secret", json!({ "paused": true })).await;
    let ask = |token: &str| hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("helper", false));
    let (status, body) = ask(&bob).json().await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("publisher_away")), "{body}");
    let (status, body) = ask(&alice).json().await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("paused")), "{body}");
    hub.stop().await;
}

/// A call that waited in vain for capacity or for a wake gets the code of that cause.
#[actix_rt::test]
async fn a_full_queue_and_a_failed_wake_have_their_own_codes() {
    let hub = hub_with(|options| options.timings.wait_timeout = Duration::from_secs(5)).await;
    let asleep = asleep(provider("b"));
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a"), asleep], Some("status")).await;
    let busy = json!({ "status": "active", "inFlight": 1 });
    beat_with(&publisher, &hub, "a", busy).await;
    let ask = hub.ask("POST", "/v1/chat/completions").header("x-queue-timeout", "0.1");
    let answer = ask.body(chat("a", false)).json().await;
    assert_eq!((answer.0, &answer.1["error"]["code"]), (503, &json!("queue_full")), "{}", answer.1);

    let call = infer(&hub, "b", false);
    let (answer, ()) = futures_util::join!(call.json(), async {
        let wake = publisher.task().await;
        let text = "wake recipe failed: wake command exited with code 7";
        assert_eq!(publisher.post(&hub, &wake, &json!({ "error": text })).await, 200);
    });
    assert_eq!((answer.0, &answer.1["code"]), (503, &json!("wake_failed")), "{}", answer.1);
    hub.stop().await;
}

/// The row is paused after the hub sent the wake task.
#[actix_rt::test]
async fn a_wake_that_a_paused_publisher_refuses_is_reported_as_paused() {
    let hub = hub().await;
    let mut asleep = provider("b");
    asleep["initialStatus"] = "hibernating".into();
    let mut publisher = Publisher::start(&hub, ADMIN, &[asleep], Some("status")).await;
    let (answer, ()) = futures_util::join!(error_of_call(&hub, "b"), async {
        let wake = publisher.task().await;
        assert_eq!(wake["kind"], "wake", "{wake}");
        let body = json!({ "error": { "message": "'b' is paused by its owner", "code": "paused" } });
        let result = json!({ "status": 503, "body": body, "retryAfter": 120 });
        assert_eq!(publisher.post(&hub, &wake, &result).await, 200);
    });
    let (status, wait, body) = answer;
    assert_eq!((status, wait.as_deref()), (503, Some("120")), "{body}");
    assert_eq!(body["error"]["code"], "paused", "{body}");
    hub.stop().await;
}

/// Known error texts get codes, a status in the text becomes the answer's status, and `retryAfter` is passed on.
#[actix_rt::test]
async fn a_publishers_error_has_a_code_and_a_retry_after() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let full = json!({ "error": { "message": "the queue of 'a' is full", "type": "rate_limit_error",
        "param": null, "code": "queue_full" } });
    let paused = json!({ "error": { "message": "'a' is paused by its owner", "code": "paused" } });
    for (result, status, seconds, code) in [
        (
            json!({ "error": "backend not available", "retryAfter": 40 }),
            503,
            Some("40"),
            "backend_unavailable",
        ),
        (json!({ "error": "the backend refused the publisher's key" }), 502, None, "backend_key_refused"),
        (json!({ "error": "provider 'a' not registered locally" }), 502, None, "not_published"),
        (json!({ "error": "backend answered 413: too many images" }), 413, None, "backend_error"),
        (json!({ "status": 429, "body": full }), 429, Some("5"), "queue_full"),
        (
            json!({ "status": 529, "body": { "detail": "slow down" }, "retryAfter": 17 }),
            529,
            Some("17"),
            "backend_error",
        ),
        (json!({ "status": 503, "body": { "message": "loading" } }), 503, Some("5"), "backend_error"),
        (json!({ "status": 503, "body": paused, "retryAfter": 120 }), 503, Some("120"), "paused"),
    ] {
        let (answer, ()) = futures_util::join!(error_of_call(&hub, "a"), async {
            let task = publisher.task().await;
            assert_eq!(publisher.post(&hub, &task, &result).await, 200);
        });
        let (got, wait, body) = answer;
        assert_eq!((got, wait.as_deref()), (status, seconds), "{result}");
        assert_eq!(body["error"]["code"], code, "{result}: {body}");
        let (_, rows) = hub.ask("GET", "/api/v1/audit?limit=1").json().await;
        assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&json!(status), &json!(code)), "{result}");
    }
    hub.stop().await;
}

/// A 401, 403 or 407 of a backend becomes 502 in every dialect, so that no SDK reports a wrong key of the caller.
#[actix_rt::test]
async fn a_publishers_401_does_not_become_the_callers_401() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel, endpoints")).await;
    for status in [401, 403, 407] {
        let status_in_text = json!({ "error": format!("backend answered {status}: seat taken") });
        for (path, body, code) in [
            ("/v1/chat/completions", chat("a", false), "/error/code"),
            ("/v1/chat/completions", chat("a", true), "/error/code"),
            ("/v1/messages", chat("a", true), "/error/code"),
            ("/v1/responses", chat("a", false), "/error/code"),
            ("/api/v1/llms/a/infer", chat("a", false), "/code"),
        ] {
            let status_in_result =
                json!({ "status": status, "body": { "error": { "message": "seat taken", "code": "x" } } });
            for result in [&status_in_result, &status_in_text] {
                let ask = hub.ask("POST", path).body(body.clone());
                let mut answer = publisher.post_for(&hub, &ask, result).await;
                let text = answer.rest().await;
                assert_eq!(answer.status, 502, "{path} {result}: {text}");
                assert!(!answer.head.contains("www-authenticate"), "{}", answer.head);
                let body: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(body.pointer(code), Some(&json!("publisher_refused")), "{path} {result}: {text}");
                assert!(text.contains("seat taken"), "{text}");
            }
        }
        let ask = hub.ask("POST", "/v1/responses").body(chat("a", true));
        let (mut answer, ()) = futures_util::join!(ask.open(), async {
            let task = publisher.task().await;
            let piece = json!({ "chunk": { "data": r#"{"type":"response.in_progress"}"# } });
            assert_eq!(publisher.post(&hub, &task, &piece).await, 200);
            assert_eq!(publisher.post(&hub, &task, &status_in_text).await, 200);
        });
        let text = answer.rest().await;
        assert!(text.contains(r#""code":"publisher_refused""#), "{text}");
        let (_, rows) = hub.ask("GET", "/api/v1/audit?limit=1").json().await;
        assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&json!(502), &json!("publisher_refused")));

        let body = json!({ "llm": "a", "request": { "messages": [] } }).to_string();
        let (_, task) = hub.ask("POST", "/api/v1/inference-tasks").body(body).json().await;
        let dispatch = publisher.task().await;
        let status_in_result = json!({ "status": status, "body": { "error": "seat taken" } });
        assert_eq!(publisher.post(&hub, &dispatch, &status_in_result).await, 200);
        hub.until_task(&task, "code", "publisher_refused").await;
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn a_users_own_limit_has_a_retry_after() {
    let hub = hub_with(|options| options.limits.open_tasks = 0).await;
    let _publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let body = json!({ "llm": "a", "request": { "messages": [] } }).to_string();
    let mut answer = hub.ask("POST", "/api/v1/inference-tasks").body(body).open().await;
    assert_eq!((answer.status, retry_after(&answer).as_deref()), (429, Some("5")));
    assert!(answer.rest().await.contains("rate_limit_exceeded"));
    hub.stop().await;
}
