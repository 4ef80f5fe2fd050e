//! Many waiting calls and durable tasks.

mod pool;
mod tasks;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, pooled, private, provider, report};
use super::road::infer;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub, hub_with};
use crate::store::ListCursor;

/// Sends a heartbeat that reports a capacity of `most` for each of the rows `names`.
async fn report_capacity(publisher: &Publisher, hub: &TestHub, names: &[&str], most: u32) {
    let provider = |name: &&str| report(name, "active", 0, most);
    let providers: Vec<Value> = names.iter().map(provider).collect();
    assert_eq!(publisher.beat(hub, json!({ "providers": providers })).await, 200);
}

fn with_text(ask: Ask, text: &str) -> Ask {
    ask.body(json!({ "messages": [{ "role": "user", "content": text }] }).to_string())
}

fn text_of(task: &Value) -> String {
    task["request"]["messages"][0]["content"].as_str().unwrap().to_owned()
}

async fn until_waiting(hub: &TestHub, count: usize) {
    eventually(&format!("{count} calls wait"), async || {
        let (_, list) = hub.ask("GET", TASKS).json().await;
        list.as_array().unwrap().iter().filter(|task| task["status"] == "pending").count() == count
    })
    .await;
}

#[actix_rt::test]
async fn freed_capacity_goes_to_users_in_turn_and_to_their_calls_in_order() {
    let hub = hub().await;
    let providers = [pooled("one", "pool"), pooled("two", "pool")];
    let mut publisher = Publisher::start(&hub, ADMIN, &providers, Some("cancel, status")).await;
    report_capacity(&publisher, &hub, &["one", "two"], 0).await;
    let users = [ADMIN.to_owned(), hub.member("alice").await, hub.member("bob").await];
    let mut callers = Vec::new();
    for number in 0..18 {
        // Two users call the pool, and every third call is for one of its rows.
        let path = match number % 3 {
            0 => "/api/v1/llms/one/infer",
            _ => "/api/v1/llms/pool/infer",
        };
        let ask = hub.ask_as(&users[number % 2], "POST", path).header("x-queue-timeout", "30");
        callers.push(Some(with_text(ask, &number.to_string()).begin().await));
        until_waiting(&hub, number + 1).await;
    }
    // Some callers disconnect.
    for number in [0, 7, 8, 17] {
        callers[number] = None;
    }
    until_waiting(&hub, 14).await;
    report_capacity(&publisher, &hub, &["one"], 1).await;
    let mut order = Vec::new();
    for _ in 0..14 {
        let task = publisher.task().await;
        assert_eq!(task["llmName"], "one", "a row without capacity got a task");
        order.push(text_of(&task).parse::<usize>().unwrap());
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    // The users take turns, and the calls of each are in order.
    assert_eq!(order, [2, 1, 4, 3, 6, 5, 10, 9, 12, 11, 14, 13, 16, 15]);
    hub.stop().await;
}

/// A27: a call waits for one call of each other user, however many calls of that user wait.
#[actix_rt::test]
async fn a_call_waits_for_only_one_call_of_a_busy_user() {
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    report_capacity(&publisher, &hub, &["a"], 0).await;
    let ask = |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/a/infer").header("x-queue-timeout", "30");
        with_text(ask, text)
    };
    let mut callers = Vec::new();
    for number in 0..40 {
        callers.push(ask(&mallory, "mallory").begin().await);
        until_waiting(&hub, number + 1).await;
    }
    for number in 0..2 {
        callers.push(ask(&bob, "bob").begin().await);
        until_waiting(&hub, 41 + number).await;
    }
    report_capacity(&publisher, &hub, &["a"], 1).await;
    for expected in ["mallory", "bob", "mallory", "bob", "mallory", "mallory"] {
        let task = publisher.task().await;
        assert_eq!(text_of(&task), expected);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn capacity_that_the_first_caller_cannot_use_goes_to_the_next() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let private = |name: &str| private(pooled(name, "pool"));
    let features = Some("cancel, status");
    let publics = Publisher::start(&hub, &alice, &[pooled("shown", "pool")], features).await;
    let mut own = Publisher::start(&hub, &alice, &[private("hidden")], features).await;
    report_capacity(&publics, &hub, &["shown"], 0).await;
    report_capacity(&own, &hub, &["hidden"], 0).await;
    let begin = async |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/pool/infer").header("x-queue-timeout", "30");
        with_text(ask, text).begin().await
    };
    let mut callers = Vec::new();
    for (number, (token, text)) in
        [(&bob, "bob"), (&bob, "bob again"), (&alice, "alice"), (&bob, "bob"), (&alice, "alice again")]
            .into_iter()
            .enumerate()
    {
        callers.push(begin(token, text).await);
        until_waiting(&hub, number + 1).await;
    }
    report_capacity(&own, &hub, &["hidden"], 1).await;
    for expected in ["alice", "alice again"] {
        let task = own.task().await;
        assert_eq!(text_of(&task), expected);
        own.answer(&hub, &task, "hello").await;
    }
    until_waiting(&hub, 3).await;
    hub.stop().await;
}

/// Capacity that is offered to a caller just when it disconnects goes to another caller, and in the end all capacity is
/// free.
#[actix_rt::test]
async fn no_capacity_is_lost_when_callers_disconnect() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    report_capacity(&publisher, &hub, &["a"], 2).await;
    for round in 0..10_u64 {
        let served = async {
            // Answers tasks until the one with the text "last".
            let mut count = 0;
            loop {
                let task = publisher.task().await;
                publisher.answer(&hub, &task, "hello").await;
                count += 1;
                if text_of(&task) == "last" {
                    return count;
                }
            }
        };
        let callers = async {
            let callers = (0..20_u64).map(|number| {
                let ask = infer(&hub, "a", false).header("x-queue-timeout", "30");
                let ask = with_text(ask, "one of many");
                async move {
                    let patience = Duration::from_micros(number * 700 + round * 130);
                    let _ = tokio::time::timeout(patience, ask.send()).await;
                }
            });
            join_all(callers).await;
            let last = with_text(infer(&hub, "a", false).header("x-queue-timeout", "9"), "last");
            assert_eq!(last.send().await.0, 200, "capacity was lost");
        };
        let (count, ()) = futures_util::join!(served, callers);
        assert!(count >= 1);
        eventually("all capacity is free", async || hub.core().registry.lock().in_flight("a") == 0).await;
    }
    hub.stop().await;
}
