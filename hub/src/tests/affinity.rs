//! A pool's calls of one conversation go to one member, and who sees how much of its prompts was cached.

use futures_util::future::select_all;
use serde_json::{Value, json};

use super::http::Ask;
use super::publisher::{Publisher, completion, pooled, private, report};
use super::support::{ADMIN, TestHub, eventually, hub};

const STATUS: &str = "cancel, status";
const KIB: usize = 1 << 10;

/// Two members of the pool `lake` with room for two tasks each.
async fn lake(hub: &TestHub, token: &str) -> Vec<Publisher> {
    let mut publishers = Vec::new();
    for name in ["first", "second"] {
        let publisher = Publisher::start(hub, token, &[pooled(name, "lake")], Some(STATUS)).await;
        beat(hub, &publisher, name, 0).await;
        publishers.push(publisher);
    }
    publishers
}

async fn beat(hub: &TestHub, publisher: &Publisher, name: &str, busy: u32) {
    let status = json!({ "providers": [report(name, "active", busy, 2)] });
    assert_eq!(publisher.beat(hub, status).await, 200);
}

fn chat(extra: &Value, first: &str, turn: usize) -> String {
    let mut messages = vec![json!({ "role": "user", "content": first })];
    for turn in 0..turn {
        messages.push(json!({ "content": format!("answer {turn}"), "role": "assistant" }));
        messages.push(json!({ "role": "user", "content": format!("question {turn}") }));
    }
    let mut body = json!({ "model": "lake", "messages": messages });
    for (key, value) in extra.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    body.to_string()
}

/// Sends a call and answers it with `usage`. Returns the row that got it.
async fn served(hub: &TestHub, call: &Ask, publishers: &mut [Publisher], usage: &Value) -> String {
    let tasks = publishers.iter_mut().map(|publisher| {
        Box::pin(async move {
            let task = publisher.task().await;
            let mut body = completion("hello");
            body["usage"] = usage.clone();
            assert_eq!(publisher.post(hub, &task, &json!({ "status": 200, "body": body })).await, 200);
            task["llmName"].as_str().unwrap().to_owned()
        })
    });
    let ((status, answer), (row, ..)) = futures_util::join!(call.send(), select_all(tasks));
    assert_eq!(status, 200, "{answer}");
    row
}

async fn row_of(hub: &TestHub, call: &Ask, publishers: &mut [Publisher]) -> String {
    served(hub, call, publishers, &Value::Null).await
}

fn call_of(hub: &TestHub, token: &str, name: &str, turn: usize) -> Ask {
    let ask = hub.ask_as(token, "POST", "/v1/chat/completions");
    ask.header("x-session-id", name).body(chat(&json!({}), "hi", turn))
}

/// Every way to name a conversation, and its prompt without a name, keeps it on one row; others are spread.
#[actix_rt::test]
async fn the_turns_of_a_conversation_go_to_one_row() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = lake(&hub, &alice).await;
    let mut rows = Vec::new();
    let headers =
        ["x-session-affinity", "x-session-id", "session-id", "thread-id", "x-claude-code-session-id"];
    let long = "long ".repeat(KIB);
    for number in 0..9 {
        let name = format!("name-{number}");
        let members = [
            json!({ "prompt_cache_key": name }),
            json!({ "metadata": { "user_id": name } }),
            json!({ "conversation": { "id": name } }),
        ];
        let first = if number == 8 { long.as_str() } else { "hi" };
        let mut own = Vec::new();
        for turn in 0..4 {
            let mut ask = hub.ask_as(&alice, "POST", "/v1/chat/completions");
            if let Some(header) = headers.get(number) {
                ask = ask.header(header, name.as_str());
            }
            let extra = number.checked_sub(headers.len()).and_then(|member| members.get(member));
            let body = chat(extra.unwrap_or(&json!({})), first, turn);
            own.push(row_of(&hub, &ask.body(body), &mut publishers).await);
        }
        own.dedup();
        assert_eq!(own.len(), 1, "conversation {number}: {own:?}");
        rows.extend(own);
    }
    assert!(["first", "second"].iter().all(|name| rows.iter().any(|row| row == name)), "{rows:?}");
    hub.stop().await;
}

/// A response's id leads the call that continues it to the row that has it.
#[actix_rt::test]
async fn a_call_that_continues_a_response_goes_to_its_row() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = Vec::new();
    for name in ["first", "second"] {
        publishers.push(Publisher::start(&hub, &alice, &[pooled(name, "lake")], Some("endpoints")).await);
    }
    let mut rows = Vec::new();
    for turn in 0..6 {
        let mut body = json!({ "model": "lake", "input": "hi" });
        if turn > 0 {
            body["previous_response_id"] = format!("resp-{}", turn - 1).into();
        }
        let call = hub.ask_as(&alice, "POST", "/v1/responses").body(body.to_string());
        let tasks = publishers.iter_mut().map(|publisher| {
            Box::pin(async {
                let task = publisher.task().await;
                let body = json!({ "id": format!("resp-{turn}"), "object": "response", "output": [] });
                publisher.post(&hub, &task, &json!({ "status": 200, "body": body })).await;
                task["llmName"].as_str().unwrap().to_owned()
            })
        });
        let ((status, answer), (row, ..)) = futures_util::join!(call.send(), select_all(tasks));
        assert_eq!(status, 200, "{answer}");
        rows.push(row);
    }
    rows.dedup();
    assert_eq!(rows.len(), 1, "{rows:?}");
    hub.stop().await;
}

/// Short prompts without a name go to each row in turn, as before.
#[actix_rt::test]
async fn short_prompts_without_a_name_are_spread() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = lake(&hub, &alice).await;
    let ask = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(chat(&json!({}), "hi", 0));
    let mut rows = Vec::new();
    for _ in 0..4 {
        rows.push(row_of(&hub, &ask, &mut publishers).await);
    }
    assert!(rows[0] != rows[1] && rows[..2] == rows[2..], "{rows:?}");
    hub.stop().await;
}

/// F78: a conversation whose row is away goes to another row, once.
#[actix_rt::test]
async fn a_conversation_moves_when_its_row_is_away() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = lake(&hub, &alice).await;
    let own = row_of(&hub, &call_of(&hub, &alice, "x", 0), &mut publishers).await;
    let mut at = usize::from(own == "second");
    publishers[at].close();
    hub.drop_channel(&publishers[at].session);
    at = 1 - at;
    for turn in 1..4 {
        let row = row_of(&hub, &call_of(&hub, &alice, "x", turn), &mut publishers[at..=at]).await;
        assert_ne!(row, own);
    }
    let gone = 1 - at;
    publishers[gone].open(&hub, Some(STATUS)).await;
    beat(&hub, &publishers[gone], &own, 0).await;
    hub.until_status(&own, "active").await;
    let row = row_of(&hub, &call_of(&hub, &alice, "x", 4), &mut publishers).await;
    assert_ne!(row, own, "it moved twice");
    hub.stop().await;
}

/// A call does not wait for its conversation's row, not even one with a queue timeout.
#[actix_rt::test]
async fn a_call_whose_row_is_full_goes_to_another_row_at_once() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = lake(&hub, &alice).await;
    let own = row_of(&hub, &call_of(&hub, &alice, "x", 0), &mut publishers).await;
    let at = usize::from(own == "second");
    let other = ["second", "first"][at];
    beat(&hub, &publishers[at], &own, 2).await;
    let call = call_of(&hub, &alice, "x", 1).header("x-queue-timeout", "5");
    assert_eq!(row_of(&hub, &call, &mut publishers).await, other);
    // With both full it waits, and takes what becomes free first.
    beat(&hub, &publishers[1 - at], other, 2).await;
    let ((status, _), task) = futures_util::join!(call.send(), async {
        eventually("it waits", async || hub.core().capacity.has_waiter()).await;
        beat(&hub, &publishers[1 - at], other, 0).await;
        let publisher = &mut publishers[1 - at];
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
        task
    });
    assert_eq!((status, task["llmName"].as_str()), (200, Some(other)));
    beat(&hub, &publishers[at], &own, 0).await;
    assert_eq!(row_of(&hub, &call, &mut publishers).await, own, "it did not return");
    hub.stop().await;
}

/// A34: the hit rate is shown with the row, to who sees it; the counts to its owner and admins.
#[actix_rt::test]
async fn hit_rates_are_shown_to_who_sees_the_row() {
    let hub = hub().await;
    let (alice, bob) = (hub.member("alice").await, hub.member("bob").await);
    let mut publishers = lake(&hub, &alice).await;
    let hidden = private(pooled("third", "lake"));
    let third = Publisher::start(&hub, &alice, &[hidden], Some(STATUS)).await;
    let usage = |prompt: u32, cached: u32| {
        json!({ "prompt_tokens": prompt, "completion_tokens": 5,
            "prompt_tokens_details": { "cached_tokens": cached } })
    };
    let ask = |name: &str| {
        let body = chat(&json!({ "model": name }), "hi", 0);
        hub.ask_as(&alice, "POST", "/v1/chat/completions").body(body)
    };
    served(&hub, &ask("first"), &mut publishers[..1], &usage(1000, 987)).await;
    served(&hub, &ask("second"), &mut publishers[1..], &usage(1000, 0)).await;
    served(&hub, &ask("third"), &mut [third], &usage(2000, 2000)).await;
    // An answer without counts of a cache changes nothing.
    served(&hub, &ask("first"), &mut publishers[..1], &json!({ "prompt_tokens": 500 })).await;

    let get = async |token: &str, path: &str| hub.ask_as(token, "GET", path).json().await.1;
    for (token, counts) in [(alice.as_str(), true), (ADMIN, true), (bob.as_str(), false)] {
        let row = get(token, "/api/v1/llms/first").await;
        assert_eq!(row["cacheHitPercent"], 98, "{row}");
        let shown = [&row["promptTokens"], &row["cachedTokens"]];
        assert_eq!(shown.map(Value::as_u64), if counts { [Some(1000), Some(987)] } else { [None, None] });
        let pool = get(token, "/api/v1/llms/lake/members").await;
        // 2,987 of 4,000 with the private row, else 987 of 2,000.
        assert_eq!(pool["cacheHitPercent"], if counts { 74 } else { 49 }, "{pool}");
        assert_eq!(pool["members"][0]["cacheHitPercent"], 98);
        let metrics = hub.ask_as(token, "GET", "/metrics").send().await.1;
        assert!(metrics.contains("llm_cache_hit_ratio{llm=\"first\",pool=\"lake\"} 0.98\n"), "{metrics}");
        assert_eq!(metrics.contains("third"), counts, "{metrics}");
        assert_eq!(metrics.contains("cached_tokens_total{llm=\"first\",pool=\"lake\"} 987\n"), counts);
        assert!(metrics.contains(&format!(
            "pool_cache_hit_ratio{{pool=\"lake\"}} 0.{}\n",
            if counts { 74 } else { 49 }
        )));
    }
    assert_eq!(hub.ask_as(&bob, "GET", "/api/v1/llms/third").send().await.0, 404);
    hub.stop().await;
}

/// The counts of a stream are read from its last events: `usage`, or llama.cpp's `timings`.
#[actix_rt::test]
async fn cached_tokens_of_a_stream_are_counted() {
    let hub = hub().await;
    let alice = hub.member("alice").await;
    let mut publishers = lake(&hub, &alice).await;
    let publisher = &mut publishers[0];
    for last in [
        json!({ "choices": [], "usage": { "prompt_tokens": 100, "prompt_tokens_details": { "cached_tokens": 90 } } }),
        json!({ "choices": [], "timings": { "cache_n": 70, "prompt_n": 30, "prompt_ms": 1.5 } }),
    ] {
        let body = chat(&json!({ "model": "first", "stream": true }), "hi", 0);
        let call = hub.ask_as(&alice, "POST", "/v1/chat/completions").body(body);
        let (mut answer, task) = publisher.begins(&hub, &call, "hello").await;
        let chunk = json!({ "chunk": { "data": last.to_string() } });
        assert_eq!(publisher.post(&hub, &task, &chunk).await, 200);
        assert_eq!(publisher.done(&hub, &task).await, 200);
        answer.until("[DONE]").await;
    }
    eventually("both are counted", async || {
        let row = hub.row("first").await;
        (row["promptTokens"].as_u64(), row["cachedTokens"].as_u64()) == (Some(200), Some(160))
    })
    .await;
    hub.stop().await;
}
