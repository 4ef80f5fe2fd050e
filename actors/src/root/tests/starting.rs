//! Start and registration, and reconnecting after a loss.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use testkit::classic_hub::{ClassicHub, Reply};
use testkit::wait::wait_until;

use super::controlled_backend::provider;
use super::{end, infer, options, started};
use crate::ended::Ended;
use crate::fakes::quick;
use crate::options::{Action, Options, ProviderConfig, SleepRecipe, Timings, Transport, WakeRecipe};
use crate::registrar::{Registrar, StartError};

#[actix::test]
async fn a_registrar_registers_opens_its_channel_and_sends_heartbeats() {
    let hub = ClassicHub::start();
    // With a long interval, the first heartbeat is the one that follows the channel.
    let timings = Timings { heartbeat_interval: Duration::from_mins(1), ..quick() };
    let options = Options { timings, ..options(&hub, vec![provider("a")]) };
    let registrar = Registrar::start(options).unwrap();
    let register = hub.request("_provider-register", 1).await;
    assert_eq!(
        register.text(),
        r#"{"providers":[{"name":"a","type":"openai","model":"model","visibility":"private","initialStatus":"active"}]}"#
    );
    assert_eq!(register.header("authorization"), Some("Bearer token-of-the-test"));
    assert_eq!(register.header("accept"), Some("application/json"));
    assert_eq!(register.header("content-length"), Some(register.body.len().to_string().as_str()));
    let stream = hub.request("_provider-stream", 1).await;
    assert_eq!(stream.header("x-mcpctl-provider-session"), Some("sess-1"));
    assert_eq!(stream.header("accept"), Some("text/event-stream"));
    assert_eq!(
        stream.header("x-virtual-llm-features"),
        Some("cancel, chunk-seq, status, drain, endpoints, guard, beat")
    );
    let beat = hub.request("_provider-heartbeat", 1).await;
    assert_eq!(beat.text(), r#"{"providerSessionId":"sess-1"}"#);
    registrar.stop();
    assert_eq!(registrar.wait().await, Ended::Stopped);
}

/// F19: the result has the hub's reason.
#[actix::test]
async fn a_refusal_at_start_ends_the_registrar() {
    let hub = ClassicHub::start();
    let taken = r#"{"error":"Cannot publish over public LLM: a"}"#.to_owned();
    hub.script("_provider-register", [Reply::Status(409, Vec::new(), taken)]);
    let registrar = Registrar::start(options(&hub, vec![provider("a")])).unwrap();
    let ended = registrar.wait().await;
    assert_eq!(ended.exit_code(), 3);
    assert_eq!(
        ended,
        Ended::Refused("provider-register HTTP 409: Cannot publish over public LLM: a".to_owned())
    );
}

/// P4, F27: temporary failures do not end the registrar.
#[actix::test]
async fn a_failed_registration_at_start_is_retried() {
    let hub = ClassicHub::start();
    let response = |status, body: &str| Reply::Status(status, Vec::new(), body.to_owned());
    let replies = [
        Reply::Cut,
        Reply::status(408),
        Reply::status(425),
        Reply::status(429),
        Reply::status(500),
        Reply::status(503),
        Reply::status(200),
        response(201, "not json"),
        response(201, r#"{"providerSessionId":"with space"}"#),
    ];
    let tries = replies.len();
    hub.script("_provider-register", replies);
    let registrar = started(&hub, vec![provider("a")]).await;
    assert_eq!(hub.requests("_provider-register").len(), tries + 1);
    registrar.stop_now();
    assert_eq!(registrar.wait().await, Ended::Stopped);
}

/// F01, F13: the new channel has the same session id.
#[actix::test]
async fn a_lost_channel_is_opened_again() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    hub.close_channels();
    let stream = hub.request("_provider-stream", 2).await;
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    assert!(register.at < stream.at);
    wait_until("the channel is open again", || hub.open_channels() == 1).await;
    end(registrar).await;
}

#[actix::test]
async fn a_task_for_an_unknown_provider_gets_an_error() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    wait_until("the channel is open", || hub.open_channels() == 1).await;
    hub.task("{not json");
    hub.task(r#"{"kind":"dance","taskId":"t0","llmName":"a"}"#);
    hub.send("event: news\ndata: {}\n\n");
    hub.task(r#"{"kind":"infer","taskId":"t/1","llmName":"b","request":{}}"#);
    let result = hub.request("_provider-task/t%2F1/result", 1).await;
    assert_eq!(result.text(), r#"{"error":"provider 'b' not registered locally"}"#);
    assert_eq!(hub.open_channels(), 1);
    end(registrar).await;
}

#[actix::test]
async fn providers_are_checked_before_credentials() {
    let nothing = Options {
        credentials: None,
        session_file: None,
        providers: Vec::new(),
        agents: Vec::new(),
        timings: quick(),
        transport: Transport::Auto,
    };
    let error = Registrar::start(nothing.clone()).unwrap_err();
    assert!(matches!(error, StartError::NothingToPublish));
    assert_eq!((error.to_string().as_str(), error.exit_code()), ("nothing to publish", 0));
    let homeless = Options { providers: vec![provider("a")], ..nothing };
    assert_eq!(Registrar::start(homeless.clone()).unwrap_err().exit_code(), 2);
    assert!(Registrar::maybe_start(homeless).is_none());
}

#[actix::test]
async fn a_second_registrar_on_one_session_file_is_refused() {
    let hub = ClassicHub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("provider-session");
    let on_file = || Options { session_file: Some(file.clone()), ..options(&hub, vec![provider("a")]) };
    let first = Registrar::start(on_file()).unwrap();
    let error = Registrar::start(on_file()).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains(&format!("{}.lock", file.display())), "{error}");
    end(first).await;
    end(Registrar::start(on_file()).unwrap()).await;
}

#[actix::test]
async fn a_restart_uses_the_id_of_the_session_file() {
    let hub = ClassicHub::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("provider-session");
    let on_file = || Options { session_file: Some(file.clone()), ..options(&hub, vec![provider("a")]) };
    let first = Registrar::start(on_file()).unwrap();
    wait_until("written", || file.exists()).await;
    end(first).await;
    let second = Registrar::start(on_file()).unwrap();
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    end(second).await;
}

/// F21, F61: running tasks continue.
#[actix::test]
async fn a_session_that_the_hub_lost_is_registered_again() {
    let hub = ClassicHub::start();
    let backend = super::controlled_backend::ControlledBackend::held("hello");
    let registrar = started(&hub, vec![backend.provider("a")]).await;
    hub.task(infer("t1", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    hub.script("_provider-heartbeat", [Reply::status(404)]);
    hub.request("_provider-register", 2).await;
    hub.request("_provider-stream", 2).await;
    backend.permits.add_permits(1);
    let result = hub.request("_provider-task/t1/result", 1).await;
    assert_eq!(result.json()["body"]["choices"][0]["message"]["content"], "hello");
    end(registrar).await;
}

/// P6: a 409 to a heartbeat means that the hub does not know the channel.
#[actix::test]
async fn a_channel_that_the_hub_does_not_hold_is_opened_again() {
    let hub = ClassicHub::start();
    hub.set_hello(Some(r#"{"features":["status","cancel"],"streamId":"st-1"}"#));
    let registrar = started(&hub, vec![provider("a")]).await;
    let beats = || hub.requests("_provider-heartbeat");
    let full = || beats().into_iter().find(|beat| beat.json()["streamId"] == "st-1");
    wait_until("a heartbeat has the status", || full().is_some()).await;
    let providers =
        json!([{ "name": "a", "status": "active", "inFlight": 0, "queued": 0, "maxConcurrency": 4 }]);
    assert_eq!(full().unwrap().json()["providers"], providers);
    let status = registrar.status().await.unwrap();
    assert_eq!(status.channel.features, ["cancel", "status"]);
    hub.script("_provider-heartbeat", [Reply::status(409)]);
    hub.request("_provider-stream", 2).await;
    end(registrar).await;
}

#[actix::test]
async fn a_sleeping_provider_is_reported_to_a_classic_hub_by_registering() {
    let hub = ClassicHub::start();
    let backend = super::controlled_backend::ControlledBackend::new("hello");
    let recipe = || Action::Command { command: "true".to_owned(), args: Vec::new(), scrub_env: Vec::new() };
    let max_wait = Duration::from_secs(10);
    let sleepy = ProviderConfig {
        wake: Some(WakeRecipe { action: recipe(), max_wait }),
        sleep: Some(SleepRecipe { action: recipe(), max_wait, idle: None }),
        ..backend.provider("a")
    };
    let registrar = started(&hub, vec![sleepy]).await;
    backend.available.store(false, Ordering::SeqCst);
    registrar.provider_down("a").await.unwrap();
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providers"][0]["initialStatus"], "hibernating");
    assert_eq!(hub.requests("_provider-stream").len(), 1);
    backend.available.store(true, Ordering::SeqCst);
    hub.task(r#"{"kind":"wake","taskId":"w","llmName":"a"}"#);
    let woken = hub.request("w/result", 1).await.json();
    assert_eq!((&woken["status"], &woken["body"]["ok"]), (&json!(200), &json!(true)));
    end(registrar).await;
}

#[actix::test]
async fn a_cancel_drops_the_backend_request_at_once() {
    let hub = ClassicHub::start();
    hub.set_hello(Some(r#"{"features":["cancel"]}"#));
    let backend = super::controlled_backend::ControlledBackend::held("hello");
    let registrar = started(&hub, vec![backend.provider("a")]).await;
    hub.task(infer("t1", "a"));
    wait_until("the task runs", || backend.started() == 1).await;
    hub.send("event: cancel\ndata: {\"taskId\":\"t1\"}\n\n");
    wait_until("the backend request is dropped", || backend.dropped() == 1).await;
    end(registrar).await;
}

#[actix::test]
async fn the_status_of_a_registrar_has_no_secret() {
    let hub = ClassicHub::start();
    let registrar = started(&hub, vec![provider("a")]).await;
    hub.request("_provider-heartbeat", 1).await;
    let status = registrar.status().await.unwrap();
    let text = serde_json::to_string(&status).unwrap();
    assert!(text.contains(r#""state":"connected""#) && text.contains(r#""providerSessionId":"sess-1""#));
    assert!(!text.contains("token-of-the-test"), "{text}");
    assert!(status.providers[0].report.is_some());
    hub.script("_provider-register", (0..1000).map(|_| Reply::status(503)));
    hub.close_channels();
    hub.request("_provider-register", 3).await;
    let status = registrar.status().await.unwrap();
    assert_eq!(status.last_error.unwrap().message, "provider-register HTTP 503: {}");
    end(registrar).await;
}
