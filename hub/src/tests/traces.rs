//! Request ids, row names, times and codes in answers and audit records, and who may see them.

use serde_json::{Value, json};

use super::http::{Answer, ask};
use super::publisher::{Publisher, private, provider};
use super::road::{chat, infer};
use super::support::{ADMIN, TestHub, hub};

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

async fn audit(hub: &TestHub, token: &str, query: &str) -> Vec<Value> {
    let (status, rows) = hub.ask_as(token, "GET", format!("/api/v1/audit{query}")).json().await;
    assert_eq!(status, 200, "{rows}");
    rows.as_array().unwrap().clone()
}

#[actix_rt::test]
async fn every_answer_has_a_request_id_and_a_server_timing() {
    let hub = hub().await;
    for (path, token) in [
        ("/healthz", None),
        ("/", None),
        ("/v1/models", Some(ADMIN)),
        ("/v1/models", None),
        ("/v1/none", Some(ADMIN)),
        ("/api/v1/llms", Some(ADMIN)),
        ("/api/v1/llms/none", Some("wrong")),
    ] {
        let mut ask = ask(hub.addr, "GET", path);
        if let Some(token) = token {
            ask = ask.token(token);
        }
        let answer = ask.open().await;
        let id = header(&answer, "x-request-id").unwrap_or_else(|| panic!("{path}: {}", answer.head));
        assert!(id.starts_with("req-") && id.len() == 36, "{path}: {id}");
        assert!(header(&answer, "server-timing").unwrap().starts_with("total;dur="), "{}", answer.head);
        let named = ask.clone().header("x-request-id", "cafe_01.b-c").open().await;
        assert_eq!(header(&named, "x-request-id"), Some("cafe_01.b-c"), "{path}");
        let odd = ask.header("x-request-id", "a b").open().await;
        assert!(header(&odd, "x-request-id").unwrap().starts_with("req-"), "{path}");
    }
    let message = hub.ask("POST", "/v1/messages").header("x-request-id", "m1").body(chat("none", false));
    assert_eq!(header(&message.open().await, "request-id"), Some("m1"));
    hub.stop().await;
}

#[actix_rt::test]
async fn the_answer_of_a_call_has_its_row_and_its_times() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    for streaming in [false, true] {
        let ask = infer(&hub, "a", streaming).header("x-request-id", "call-7");
        let (mut answer, ()) = futures_util::join!(ask.open(), async {
            let task = publisher.task().await;
            if streaming {
                publisher.chunk(&hub, &task, "one").await;
                publisher.done(&hub, &task).await;
            } else {
                publisher.answer(&hub, &task, "hello").await;
            }
        });
        assert_eq!(header(&answer, "x-virtual-llm-row"), Some("a"), "{}", answer.head);
        let timing = header(&answer, "server-timing").unwrap();
        let names: Vec<_> = timing.split(", ").map(|part| part.split(';').next().unwrap()).collect();
        let expected: &[&str] = if streaming { &["queue", "first"] } else { &["queue", "first", "total"] };
        assert_eq!(names, expected, "{timing}");
        // The record of a stream is written after its end.
        answer.rest().await;
    }
    let rows = audit(&hub, ADMIN, "?id=call-7").await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["requestId"] == "call-7" && row["code"].is_null()), "{rows:?}");
    hub.stop().await;
}

/// A37: the name of a row that the caller cannot see is in no header.
#[actix_rt::test]
async fn a_hidden_row_is_in_no_header() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let secret = private(provider("canary-row"));
    let mut publisher = Publisher::start(&hub, &alice, &[secret], None).await;
    hub.create_agent(&alice, &json!({ "name": "helper", "llmName": "canary-row", "visibility": "public" }))
        .await;
    for (token, row) in [(&bob, None), (&alice, Some("canary-row"))] {
        let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat("helper", false));
        let answer = publisher.answer_for(&hub, &call, "hello").await;
        assert_eq!((answer.status, header(&answer, "x-virtual-llm-row")), (200, row), "{}", answer.head);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn the_audit_is_searched_by_time_user_row_and_id() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a"), provider("b")], None).await;
    for (token, llm) in [(&alice, "a"), (&bob, "b"), (&bob, "a")] {
        let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(llm, false));
        futures_util::join!(call.send(), async {
            let task = publisher.task().await;
            publisher.post(&hub, &task, &json!({ "error": "it broke" })).await;
        });
    }
    let seen = |rows: Vec<Value>| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(&row["user"]), text(&row["llm"]))).collect()
    };
    let of = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(user, llm)| ((*user).to_owned(), (*llm).to_owned())).collect()
    };
    for (token, query, expected) in [
        (ADMIN, "", &[("bob", "a"), ("bob", "b"), ("alice", "a")][..]),
        (ADMIN, "?user=bob", &[("bob", "a"), ("bob", "b")]),
        (ADMIN, "?user=bob&llm=b", &[("bob", "b")]),
        (ADMIN, "?llm=a&limit=1", &[("bob", "a")]),
        (ADMIN, "?since=1h&user=alice", &[("alice", "a")]),
        (ADMIN, "?since=2020-02-29T12:00:00%2B01:00&limit=2", &[("bob", "a"), ("bob", "b")]),
        (ADMIN, "?since=2999-01-01T00:00:00Z", &[]),
        (&bob, "", &[("bob", "a"), ("bob", "b")]),
        (&bob, "?user=bob&llm=a", &[("bob", "a")]),
        (&bob, "?user=alice", &[]),
    ] {
        assert_eq!(seen(audit(&hub, token, query).await), of(expected), "{query}");
    }
    for odd in ["?since=yesterday", "?since="] {
        assert_eq!(hub.ask("GET", format!("/api/v1/audit{odd}")).send().await.0, 400, "{odd}");
    }
    for (list, most) in [("audit", 1000), ("llms/a/tasks", 500), ("inference-tasks", 200)] {
        for odd in ["many", "0", "-1", "1000000000000000000000"] {
            let (status, answer) = hub.ask("GET", format!("/api/v1/{list}?limit={odd}")).json().await;
            let expected = format!("limit: a number from 1 to {most}");
            assert_eq!((status, answer["error"].as_str()), (400, Some(expected.as_str())), "{list} {odd}");
        }
    }
    // A record is found by each of its ids, and not by another user.
    let row = audit(&hub, &alice, "").await.remove(0);
    assert_eq!(row["code"], "upstream_error");
    for key in ["id", "task", "requestId"] {
        let query = format!("?id={}", row[key].as_str().unwrap());
        assert_eq!(audit(&hub, &alice, &query).await, std::slice::from_ref(&row), "{key}");
        assert!(audit(&hub, &bob, &query).await.is_empty(), "{key}");
    }
    let (_, task) =
        hub.ask("GET", format!("/api/v1/inference-tasks/{}", row["id"].as_str().unwrap())).json().await;
    assert_eq!((&task["status"], &task["code"]), (&json!("error"), &json!("upstream_error")), "{task}");
    let (_, tasks) = hub.ask("GET", "/api/v1/llms/a/tasks").json().await;
    assert_eq!(tasks[0]["code"], "upstream_error");
    hub.stop().await;
}
