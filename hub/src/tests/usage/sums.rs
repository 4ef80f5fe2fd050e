//! `GET /api/v1/usage`: who reads which sums.

use serde_json::{Value, json};

use super::super::publisher::{Publisher, private, provider};
use super::super::road::chat;
use super::super::support::{ADMIN, TASKS, TestHub, hub};
use super::eventually;

async fn usage(hub: &TestHub, token: &str, query: &str) -> Value {
    let (status, usage) = hub.ask_as(token, "GET", format!("/api/v1/usage?{query}")).json().await;
    assert_eq!(status, 200, "{usage}");
    usage
}

/// Names and numbers of calls.
fn rows(usage: &Value, name: &str) -> Value {
    let row = |row: &Value| json!([row[name], row["calls"], row["outputTokens"]]);
    usage["rows"].as_array().unwrap().iter().map(row).collect()
}

/// A call that the publisher answers with this number of tokens.
async fn call(hub: &TestHub, publisher: &mut Publisher, token: &str, model: &str, tokens: u64) {
    let call = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model, false));
    let body = json!({ "choices": [{ "index": 0, "message": { "role": "assistant", "content": "hi" } }],
        "usage": { "prompt_tokens": 2 * tokens, "completion_tokens": tokens } });
    let answer = publisher.post_for(hub, &call, &json!({ "status": 200, "body": body })).await;
    assert_eq!(answer.status, 200);
}

/// A34: a member reads the sums of its own calls, whatever it asks for; an admin those of all.
#[actix_rt::test]
async fn a_member_reads_its_own_sums_and_an_admin_all() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a"), provider("b")], None).await;
    call(&hub, &mut publisher, &alice, "a", 5).await;
    call(&hub, &mut publisher, &alice, "b", 7).await;
    call(&hub, &mut publisher, &bob, "a", 100).await;
    for query in ["", "by=user", "by=user&user=bob", "user=ALICE"] {
        assert_eq!(rows(&usage(&hub, &alice, query).await, "user"), json!([["alice", 2, 12]]), "{query}");
    }
    let own = usage(&hub, &alice, "by=llm").await;
    assert_eq!(rows(&own, "llm"), json!([["b", 1, 7], ["a", 1, 5]]));
    assert_eq!((&own["total"]["inputTokens"], &own["more"]), (&json!(24), &json!(0)));
    let all = usage(&hub, ADMIN, "by=user").await;
    assert_eq!(rows(&all, "user"), json!([["bob", 1, 100], ["alice", 2, 12]]));
    assert_eq!(rows(&usage(&hub, ADMIN, "by=llm&user=Alice&llm=a").await, "llm"), json!([["a", 1, 5]]));
    let first = usage(&hub, ADMIN, "by=user&limit=1").await;
    assert_eq!((rows(&first, "user"), &first["more"]), (json!([["bob", 1, 100]]), &json!(1)));
    assert_eq!(first["total"]["outputTokens"], 112);
    // Tokens are named by their ids.
    let by_token = usage(&hub, ADMIN, "by=token&user=bob").await;
    let (_, tokens) = hub.ask("GET", "/api/v1/tokens").json().await;
    let token = tokens.as_array().unwrap().iter().find(|token| token["user"] == "bob").unwrap();
    assert_eq!((&by_token["rows"][0]["token"], &by_token["rows"][0]["user"]), (&token["id"], &json!("bob")));
    assert!(!by_token.to_string().contains(&bob), "{by_token}");
    let by_day = usage(&hub, ADMIN, "by=day&since=0d").await;
    assert_eq!((&by_day["since"], &by_day["rows"][0]["day"]), (&by_day["until"], &by_day["until"]));
    assert_eq!(by_day["rows"][0]["calls"], 3);
    assert!(
        usage(&hub, ADMIN, "until=2020-01-31&since=2020-01-01").await["rows"].as_array().unwrap().is_empty()
    );
    hub.stop().await;
}

/// A37: a member who used a hidden row through an agent reads the agent's name.
#[actix_rt::test]
async fn sums_name_an_agent_instead_of_a_hidden_row() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[private(provider("deep-row"))], None).await;
    hub.create_agent(&alice, &json!({ "name": "clerk", "llmName": "deep-row", "visibility": "public" }))
        .await;
    call(&hub, &mut publisher, &bob, "clerk", 5).await;
    let own = usage(&hub, &bob, "by=llm").await;
    assert_eq!(rows(&own, "llm"), json!([["clerk", 1, 5]]));
    assert_eq!(rows(&usage(&hub, &bob, "by=llm&llm=clerk").await, "llm"), json!([["clerk", 1, 5]]));
    assert_eq!(rows(&usage(&hub, &bob, "by=llm&llm=deep-row").await, "llm"), json!([]));
    assert_eq!(rows(&usage(&hub, ADMIN, "by=llm").await, "llm"), json!([["deep-row", 1, 5]]));
    hub.stop().await;
}

#[actix_rt::test]
async fn mistakes_in_a_query_for_sums_are_told_in_words() {
    let hub = hub().await;
    for (query, text) in [
        ("by=model", "by: 'user', 'llm', 'token' or 'day'"),
        ("since=soon", "since: a date such as 2026-01-31, or a time before now such as 30d"),
        ("since=2026-02-30", "since: a date"),
        ("since=999999999999d", "since: a date"),
        ("until=", "until: a date"),
        ("since=2026-01-02&until=2026-01-01", "until: 2026-01-01 is before the first day, 2026-01-02"),
        ("limit=0", "limit: a number from 1 to 10000"),
    ] {
        let (status, answer) = hub.ask("GET", format!("/api/v1/usage?{query}")).json().await;
        assert_eq!((status, &answer["code"]), (400, &json!("invalid_request")), "{query}");
        assert!(answer["error"].as_str().unwrap().starts_with(text), "{query}: {answer}");
    }
    hub.stop().await;
}

/// A caller who leaves has stopped the call: it did not fail.
#[actix_rt::test]
async fn calls_whose_caller_left_are_cancelled_and_not_failed() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let stopped = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", true));
    let (answer, _) = publisher.begins(&hub, &stopped, "one").await;
    drop(answer);
    publisher.cancelled().await;
    let failing = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", false));
    publisher.post_for(&hub, &failing, &json!({ "error": "it broke" })).await;
    eventually("both are counted", async || usage(&hub, &bob, "").await["total"]["calls"] == 2).await;
    let total = &usage(&hub, &bob, "").await["total"];
    assert_eq!((&total["failures"], &total["cancelled"]), (&json!({ "upstream_error": 1 }), &json!(1)));
    let audit = hub.ask("GET", "/api/v1/audit?user=bob").json().await.1;
    assert_eq!(audit[1]["code"], "caller_left", "the audit keeps the code");
    hub.stop().await;
}

/// A27: who runs into which limit is in the sums. Refused calls are no calls there, and have no row in the audit.
#[actix_rt::test]
async fn calls_that_a_limit_refused_are_counted_by_user_and_limit() {
    let hub = hub().await;
    let bob = hub.member("bob").await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let limits = r#"{"requestsPerMinute":1}"#;
    assert_eq!(hub.ask("PATCH", "/api/v1/users/bob/limits").body(limits).send().await.0, 200);
    call(&hub, &mut publisher, &bob, "a", 5).await;
    for _ in 0..3 {
        let refused = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", false));
        assert_eq!(refused.send().await.0, 429);
    }
    let task = hub.ask_as(&bob, "POST", TASKS).body(r#"{"llm":"a","request":{"messages":[]}}"#);
    assert_eq!(task.send().await.0, 429);
    let refused = json!({ "requests_per_minute": 4 });
    for (token, query) in [(ADMIN, "by=user"), (ADMIN, "by=llm"), (&*bob, "by=token"), (&*bob, "by=day")] {
        let usage = usage(&hub, token, query).await;
        for row in [&usage["rows"][0], &usage["total"]] {
            let of = (&row["calls"], &row["failures"], &row["refused"]);
            assert_eq!(of, (&json!(1), &json!({}), &refused), "{query}: {usage}");
        }
    }
    assert_eq!(usage(&hub, ADMIN, "by=llm").await["rows"][0]["llm"], "a");
    let audit = hub.ask("GET", "/api/v1/audit").json().await.1;
    assert_eq!(audit.as_array().unwrap().len(), 1, "{audit}");
    // Whose LLM it is does not matter: the owner reads nothing of its callers' limits.
    assert_eq!(usage(&hub, ADMIN, "scope=owned").await["total"]["refused"], json!({}));
    hub.stop().await;
}
