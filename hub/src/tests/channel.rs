//! Control channels: pings, and their fair shares.

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

/// F83: with default options, three pings come within the usual 60 s of a proxy, and within our own timeout.
#[test]
fn three_pings_come_before_any_idle_timeout() {
    let pings = crate::options::HubTimings::default().ping_interval;
    assert!(pings * 3 <= Duration::from_mins(1));
}

async fn under_way(hub: &TestHub, count: usize) {
    eventually(&format!("{count} are under way"), async || hub.core().dispatches.lock().len() == count).await;
}

/// A27: a task whose caller has gone is not written, or not further; its publisher gets no cancel for a task that it
/// never got.
#[actix_rt::test]
async fn tasks_of_gone_callers_are_not_written_to_a_slow_channel() {
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

/// A27: unread tasks of one caller fill a share of a channel and do not close it; tasks of other callers are written
/// first.
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
    let metrics = hub.ask("GET", "/metrics").send().await.1;
    assert!(metrics.contains("limit_refusals_total{limit=\"channel_share\"} 1\n"), "{metrics}");
    publisher.serves(&hub, &ask(&bob), "hello").await;
    hub.stop().await;
}
