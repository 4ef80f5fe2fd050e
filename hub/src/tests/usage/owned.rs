//! What an owner sees of the calls of others to its LLMs: sums, and those that failed.

use serde_json::{Value, json};

use super::super::publisher::{Publisher, completion, pooled, private, provider};
use super::super::road::chat;
use super::super::support::{ADMIN, TASKS, TestHub, hub};
use super::eventually;

async fn get(hub: &TestHub, token: &str, path: &str) -> (u16, Value) {
    hub.ask_as(token, "GET", path).json().await
}

/// User, or LLM, with calls, failures and tokens of the answers.
async fn owned(hub: &TestHub, token: &str, query: &str) -> Value {
    let (status, usage) = get(hub, token, &format!("/api/v1/usage?scope=owned&{query}")).await;
    assert_eq!((status, &usage["scope"]), (200, &json!("owned")), "{usage}");
    let name = usage["by"].as_str().unwrap();
    let row = |row: &Value| json!([row[name], row["calls"], row["failures"], row["outputTokens"]]);
    usage["rows"].as_array().unwrap().iter().map(row).collect()
}

/// User, LLM, code and text of the failed calls of the caller's LLMs.
async fn failed(hub: &TestHub, token: &str) -> Value {
    let (status, tasks) = get(hub, token, &format!("{TASKS}?scope=owned")).await;
    assert_eq!(status, 200, "{tasks}");
    let row = |task: &Value| json!(["ownerId", "llmName", "code", "error"].map(|key| &task[key]));
    tasks.as_array().unwrap().iter().map(row).collect()
}

/// Calls `model`; the publisher posts `result`.
async fn call(hub: &TestHub, publisher: &mut Publisher, token: &str, model: &str, result: &Value) {
    let ask = hub.ask_as(token, "POST", "/v1/chat/completions").body(chat(model, false));
    publisher.post_for(hub, &ask, result).await;
}

fn answer() -> Value {
    json!({ "status": 200, "body": completion("hi") })
}

/// A34: an owner reads who used its LLMs and how much, of no other LLM, and not with which token.
#[actix_rt::test]
async fn an_owner_reads_the_sums_of_calls_to_its_llms() {
    let hub = hub().await;
    let [alice, bob, carol] = [hub.member("alice").await, hub.member("bob").await, hub.member("carol").await];
    let mut alices = Publisher::start(&hub, &alice, &[provider("a"), private(provider("b"))], None).await;
    let mut carols = Publisher::start(&hub, &carol, &[provider("c")], None).await;
    hub.create_agent(&alice, &json!({ "name": "clerk", "llmName": "b", "visibility": "public" })).await;
    call(&hub, &mut alices, &bob, "a", &answer()).await;
    call(&hub, &mut alices, &bob, "a", &json!({ "error": "it broke" })).await;
    call(&hub, &mut alices, &bob, "clerk", &answer()).await;
    call(&hub, &mut alices, &alice, "a", &answer()).await;
    call(&hub, &mut carols, &bob, "c", &answer()).await;
    let none = json!({});
    let by_user = json!([["bob", 3, { "upstream_error": 1 }, 10], ["alice", 1, none, 5]]);
    assert_eq!(owned(&hub, &alice, "").await, by_user);
    assert_eq!(
        owned(&hub, &alice, "by=llm&user=bob").await,
        json!([["a", 2, { "upstream_error": 1 }, 5], ["b", 1, none, 5]])
    );
    assert_eq!(owned(&hub, &alice, "llm=b").await, json!([["bob", 1, none, 5]]));
    assert_eq!(owned(&hub, &alice, "by=day").await[0][1], 4);
    assert_eq!(owned(&hub, &carol, "").await, json!([["bob", 1, none, 5]]));
    for token in [&bob, ADMIN] {
        assert_eq!(owned(&hub, token, "").await, json!([]));
    }
    for (path, text) in [
        ("/api/v1/usage?scope=owned&by=token", "by: 'user', 'llm' or 'day' with scope=owned"),
        ("/api/v1/usage?scope=all", "scope: 'owned', or left out"),
        ("/api/v1/inference-tasks?scope=all", "scope: 'owned', or left out"),
    ] {
        let (status, answer) = get(&hub, &alice, path).await;
        assert_eq!((status, &answer["error"]), (400, &json!(text)), "{path}");
    }
    hub.stop().await;
}

/// A34, A37: an owner reads of failed calls of others who called and why it failed, also by the id of the dispatch; of calls that
/// succeeded or whose caller left, and of calls of other LLMs, nothing. It cannot delete them.
#[actix_rt::test]
async fn an_owner_reads_why_calls_to_its_llms_failed() {
    let hub = hub().await;
    let [alice, bob, carol] = [hub.member("alice").await, hub.member("bob").await, hub.member("carol").await];
    let mut alices = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    let mut carols = Publisher::start(&hub, &carol, &[provider("c")], None).await;
    call(&hub, &mut alices, &bob, "a", &answer()).await;
    call(&hub, &mut alices, &bob, "a", &json!({ "error": "it broke" })).await;
    call(&hub, &mut carols, &bob, "c", &json!({ "error": "it broke, too" })).await;
    let left = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", true));
    let (left, _) = alices.begins(&hub, &left, "one").await;
    drop(left);
    alices.cancelled().await;
    let of_a = json!([["bob", "a", "upstream_error", "it broke"]]);
    assert_eq!(failed(&hub, &alice).await, of_a);
    assert_eq!(failed(&hub, &carol).await, json!([["bob", "c", "upstream_error", "it broke, too"]]));
    for token in [&bob, ADMIN] {
        assert_eq!(failed(&hub, token).await, json!([]));
    }
    let audit = eventually_audited(&hub, 4).await;
    for row in audit.as_array().unwrap() {
        let is_shown = row["llm"] == "a" && row["code"] == "upstream_error";
        for id in ["id", "task"].map(|key| row[key].as_str().unwrap()) {
            let path = format!("{TASKS}/{id}");
            let (status, task) = get(&hub, &alice, &path).await;
            assert_eq!(status, if is_shown { 200 } else { 404 }, "{row}: {task}");
            if is_shown {
                let of = json!(["ownerId", "llm", "status", "code", "error"].map(|key| &task[key]));
                assert_eq!(of, json!(["bob", "a", "error", "upstream_error", "it broke"]));
                assert!(!task.to_string().contains(row["requestId"].as_str().unwrap()), "{task}");
            }
            for method in ["DELETE", "GET"] {
                let path = if method == "GET" { format!("{path}/stream") } else { path.clone() };
                assert_eq!(hub.ask_as(&alice, method, path).send().await.0, 404);
            }
        }
        // The id of the request is its caller's.
        let path = format!("{TASKS}/{}", row["requestId"].as_str().unwrap());
        assert_eq!(get(&hub, &alice, &path).await.0, 404);
    }
    hub.stop().await;
}

/// The audit, as soon as it has so many rows.
async fn eventually_audited(hub: &TestHub, count: usize) -> Value {
    let audit = async || get(hub, ADMIN, "/api/v1/audit").await.1;
    eventually("all calls are audited", async || audit().await.as_array().unwrap().len() == count).await;
    audit().await
}

/// A34: an owner reads why a durable task of another user failed at its LLM, and neither its request nor its result.
#[actix_rt::test]
async fn an_owner_reads_no_request_of_a_durable_task_that_failed() {
    let hub = hub().await;
    let [alice, bob] = [hub.member("alice").await, hub.member("bob").await];
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], None).await;
    let body = json!({ "llm": "a", "request": { "messages": [{ "role": "user", "content": "canary" }] } });
    let (_, made) = hub.ask_as(&bob, "POST", TASKS).body(body.to_string()).json().await;
    let path = format!("{TASKS}/{}", made["id"].as_str().unwrap());
    let task = publisher.task().await;
    assert_eq!(get(&hub, &alice, &path).await.0, 404, "it runs");
    let failure =
        json!({ "status": 400, "body": { "error": { "message": "no such tool" }, "echo": "canary" } });
    assert_eq!(publisher.post(&hub, &task, &failure).await, 200);
    hub.until_task(&made, "status", "error").await;
    eventually("it is audited", async || get(&hub, &alice, &path).await.0 == 200).await;
    let (_, seen) = get(&hub, &alice, &path).await;
    let of = json!(["ownerId", "durable", "code", "error"].map(|key| &seen[key]));
    assert_eq!(of, json!(["bob", true, "backend_error", "no such tool"]));
    assert!(!seen.to_string().contains("canary"), "{seen}");
    assert!(get(&hub, &bob, &path).await.1.to_string().contains("canary"), "its own result");
    hub.stop().await;
}

/// A34: a call that failed at LLMs of several owners is the last one's: the others read nothing of it.
#[actix_rt::test]
async fn a_call_that_failed_over_is_seen_by_the_owner_of_the_last_llm() {
    let hub = hub().await;
    let [alice, bob, carol] = [hub.member("alice").await, hub.member("bob").await, hub.member("carol").await];
    let mut first = Publisher::start(&hub, &alice, &[pooled("a", "lake")], None).await;
    let mut second = Publisher::start(&hub, &bob, &[pooled("b", "lake")], None).await;
    let ask = hub.ask_as(&carol, "POST", "/v1/chat/completions").body(chat("lake", false));
    let failing = async |publisher: &mut Publisher| {
        let task = publisher.task().await;
        let row = task["llmName"].as_str().unwrap().to_owned();
        let error = json!({ "error": format!("'{row}' broke") });
        assert_eq!(publisher.post(&hub, &task, &error).await, 200);
        (tokio::time::Instant::now(), row)
    };
    let (sent, a, b) = futures_util::join!(ask.send(), failing(&mut first), failing(&mut second));
    assert_eq!(sent.0, 502);
    let row = if a.0 > b.0 { a.1 } else { b.1 };
    let (last, other) = if row == "a" { (&alice, &bob) } else { (&bob, &alice) };
    assert_eq!(failed(&hub, last).await, json!([["carol", row, "upstream_error", format!("'{row}' broke")]]));
    assert_eq!(owned(&hub, last, "").await, json!([["carol", 1, { "upstream_error": 1 }, 0]]));
    assert_eq!((failed(&hub, other).await, owned(&hub, other, "").await), (json!([]), json!([])));
    hub.stop().await;
}

/// A call that no row got is that of the owner of the name that was called.
#[actix_rt::test]
async fn calls_to_an_llm_that_is_away_are_seen_by_its_owner() {
    let hub = hub().await;
    let [alice, bob] = [hub.member("alice").await, hub.member("bob").await];
    drop(Publisher::start(&hub, &alice, &[provider("a")], None).await);
    hub.until_status("a", "inactive").await;
    let ask = hub.ask_as(&bob, "POST", "/v1/chat/completions").body(chat("a", false));
    assert_eq!(ask.send().await.0, 503);
    assert_eq!(
        failed(&hub, &alice).await[0].as_array().unwrap()[..3],
        [json!("bob"), json!("a"), json!("publisher_away")]
    );
    assert_eq!(owned(&hub, &alice, "").await, json!([["bob", 1, { "publisher_away": 1 }, 0]]));
    hub.stop().await;
}
