//! Stopping and pausing a registrar.

use std::time::Duration;

use testkit::classic_hub::{ClassicHub, Reply};
use testkit::wait::wait_until;
use tokio::time::Instant;

use super::controlled_backend::{ControlledBackend, provider};
use super::{end, infer, options, started};
use crate::ended::Ended;
use crate::fakes::quick;
use crate::options::{Options, ProviderConfig, Timings};
use crate::registrar::Registrar;

const STOPPING: &str = r#"{"error":"publisher shutting down"}"#;

/// F70, P8: running tasks finish, and heartbeats continue until the last result is acknowledged.
#[actix::test]
async fn a_stop_refuses_new_and_queued_tasks() {
    let hub = ClassicHub::start();
    let backend = ControlledBackend::held("hello");
    let one_at_a_time = ProviderConfig { max_concurrency: 1, ..backend.provider("a") };
    let registrar = started(&hub, vec![one_at_a_time]).await;
    hub.task(infer("runs", "a"));
    hub.task(infer("waits", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    registrar.stop();
    assert_eq!(hub.request("waits/result", 1).await.text(), STOPPING);
    hub.task(infer("new", "a"));
    assert_eq!(hub.request("new/result", 1).await.text(), STOPPING);
    let beats = hub.requests("_provider-heartbeat").len();
    hub.request("_provider-heartbeat", beats + 2).await;
    assert_eq!(hub.open_channels(), 1, "the channel stays open");

    hub.script("runs/result", [Reply::status(503)]);
    backend.permits.add_permits(1);
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert_eq!(
        hub.requests("runs/result").len(),
        2,
        "the result is sent again until the hub acknowledges it"
    );
    wait_until("the channel is closed", || hub.open_channels() == 0).await;
    assert!(
        !hub.requests("").iter().any(|call| call.path().ends_with("_provider-drain")),
        "a classic hub gets no drain call"
    );
}

/// Starts a registrar with one running task.
async fn with_running_task(drain_timeout: Duration) -> (ClassicHub, ControlledBackend, Registrar) {
    let hub = ClassicHub::start();
    let backend = ControlledBackend::held("hello");
    let timings = Timings { drain_timeout, ..quick() };
    let options = Options { timings, ..options(&hub, vec![backend.provider("a")]) };
    let registrar = Registrar::start(options).unwrap();
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    hub.task(infer("t", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    (hub, backend, registrar)
}

/// F70, P8: the task's result is an error.
#[actix::test]
async fn a_running_task_is_ended_at_the_drain_timeout() {
    let (hub, backend, registrar) = with_running_task(Duration::from_millis(100)).await;
    let start = Instant::now();
    registrar.stop();
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(hub.requests("t/result")[0].text(), STOPPING);
    assert_eq!(backend.dropped(), 1);
}

/// F71: the hub does not answer during the stop.
#[actix::test]
async fn a_stop_while_disconnected_is_prompt() {
    let hub = ClassicHub::start();
    hub.script("_provider-register", (0..1000).map(|_| Reply::Hang));
    let slow =
        Timings { reconnect_base: Duration::from_mins(1), drain_timeout: Duration::from_mins(1), ..quick() };
    let options = Options { timings: slow, ..options(&hub, vec![provider("a")]) };
    let registrar = Registrar::start(options).unwrap();
    hub.request("_provider-register", 1).await;
    let start = Instant::now();
    registrar.stop();
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert!(start.elapsed() < Duration::from_secs(10));
}

/// F73: a second stop drops running tasks.
#[actix::test]
async fn a_second_stop_ends_the_registrar_at_once() {
    let (_hub, backend, registrar) = with_running_task(Duration::from_mins(1)).await;
    let start = Instant::now();
    registrar.stop();
    registrar.stop_now();
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert!(start.elapsed() < Duration::from_secs(10));
    wait_until("the running task is dropped", || backend.dropped() == 1).await;
}

/// P8: the hub has the feature `drain`.
#[actix::test]
async fn a_stopping_registrar_sends_a_drain_call() {
    let hub = ClassicHub::start();
    hub.set_hello(Some(r#"{"features":["drain"],"streamId":"st"}"#));
    let backend = ControlledBackend::held("hello");
    let registrar = started(&hub, vec![backend.provider("a")]).await;
    hub.task(infer("t", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    registrar.stop();
    let drain = hub.request("_provider-drain", 1).await;
    assert_eq!(drain.text(), r#"{"providerSessionId":"sess-1"}"#);
    backend.permits.add_permits(1);
    assert_eq!(registrar.wait().await, Ended::Stopped);
}

#[actix::test]
async fn a_handle_of_an_ended_registrar_still_answers() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    registrar.stop();
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert_eq!(registrar.wait().await, Ended::Stopped);
    assert_eq!(registrar.status().await, None);
    assert!(registrar.provider_up("a").await.is_err());
    registrar.stop();
    registrar.resume();
}

#[actix::test]
async fn tasks_wait_until_a_pause_ends() {
    let hub = ClassicHub::start();
    let backend = ControlledBackend::new("hello");
    let registrar = started(&hub, vec![backend.provider("a")]).await;
    registrar.pause(None);
    assert!(registrar.status().await.unwrap().paused.is_some());
    hub.task(infer("t1", "a"));
    let queued =
        async || registrar.status().await.unwrap().providers[0].report.clone().unwrap().status.queued;
    while queued().await == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(backend.started(), 0);
    registrar.resume();
    hub.request("t1/result", 1).await;
    registrar.pause(Some(Duration::from_millis(100)));
    hub.task(infer("t2", "a"));
    hub.request("t2/result", 1).await;
    assert!(registrar.status().await.unwrap().paused.is_none());
    end(registrar).await;
}

#[actix::test]
async fn wake_tasks_are_refused_until_a_pause_ends() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    let wake = async |id: &str| {
        hub.task(format!(r#"{{"kind":"wake","taskId":"{id}","llmName":"a"}}"#));
        hub.request(&format!("{id}/result"), 1).await.text()
    };
    registrar.pause(None);
    assert!(registrar.status().await.unwrap().paused.is_some());
    assert_eq!(wake("w1").await, r#"{"error":"'a' is paused by its owner, try again later"}"#);
    registrar.resume();
    assert!(registrar.status().await.unwrap().paused.is_none());
    assert_eq!(wake("w2").await, r#"{"error":"provider 'a' has no wake recipe configured"}"#);
    end(registrar).await;
}

#[actix::test]
async fn only_a_published_provider_can_be_woken_by_its_owner() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    let unknown = registrar.provider_up("b").await.unwrap_err();
    assert_eq!(unknown, "no provider named 'b' is published here");
    let without = registrar.provider_up("a").await.unwrap_err();
    assert_eq!(without, "provider 'a' has no wake recipe configured");
    end(registrar).await;
}
