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

/// A24, A27: a publisher reads the beginning of a task, answers it, and reads no more. Nothing counts for the caller then. Our
/// registrars' event is cut; a classic one may read the rest, which counts for its owner.
#[actix_rt::test]
async fn a_task_that_was_answered_counts_for_its_caller_no_more() {
    const LARGE: usize = 20 << 20;
    let hub = hub().await;
    let (alice, carl) = (hub.member("alice").await, hub.member("carl").await);
    for features in [Some("cancel"), None] {
        let row = if features.is_some() { "a" } else { "b" };
        let publisher = Publisher::register(&hub, &alice, None, &[provider(row)]).await;
        let mut ask = hub
            .ask_as(&alice, "GET", "/api/v1/llms/_provider-stream")
            .header("x-mcpctl-provider-session", &publisher.session);
        if let Some(features) = features {
            ask = ask.header("x-virtual-llm-features", features);
        }
        let mut channel = ask.open().await;
        channel.until("event: hello").await;
        let held = hub.core().quotas.memory.held();
        let body = json!({ "model": row, "messages": [{ "role": "user", "content": "x".repeat(LARGE) }] });
        let call = hub.ask_as(&carl, "POST", "/v1/chat/completions").body(body.to_string());
        let call = actix_rt::spawn(async move { call.send().await });
        let mut read = channel.until("\"taskId\":\"").await;
        while !read.contains("\",\"") {
            read.push_str(&channel.next().await.unwrap());
        }
        let id = read.split("\"taskId\":\"").nth(1).unwrap().split('"').next().unwrap();
        assert!(hub.core().channels.unread_of("carl")[0] > LARGE, "it does not count");
        assert_eq!(publisher.answer(&hub, &json!({ "taskId": id }), "hi").await, 200);
        assert_eq!(call.await.unwrap().0, 200);
        let of_alice = || hub.core().channels.unread_of("alice")[1];
        eventually("nothing counts for the caller", async || {
            hub.core().channels.unread_of("carl")[0] == 0 && hub.core().quotas.requests.taken_by("carl") == 0
        })
        .await;
        let (memory, is_classic) = (&hub.core().quotas.memory, features.is_none());
        assert_eq!(of_alice() > LARGE, is_classic, "{}", of_alice());
        eventually("it is counted once", async || {
            (held..held + (1 << 20)).contains(&memory.held()) != is_classic
        })
        .await;
        let mut length = read.len();
        while !read.ends_with("\n\n") {
            read = channel.next().await.expect("the channel ended");
            length += read.len();
        }
        assert_eq!(length > LARGE, is_classic, "{length}");
        drop(channel);
        eventually("all is returned", async || of_alice() == 0).await;
    }
    hub.stop().await;
}
