//! What a control channel says when there is nothing to say.

use std::time::Duration;

use super::publisher::{Publisher, provider};
use super::support::{ADMIN, hub_with};

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
