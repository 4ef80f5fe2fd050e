//! Tokens a day.

use std::sync::Arc;

use super::*;
use crate::store::SqliteStore;
use crate::tests::support::hub_on;

/// Tokens of one answer of the scripted publisher.
const ANSWER: u64 = 8;

async fn today(hub: &TestHub, user: &str) -> Value {
    hub.ask("GET", format!("/api/v1/users/{user}")).json().await.1["tokensToday"].clone()
}

/// F66: a budget counts what was used before it was set and before a restart, to the token.
#[actix_rt::test]
async fn a_budget_survives_a_restart_and_counts_from_the_beginning_of_the_day() {
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    let hub = hub_on(store.clone()).await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], None).await;
    let (bob, id) = limited(&hub, "bob", &json!({})).await;
    let (other, _) = limited(&hub, "bob", &json!({})).await;
    for token in [&bob, &bob, &other] {
        publisher.serves(&hub, &chat(&hub, token, "a"), "hi").await;
    }
    set_user(&hub, "bob", &json!({ "tokensPerDay": 4 * ANSWER })).await;
    let (status, token) =
        hub.ask("PATCH", format!("/api/v1/tokens/{id}/limits")).body(r#"{"tokensPerDay":1000}"#).json().await;
    assert_eq!(
        (status, &token["tokensToday"], today(&hub, "bob").await),
        (200, &json!(2 * ANSWER), json!(3 * ANSWER))
    );
    publisher.serves(&hub, &chat(&hub, &bob, "a"), "hi").await;
    let session = publisher.session.clone();
    hub.stop().await;

    let hub = hub_on(store).await;
    assert_eq!(today(&hub, "bob").await, json!(4 * ANSWER));
    let token = token_view(&hub, &id).await;
    assert_eq!(token["tokensToday"], json!(3 * ANSWER));
    let refused = chat(&hub, &bob, "a").open().await;
    assert_eq!((refused.status, header(&refused.head, "x-ratelimit-remaining-tokens")), (429, Some("0")));
    // The official SDKs do not try again today.
    assert_eq!(header(&refused.head, "x-should-retry"), Some("false"));
    let seconds: u32 = header(&refused.head, "retry-after").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&seconds), "{seconds}");
    let text = refused.json().await.1["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with("an admin allows you no more than 32 tokens a day, and today's are used up (32): "),
        "{text}"
    );
    assert_eq!(hub.ask_as(&other, "POST", TASKS).body(WAYS.last().unwrap().1).send().await.0, 429);
    // A higher budget holds at once.
    set_user(&hub, "bob", &json!({ "tokensPerDay": 5 * ANSWER })).await;
    let mut publisher = Publisher::register(&hub, ADMIN, Some(&session), &[provider("a")]).await;
    publisher.open(&hub, None).await;
    publisher.serves(&hub, &chat(&hub, &bob, "a"), "hi").await;
    assert_eq!(chat(&hub, &bob, "a").send().await.0, 429);
    hub.stop().await;
}

/// Streams and durable tasks count too, and calls under way are not cut off.
#[actix_rt::test]
async fn streams_and_durable_tasks_count_when_they_end() {
    let hub = hub().await;
    let mut publisher = Publisher::start(&hub, ADMIN, &[provider("a")], Some("cancel")).await;
    let (bob, _) = limited(&hub, "bob", &json!({})).await;
    set_user(&hub, "bob", &json!({ "tokensPerDay": 10 })).await;
    let call = hub.ask_as(&bob, "POST", "/v1/chat/completions");
    let call = call.body(r#"{"model":"a","messages":[],"stream":true}"#);
    let (first, task) = publisher.begins(&hub, &call, "one").await;
    let (second, other) = publisher.begins(&hub, &call, "one").await;
    let id = hub.enqueue(&bob, "a", false).await;
    let durable = publisher.task().await;
    publisher.answer(&hub, &durable, "hi").await;
    hub.until_task(&json!({ "id": id }), "status", "completed").await;
    assert_eq!(today(&hub, "bob").await, json!(ANSWER));
    let usage = json!({ "choices": [], "usage": { "prompt_tokens": 5, "completion_tokens": 6 } });
    publisher.post(&hub, &task, &json!({ "chunk": { "data": usage.to_string() } })).await;
    publisher.done(&hub, &task).await;
    first.text().await;
    assert_eq!(today(&hub, "bob").await, json!(ANSWER + 11));
    // The budget is used up, and this stream goes on.
    assert_eq!(call.send().await.0, 429);
    publisher.chunk(&hub, &other, "two").await;
    publisher.done(&hub, &other).await;
    assert!(second.text().await.1.contains("two"));
    assert_eq!(today(&hub, "bob").await, json!(ANSWER + 11 + 2));

    // A publisher cannot use up a budget with what it reports.
    set_user(&hub, "bob", &json!({ "tokensPerDay": 1_000_000 })).await;
    let used = today(&hub, "bob").await.as_u64().unwrap();
    let (lied, task) = publisher.begins(&hub, &call, "one").await;
    let usage =
        json!({ "choices": [], "usage": { "prompt_tokens": 1_u64 << 40, "completion_tokens": 1_u64 << 40 } });
    publisher.post(&hub, &task, &json!({ "chunk": { "data": usage.to_string() } })).await;
    publisher.done(&hub, &task).await;
    lied.text().await;
    let seen = today(&hub, "bob").await.as_u64().unwrap() - used;
    assert!((16_384..16_384 + 1000).contains(&seen), "{seen}");
    hub.stop().await;
}
