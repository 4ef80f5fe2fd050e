//! Control channels: pings, and how callers share a channel.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::publisher::{Publisher, provider};
use super::support::{ADMIN, TestHub, eventually, hub, hub_with};

/// F82, F83: a channel forbids proxies to buffer it, and sends pings.
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

/// F83: with default options, three pings are sent within 60 s, the usual idle timeout of a proxy.
#[test]
fn three_pings_are_sent_within_a_proxys_idle_timeout() {
    let pings = crate::options::HubTimings::default().ping_interval;
    assert!(pings * 3 <= Duration::from_mins(1));
}

async fn until_dispatches_are(hub: &TestHub, count: usize) {
    eventually(&format!("{count} dispatches are under way"), async || {
        hub.core().dispatches.lock().len() == count
    })
    .await;
}

/// A27: when a caller disconnects, the hub stops writing its task, and the publisher gets no cancel event for a task
/// that was not written whole.
#[actix_rt::test]
async fn tasks_of_disconnected_callers_are_not_written_to_a_channel() {
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
        until_dispatches_are(&hub, count).await;
    }
    calls.clear();
    until_dispatches_are(&hub, 0).await;
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

/// A27: unread tasks of one caller fill at most a share of a channel and do not close it; tasks of other callers
/// overtake them.
#[actix_rt::test]
async fn a_caller_fills_a_share_of_a_channel_and_others_are_served() {
    let hub = hub().await;
    let (alice, mallory, bob) =
        (hub.member("alice").await, hub.member("mallory").await, hub.member("bob").await);
    let mut publisher = Publisher::start(&hub, &alice, &[provider("a")], Some("cancel")).await;
    // An SSE comment of 16 MiB. Seven of them fill mallory's share exactly.
    let mut large = vec![b' '; (16 << 20) - 2];
    large[0] = b':';
    large.extend_from_slice(b"\n\n");
    let large = Bytes::from(large);
    let send = || hub.core().channels.send(&publisher.session, "mallory", large.clone().into());
    assert!((1..20).contains(&(0..20).take_while(|_| send().is_ok()).count()));
    let ask = |token: &str| {
        hub.ask_as(token, "POST", "/v1/chat/completions").body(r#"{"model":"a","messages":[]}"#)
    };
    let mut refused = (200, Value::Null);
    // A small task may still fit, and then the call waits.
    eventually("mallory's share is full", async || {
        let _ = send();
        let call = ask(&mallory);
        let answer = tokio::time::timeout(Duration::from_millis(100), call.json()).await;
        answer.map(|answer| refused = answer).is_ok()
    })
    .await;
    assert_eq!((refused.0, &refused.1["error"]["code"]), (503, &json!("hub_busy")));
    let text = "the publisher has not read your other requests yet, try again later";
    assert_eq!(refused.1["error"]["message"], text);
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"channel_share\"} 1\n"), "{metrics}");
    publisher.serves(&hub, &ask(&bob), "hello").await;
    hub.stop().await;
}
