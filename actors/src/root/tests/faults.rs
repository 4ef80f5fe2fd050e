//! A registrar with a failing hub on loopback.

use std::time::Duration;

use testkit::classic_hub::{ClassicHub, Reply};
use testkit::wait::wait_until;
use tokio::time::sleep;
use wire::WireName;

use super::controlled_backend::{ControlledBackend, provider};
use super::{end, infer, options, started};
use crate::fakes::quick;
use crate::options::{BackendConfig, MockConfig, Options, ProviderConfig, Timings};
use crate::registrar::Registrar;

fn failures(count: usize) -> impl Iterator<Item = Reply> {
    (0..count).map(|n| Reply::status([500, 502, 503, 504, 429][n % 5]))
}

/// F27, F28, P4: registration, channel, heartbeats and results recover independently.
#[actix::test]
async fn no_task_is_lost_while_every_call_to_the_hub_fails() {
    let hub = ClassicHub::start();
    let backend = ControlledBackend::held("hello");
    let registrar = started(&hub, vec![backend.provider("a")]).await;
    hub.task(infer("t1", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    for route in ["_provider-register", "_provider-stream", "_provider-heartbeat", "t1/result"] {
        hub.script(route, failures(3));
    }
    hub.close_channels();
    backend.permits.add_permits(1);
    let result = hub.request("t1/result", 4).await;
    assert_eq!(result.json()["body"]["choices"][0]["message"]["content"], "hello");
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    hub.request("_provider-heartbeat", 4).await;
    assert_eq!((backend.started(), hub.requests("t1/result").len()), (1, 4), "the task ran once");
    end(registrar).await;
}

/// F22: the session continues, too.
#[actix::test]
async fn a_rotated_token_does_not_end_a_running_task() {
    let hub = ClassicHub::start();
    let backend = ControlledBackend::held("hello");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    std::fs::write(&file, r#"{"token":"token-of-the-test"}"#).unwrap();
    let mut options = options(&hub, vec![backend.provider("a")]);
    options.credentials.as_mut().unwrap().file =
        Some(crate::CredentialsFile { path: file.clone(), hub_url: None });
    let registrar = Registrar::start(options).unwrap();
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    hub.task(infer("t1", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    std::fs::write(&file, r#"{"token":"newer"}"#).unwrap();
    hub.script("_provider-heartbeat", [Reply::status(401)]);
    let newer = || {
        hub.requests("_provider-heartbeat")
            .into_iter()
            .any(|it| it.header("authorization") == Some("Bearer newer"))
    };
    wait_until("the newer token is used", newer).await;
    backend.permits.add_permits(1);
    let result = hub.request("t1/result", 1).await;
    assert_eq!(result.header("authorization"), Some("Bearer newer"));
    assert_eq!((hub.requests("_provider-register").len(), hub.requests("_provider-stream").len()), (1, 1));
    end(registrar).await;
}

/// F04, F82: the channel is silent before or after the response head.
#[actix::test]
async fn a_silent_channel_is_given_up() {
    let hub = ClassicHub::start();
    hub.script("_provider-stream", [Reply::Hang]);
    hub.set_hello(None);
    let timings = Timings { idle_timeout: Duration::from_millis(100), ..quick() };
    let registrar = Registrar::start(Options { timings, ..options(&hub, vec![provider("a")]) }).unwrap();
    hub.request("_provider-stream", 2).await;
    hub.request("_provider-stream", 3).await;
    hub.set_hello(Some("{}"));
    hub.request("_provider-register", 4).await;
    wait_until("the silent channels are closed", || hub.open_channels() <= 1).await;
    end(registrar).await;
}

/// F21, P4: the registrar does not loop without delays.
#[actix::test]
async fn registrations_are_delayed_when_the_hub_loses_each_session_at_once() {
    let hub = ClassicHub::start();
    hub.script("_provider-heartbeat", (0..10_000).map(|_| Reply::status(404)));
    let timings = Timings {
        reconnect_base: Duration::from_millis(200),
        reconnect_max: Duration::from_millis(200),
        heartbeat_interval: Duration::from_mins(1),
        ..quick()
    };
    let registrar = Registrar::start(Options { timings, ..options(&hub, vec![provider("a")]) }).unwrap();
    let fourth = hub.request("_provider-register", 4).await;
    // The second registration is immediate, the others have a delay.
    let first = hub.request("_provider-register", 1).await;
    assert!(fourth.at - first.at >= Duration::from_millis(400), "{:?}", fourth.at - first.at);
    end(registrar).await;
}

/// F25: chunks are posted as fast as the hub takes them.
#[actix::test]
async fn a_flood_of_chunks_does_not_delay_heartbeats() {
    const BEATS: usize = 10;
    let beat = Duration::from_millis(50);
    let hub = ClassicHub::start();
    hub.set_hello(Some(r#"{"features":["chunk-seq"]}"#));
    let mock = MockConfig { tokens: Some(1_000_000), ..MockConfig::default() };
    let talker = ProviderConfig::new(WireName::parse("a").unwrap(), "model", BackendConfig::Mock(mock));
    let timings = Timings { heartbeat_interval: beat, drain_timeout: Duration::from_millis(10), ..quick() };
    let registrar = Registrar::start(Options { timings, ..options(&hub, vec![talker]) }).unwrap();
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    hub.task(r#"{"kind":"infer","taskId":"t1","llmName":"a","streaming":true,"request":{"messages":[{"role":"user","content":"x"}]}}"#);
    hub.request("t1/result", 1).await;
    let before = hub.requests("_provider-heartbeat").len();
    // A timer of the same interval on this thread shows how late timers are on this machine.
    let mut ticks = 0;
    while hub.requests("_provider-heartbeat").len() < before + BEATS {
        assert!(ticks < 4 * BEATS, "fewer than {BEATS} beats in {ticks} times their interval");
        sleep(beat).await;
        ticks += 1;
    }
    let chunks = hub.requests("t1/result").len();
    // Chunks that wait behind a POST are merged.
    assert!(chunks > 2 * BEATS, "only {chunks} chunks");
    end(registrar).await;
}
