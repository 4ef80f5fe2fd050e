//! Who comes next at a full LLM: users share it by tokens, and bulk calls are behind all others.

use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::http::Ask;
use super::publisher::{Publisher, pooled, provider, report};
use super::road::infer;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub};

/// A publisher of the row `a`, which runs one call at a time.
async fn publisher(hub: &TestHub) -> Publisher {
    let publisher = Publisher::start(hub, ADMIN, &[provider("a")], Some("status")).await;
    assert_eq!(publisher.beat(hub, json!({ "providers": [report("a", "active", 0, 1)] })).await, 200);
    publisher
}

/// A call of `user`, whose name is its text.
async fn call(hub: &TestHub, user: &str) -> Ask {
    let body = json!({ "model": "a", "messages": [{ "role": "user", "content": user }] });
    hub.ask_as(&hub.member(user).await, "POST", "/v1/chat/completions").body(body.to_string())
}

/// Waits until so many calls wait in the line.
pub(super) async fn until_waiting(hub: &TestHub, number: usize) {
    eventually("the calls wait", async || {
        let list = hub.ask("GET", TASKS).json().await.1;
        list.as_array().unwrap().iter().filter(|task| task["status"] == "pending").count() == number
    })
    .await;
}

/// Answers the next `number` tasks, those of `large` users with many tokens. Returns whose they were.
async fn answer_all(publisher: &mut Publisher, hub: &TestHub, number: usize, large: &str) -> Vec<String> {
    let mut users = Vec::new();
    for _ in 0..number {
        let task = publisher.task().await;
        let user = task["request"]["messages"][0]["content"].as_str().unwrap().to_owned();
        let output = if user == large { 5000 } else { 100 };
        // A backend's count is no greater than the bytes of its answer.
        let mut body = super::publisher::completion(&"x".repeat(output));
        body["usage"] = json!({ "prompt_tokens": 1, "completion_tokens": output });
        assert_eq!(publisher.post(hub, &task, &json!({ "status": 200, "body": body })).await, 200);
        users.push(user);
    }
    users
}

/// A27: a user whose answers are large gets fewer turns, and bulk calls run when no others wait.
#[actix_rt::test]
async fn a_full_llm_is_shared_by_tokens_and_bulk_calls_are_last() {
    let hub = hub().await;
    let mut publisher = publisher(&hub).await;
    let first = call(&hub, "first").await.begin().await;
    let running = publisher.task().await;
    let bulk = call(&hub, "batch").await.header("x-priority", "bulk");
    // They wait without being told how long.
    let mut callers = vec![bulk.begin().await, bulk.begin().await];
    until_waiting(&hub, 2).await;
    for (user, number) in [("greedy", 3), ("modest", 5)] {
        let waiting = call(&hub, user).await.header("x-queue-timeout", "60");
        for _ in 0..number {
            callers.push(waiting.begin().await);
        }
        until_waiting(&hub, callers.len()).await;
    }
    assert_eq!(publisher.answer(&hub, &running, "hi").await, 200);
    let users = answer_all(&mut publisher, &hub, callers.len(), "greedy").await;
    let order =
        ["greedy", "modest", "modest", "modest", "modest", "modest", "greedy", "greedy", "batch", "batch"];
    assert_eq!(users, order);
    drop((first, callers));
    hub.stop().await;
}

/// A27: a call whose caller leaves has been charged for its prompt, and gets nothing of that back.
#[actix_rt::test]
async fn a_caller_who_leaves_does_not_come_sooner_again() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status, cancel")).await;
    assert_eq!(publisher.beat(&hub, json!({ "providers": [report("a", "active", 0, 1)] })).await, 200);
    let first = call(&hub, "first").await.begin().await;
    let running = publisher.task().await;
    let text = "long ".repeat(1000);
    let long = call(&hub, "leaver").await.header("x-queue-timeout", "60");
    let body = json!({ "model": "a", "messages": [{ "role": "user", "content": text }] });
    let long = long.body(body.to_string());
    let leaves = long.begin().await;
    until_waiting(&hub, 1).await;
    let mut callers = vec![long.begin().await];
    until_waiting(&hub, 2).await;
    let modest = call(&hub, "modest").await.header("x-queue-timeout", "60");
    for number in 3..6 {
        callers.push(modest.begin().await);
        until_waiting(&hub, number).await;
    }
    publisher.answer(&hub, &running, "hi").await;
    assert_eq!(publisher.task().await["request"]["messages"][0]["content"], text);
    drop(leaves);
    publisher.cancelled().await;
    assert_eq!(answer_all(&mut publisher, &hub, 3, "").await, ["modest"; 3]);
    assert_eq!(publisher.task().await["request"]["messages"][0]["content"], text);
    drop((first, callers));
    hub.stop().await;
}

/// A bulk call takes a free slot at once, and is never sent to a full LLM.
#[actix_rt::test]
async fn a_bulk_call_takes_nothing_but_a_free_slot() {
    let hub = hub().await;
    let mut publisher = publisher(&hub).await;
    let bulk = call(&hub, "batch").await.header("x-priority", "bulk");
    publisher.serves(&hub, &bulk, "hi").await;
    let running = call(&hub, "person").await.begin().await;
    let task = publisher.task().await;
    let (status, error) = bulk.clone().header("x-queue-timeout", "0").json().await;
    assert_eq!((status, &error["error"]["code"]), (503, &json!("queue_full")));
    publisher.answer(&hub, &task, "hi").await;
    // The publisher got nothing in between.
    publisher.serves(&hub, &bulk, "hi").await;
    drop(running);
    hub.stop().await;
}

#[actix_rt::test]
async fn an_unknown_priority_is_refused_in_words() {
    let hub = hub().await;
    let mut publisher = publisher(&hub).await;
    let task = json!({ "llm": "a", "request": { "messages": [] } }).to_string();
    for ask in [
        call(&hub, "bob").await,
        hub.ask("POST", "/api/chat").body(r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#),
        hub.ask("POST", "/api/v1/llms/a/infer").body("{}"),
        hub.ask("POST", TASKS).body(task.clone()),
    ] {
        let (status, answer): (u16, Value) = ask.header("x-priority", "Bulk").json().await;
        let text = "x-priority is 'bulk', for a call behind all others, or 'normal'";
        assert!(status == 400 && answer.to_string().contains(text), "{status} {answer}");
    }
    for priority in ["bulk", "normal"] {
        assert_eq!(
            hub.ask("POST", TASKS).header("x-priority", priority).body(task.clone()).send().await.0,
            202
        );
        let task = publisher.task().await;
        publisher.answer(&hub, &task, "done").await;
    }
    hub.stop().await;
}

/// A call that failed at one member of a pool waits in line for another one, as a durable task does for a free slot.
#[actix_rt::test]
async fn a_further_try_takes_no_slot_before_its_turn() {
    let hub = hub().await;
    let mut classic = Publisher::start(&hub, ADMIN, &[pooled("b", "p")], None).await;
    let mut lined = Publisher::start(&hub, ADMIN, &[pooled("c", "p")], Some("status")).await;
    for is_durable in [false, true] {
        let reported = |busy| json!({ "providers": [report("c", "active", busy, 1)] });
        assert_eq!(lined.beat(&hub, reported(1)).await, 200);
        let caller = if is_durable {
            hub.enqueue(ADMIN, "p", false).await;
            None
        } else {
            Some(infer(&hub, "p", false).begin().await)
        };
        let task = classic.task().await;
        let full = json!({ "status": 429, "body": { "error": { "message": "full" } } });
        assert_eq!(classic.post(&hub, &task, &full).await, 200);
        if is_durable {
            // Longer than it takes to look for a slot.
            assert!(timeout(Duration::from_millis(600), lined.task()).await.is_err());
        } else {
            eventually("it waits", async || hub.core().capacity.has_waiter()).await;
            assert_eq!(lined.task().now_or_never(), None);
        }
        assert_eq!(lined.beat(&hub, reported(0)).await, 200);
        let task = lined.task().await;
        assert_eq!(lined.answer(&hub, &task, "hi").await, 200);
        drop(caller);
    }
    hub.stop().await;
}
