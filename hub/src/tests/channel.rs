//! What a control channel says when there is nothing to say, and who has it when there is much.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

/// F82, F83: a channel forbids proxies to buffer it, and is never idle for long.
#[actix_rt::test]
async fn a_channel_forbids_buffering_and_pings() {
    let hub = hub_with(|options| options.timings.ping_interval = Duration::from_millis(20)).await;
    let publisher = Publisher::register(&hub, ADMIN, None, &[provider("a")]).await;
    let ask = hub.ask("GET", "/api/v1/llms/_provider-stream");
    let mut channel = ask.header("x-mcpctl-provider-session", &publisher.session).open().await;
    assert!(channel.head.contains("x-accel-buffering: no\r\n"), "{}", channel.head);
    assert!(channel.head.contains("cache-control: no-cache, no-transform\r\n"), "{}", channel.head);
    channel.until("event: hello").await;
    for _ in 0..3 {
        assert_eq!(channel.until(": ping").await, ": ping\n\n");
    }
    drop(channel);
    hub.stop().await;
}

/// F83: the pings of a hub that nobody configured come well within a proxy's usual 60 s, and our own.
#[test]
fn pings_come_at_least_three_times_before_anybody_calls_it_silence() {
    let pings = crate::options::HubTimings::default().ping_interval;
    assert!(pings * 3 <= Duration::from_mins(1));
}

async fn under_way(hub: &TestHub, count: usize) {
    eventually(&format!("{count} are under way"), async || hub.core().dispatches.lock().len() == count).await;
}

/// A27: tasks whose callers have left take no time of a channel that is read slowly: they are not written, and of the one
/// that had begun nothing more. Who knows nothing of a task is not told that it is cancelled.
#[actix_rt::test]
async fn large_tasks_whose_callers_have_left_keep_nobody_waiting() {
    const LARGE: usize = 20 << 20;
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let rows = [provider("a"), provider("b")];
    let mut publisher = Publisher::start(&hub, &alice, &rows, Some("cancel")).await;
    let ask = |token: &str, model: &str, text: String| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": text }] });
        hub.ask_as(token, "POST", "/v1/chat/completions").body(body.to_string())
    };
    let large = ask(&mallory, "a", "x".repeat(LARGE));
    let mut calls = Vec::new();
    for count in 1..=2 {
        calls.push(large.begin().await);
        under_way(&hub, count).await;
    }
    calls.clear();
    under_way(&hub, 0).await;
    let call = ask(&bob, "b", "hello".into());
    let (answer, ()) = futures_util::join!(call.send(), async {
        let cut = publisher.event().await.unwrap();
        assert_eq!(cut.name(), "task");
        assert!(cut.data.len() < LARGE && serde_json::from_str::<Value>(&cut.data).is_err());
        let task = publisher.task().await;
        assert_eq!(task["llmName"], "b");
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}

/// A27: tasks of one caller's that a publisher does not read fill a share of its channel, and are no reason to call it
/// away; another caller's go on, before what is not begun of them.
#[actix_rt::test]
async fn a_caller_fills_a_share_of_a_channel_and_others_are_served() {
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    // Seven more fill its share to the last byte.
    let mut large = vec![b' '; (16 << 20) - 2];
    large[0] = b':';
    large.extend_from_slice(b"\n\n");
    let large = Bytes::from(large);
    let send = || hub.core().channels.send(&publisher.session, "mallory", large.clone().into());
    assert!((1..20).contains(&(0..20).take_while(|_| send().is_ok()).count()));
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let mut words = (200, Value::Null);
    // What is small may fit yet.
    eventually("its share is full", async || {
        let _ = send();
        let call = ask(&mallory);
        let answer = tokio::time::timeout(Duration::from_millis(100), call.json()).await;
        answer.map(|answer| words = answer).is_ok()
    })
    .await;
    assert_eq!((words.0, &words.1["error"]["code"]), (503, &json!("hub_busy")));
    let text = "the publisher has not read your other requests yet, try again later";
    assert_eq!(words.1["error"]["message"], text);
    let call = ask(&bob);
    let (answer, ()) = futures_util::join!(call.send(), async {
        let task = publisher.task().await;
        assert_eq!(publisher.answer(&hub, &task, "hello").await, 200);
    });
    assert_eq!(answer.0, 200);
    hub.stop().await;
}
