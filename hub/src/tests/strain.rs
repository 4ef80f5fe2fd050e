//! Many waiting callers and durable tasks.

mod pool;
mod tasks;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, pooled, provider};
use super::road::infer;
use super::support::{ADMIN, TASKS, TestHub, eventually, hub, hub_with};
use crate::store::ListCursor;

/// A provider that says how much it takes, and how much runs there.
async fn room(publisher: &Publisher, hub: &TestHub, names: &[&str], most: u32) {
    let provider = |name: &&str| json!({ "name": name, "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": most });
    let providers: Vec<Value> = names.iter().map(provider).collect();
    assert_eq!(publisher.beat(hub, json!({ "providers": providers })).await, 200);
}

fn saying(ask: Ask, text: &str) -> Ask {
    ask.body(json!({ "messages": [{ "role": "user", "content": text }] }).to_string())
}

fn said(task: &Value) -> String {
    task["request"]["messages"][0]["content"].as_str().unwrap().to_owned()
}

async fn waiting(hub: &TestHub, count: usize) {
    eventually(&format!("{count} wait"), async || {
        let (_, list) = hub.ask("GET", TASKS).json().await;
        list.as_array().unwrap().iter().filter(|task| task["status"] == "pending").count() == count
    })
    .await;
}

#[actix_rt::test]
async fn users_take_turns_at_freed_capacity_and_callers_are_in_order() {
    let hub = hub().await;
    let providers = [pooled("one", "pool"), pooled("two", "pool")];
    let mut publisher = Publisher::start(&hub, ADMIN, &providers, Some("cancel, status")).await;
    room(&publisher, &hub, &["one", "two"], 0).await;
    let users = [ADMIN.to_owned(), hub.member("alice").await, hub.member("bob").await];
    let mut callers = Vec::new();
    for number in 0..18 {
        // Of several users, for the pool and for one of its rows, that and the other endpoint.
        let path = match number % 3 {
            0 => "/api/v1/llms/one/infer",
            _ => "/api/v1/llms/pool/infer",
        };
        let ask = hub.ask_as(&users[number % 2], "POST", path).header("x-queue-timeout", "30");
        callers.push(Some(saying(ask, &number.to_string()).begin().await));
        waiting(&hub, number + 1).await;
    }
    // Some do not wait for their turn.
    for number in [0, 7, 8, 17] {
        callers[number] = None;
    }
    waiting(&hub, 14).await;
    room(&publisher, &hub, &["one"], 1).await;
    let mut order = Vec::new();
    for _ in 0..14 {
        let task = publisher.task().await;
        assert_eq!(task["llmName"], "one", "there is room on one only");
        order.push(said(&task).parse::<usize>().unwrap());
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    // One of the admin's came first of all; both have as many.
    assert_eq!(order, [2, 1, 4, 3, 6, 5, 10, 9, 12, 11, 14, 13, 16, 15]);
    hub.stop().await;
}

/// A27: however many calls of a user wait, a call of another user is next but one.
#[actix_rt::test]
async fn another_user_waits_for_one_call_of_a_busy_user() {
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel, status")).await;
    room(&publisher, &hub, &["a"], 0).await;
    let ask = |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/a/infer").header("x-queue-timeout", "30");
        saying(ask, text)
    };
    let mut callers = Vec::new();
    for number in 0..40 {
        callers.push(ask(&mallory, "mallory").begin().await);
        waiting(&hub, number + 1).await;
    }
    for number in 0..2 {
        callers.push(ask(&bob, "bob").begin().await);
        waiting(&hub, 41 + number).await;
    }
    room(&publisher, &hub, &["a"], 1).await;
    for expected in ["mallory", "bob", "mallory", "bob", "mallory", "mallory"] {
        let task = publisher.task().await;
        assert_eq!(said(&task), expected);
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    }
    hub.stop().await;
}

#[actix_rt::test]
async fn capacity_that_the_first_caller_cannot_use_goes_to_the_next() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let private = |name: &str| {
        let mut row = pooled(name, "pool");
        row["visibility"] = "private".into();
        row
    };
    let features = Some("cancel, status");
    let publics = Publisher::start(&hub, &alice, &[pooled("shown", "pool")], features).await;
    let mut own = Publisher::start(&hub, &alice, &[private("hidden")], features).await;
    room(&publics, &hub, &["shown"], 0).await;
    room(&own, &hub, &["hidden"], 0).await;
    let begin = async |token: &str, text: &str| {
        let ask = hub.ask_as(token, "POST", "/api/v1/llms/pool/infer").header("x-queue-timeout", "30");
        saying(ask, text).begin().await
    };
    let mut callers = Vec::new();
    for (number, (token, text)) in
        [(&bob, "bob"), (&bob, "bob again"), (&alice, "alice"), (&bob, "bob"), (&alice, "alice again")]
            .into_iter()
            .enumerate()
    {
        callers.push(begin(token, text).await);
        waiting(&hub, number + 1).await;
    }
    room(&own, &hub, &["hidden"], 1).await;
    for expected in ["alice", "alice again"] {
        let task = own.task().await;
        assert_eq!(said(&task), expected);
        own.answer(&hub, &task, "hello").await;
    }
    waiting(&hub, 3).await;
    hub.stop().await;
}

/// Callers come, wait and leave at any time, also when capacity is offered to them; free capacity always goes to a
/// waiting caller, and in the end all of it is free.
#[actix_rt::test]
async fn no_capacity_is_lost_with_a_caller_that_leaves() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("status")).await;
    room(&publisher, &hub, &["a"], 2).await;
    for round in 0..10_u64 {
        let served = async {
            // As long as somebody is served, somebody answers.
            let mut count = 0;
            loop {
                let task = publisher.task().await;
                publisher.answer(&hub, &task, "hello").await;
                count += 1;
                if said(&task) == "last" {
                    return count;
                }
            }
        };
        let callers = async {
            let callers = (0..20_u64).map(|number| {
                let ask = infer(&hub, "a", false).header("x-queue-timeout", "30");
                let ask = saying(ask, "one of many");
                async move {
                    let patience = Duration::from_micros(number * 700 + round * 130);
                    let _ = tokio::time::timeout(patience, ask.send()).await;
                }
            });
            join_all(callers).await;
            let last = saying(infer(&hub, "a", false).header("x-queue-timeout", "9"), "last");
            assert_eq!(last.send().await.0, 200, "a place was lost");
        };
        let (count, ()) = futures_util::join!(served, callers);
        assert!(count >= 1);
        eventually("all places are free", async || hub.core().registry.lock().in_flight("a") == 0).await;
    }
    hub.stop().await;
}
