//! The registrar as a process: start, stop, a second instance, SIGKILL, and a hub that restarts.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::classic_hub::ClassicHub;
use testkit::process::{Home, Process};
use testkit::wait::wait_until;

/// Arguments for `publish` with short delays.
pub(super) const QUICK: [&str; 9] = [
    "publish",
    "--heartbeat-interval",
    "200ms",
    "--reconnect-base",
    "50ms",
    "--reconnect-max",
    "200ms",
    "--drain-timeout",
    "2s",
];

/// A home directory with credentials for `hub` and a mock provider `m`.
pub(super) fn home_with_mock(hub: &ClassicHub) -> Home {
    let home = Home::new();
    home.credentials(&hub.url(), "secret-token");
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock", "publish": true }]));
    home
}

/// A home directory with credentials for `hub` and the provider `a`, which uses `backend` and has the members of `extra`.
pub(super) fn home_with_backend(hub: &ClassicHub, backend: &FakeBackend, extra: &Value) -> Home {
    let home = Home::new();
    home.credentials(&hub.url(), "canary-token");
    let mut provider =
        json!({ "name": "a", "type": "openai", "model": "m", "url": backend.url(), "publish": true });
    provider.as_object_mut().unwrap().extend(extra.as_object().cloned().unwrap_or_default());
    home.providers(&json!([provider]));
    home
}

/// Starts a classic hub, and a registrar that publishes a mock there and has opened its channel.
async fn connected() -> (ClassicHub, Home, Process) {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let process = home.start(&QUICK);
    hub.channel(1).await;
    (hub, home, process)
}

#[actix_rt::test]
async fn nothing_to_publish_prints_one_line_and_exits_with_0() {
    let home = Home::new();
    let outcome = home.run(&["publish"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(outcome.stderr.lines().filter(|line| line.contains("nothing to publish")).count(), 1);
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock" }]));
    let outcome = home.run(&["publish"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stderr.contains("nothing to publish"));
}

#[actix_rt::test]
async fn missing_credentials_exit_with_2_and_name_the_file() {
    let home = Home::new();
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock", "publish": true }]));
    let outcome = home.run(&["publish"]).await;
    assert_eq!(outcome.code(), 2, "{outcome:?}");
    assert!(outcome.stderr.contains(home.mcpctl().join("credentials").to_str().unwrap()), "{outcome:?}");
}

/// F18, F19, F20: a registrar that the hub refuses at start prints the hub's reason, and exits with 3, which tells a service
/// manager not to restart it.
#[actix_rt::test]
async fn a_refusal_at_start_exits_with_3_and_prints_the_hubs_reason() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    for (status, reason) in [
        (409, "Cannot publish over public LLM: m"),
        (401, "no such token"),
        (403, "this token may not publish"),
        (400, "providers[0].name: no such name"),
        (422, "no such type"),
    ] {
        // After a 401 the registrar reads the credentials file again, and retries once.
        let tries = if status == 401 { 2 } else { 1 };
        let before = hub.requests("_provider-register").len();
        hub.script("_provider-register", (0..tries).map(|_| (status, json!({ "error": reason }))));
        let outcome = home.run(&QUICK).await;
        assert_eq!(outcome.code(), 3, "{outcome:?}");
        let told = format!("provider-register HTTP {status}: {reason}");
        assert!(outcome.stderr.contains(&told), "{told}: {outcome:?}");
        assert!(!outcome.stderr.contains("secret-token"), "{outcome:?}");
        assert_eq!(hub.requests("_provider-register").len() - before, tries, "HTTP {status}");
    }
}

/// F27: errors of the hub at start are temporary.
#[actix_rt::test]
async fn a_registration_that_fails_at_start_is_retried() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let failures = [408, 425, 429, 500, 503, 200].map(|status| (status, json!({})));
    hub.script("_provider-register", failures);
    let _process = home.start(&QUICK);
    hub.channel(1).await;
    assert_eq!(hub.requests("_provider-register").len(), 7);
}

#[actix_rt::test]
async fn a_restart_after_sigkill_keeps_the_session_id() {
    let (hub, home, process) = connected().await;
    process.signal(Signal::SIGKILL);
    process.end().await;
    let _again = home.start(&QUICK);
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    hub.channel(2).await;
    assert_eq!(hub.requests("_provider-stream")[1].header("x-mcpctl-provider-session"), Some("sess-1"));
}

/// F57: a second registrar on the same files ends, and its error names the lock.
#[actix_rt::test]
async fn a_second_registrar_is_refused_with_the_name_of_the_lock() {
    let (_hub, home, first) = connected().await;
    let second = home.run(&QUICK).await;
    assert_eq!(second.code(), 1, "{second:?}");
    assert!(second.stderr.contains("provider-session"), "{second:?}");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.end().await.code(), 0);
}

/// F70, P8: after SIGTERM the running task finishes, the waiting task is refused, and the exit status is 0.
#[actix_rt::test]
async fn after_sigterm_running_tasks_finish_and_waiting_tasks_are_refused() {
    let (hub, backend) = (ClassicHub::start(), FakeBackend::start());
    backend.script(|script| script.think = std::time::Duration::from_millis(500));
    let home = home_with_backend(&hub, &backend, &json!({ "maxConcurrency": 1 }));
    let process = home.start(&QUICK);
    hub.channel(1).await;
    hub.infer("running", "a", false, "x");
    hub.infer("waiting", "a", false, "x");
    wait_until("one task runs", || backend.open() == 1).await;
    process.signal(Signal::SIGTERM);
    assert_eq!(hub.ended("waiting").await, [json!({ "error": "publisher shutting down" })]);
    assert_eq!(hub.ended("running").await[0]["status"], 200);
    assert_eq!(process.end().await.code(), 0);
}

/// P8, F73: a second SIGTERM stops the registrar at once.
#[actix_rt::test]
async fn a_second_sigterm_stops_the_registrar_at_once_with_exit_1() {
    let (hub, backend) = (ClassicHub::start(), FakeBackend::start());
    backend.script(|script| script.think = std::time::Duration::from_mins(1));
    let home = home_with_backend(&hub, &backend, &json!({}));
    let process = home.start(&["publish"]);
    hub.channel(1).await;
    hub.infer("t1", "a", false, "x");
    wait_until("the task runs", || backend.open() == 1).await;
    process.signal(Signal::SIGTERM);
    process.logs("stopping").await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.end().await.code(), 1);
}

/// F21: a classic hub that has lost the session.
#[actix_rt::test]
async fn a_session_lost_by_the_hub_is_registered_again_with_the_same_id() {
    let (hub, _home, _process) = connected().await;
    hub.script("_provider-heartbeat", [(404, json!({ "error": "unknown session" }))]);
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    // The registrar opens a new channel for the new registration.
    hub.channel(2).await;
    hub.infer("t1", "m", false, "still here");
    hub.ended("t1").await;
}

/// F13, F83: the registrar reconnects after its channel was cut.
#[actix_rt::test]
async fn a_cut_channel_is_reopened_after_a_register_call_with_a_heartbeat() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let _process = home.start(&[
        "publish",
        "--heartbeat-interval",
        "1h",
        "--reconnect-base",
        "50ms",
        "--reconnect-max",
        "100ms",
    ]);
    hub.channel(1).await;
    hub.request("_provider-heartbeat", 1).await;
    hub.close_channels();
    hub.channel(2).await;
    assert_eq!(hub.requests("_provider-register").len(), 2);
    hub.request("_provider-heartbeat", 2).await;
    hub.infer("t1", "m", false, "hi");
    hub.ended("t1").await;
}

#[actix_rt::test]
async fn no_secret_prompt_or_answer_is_logged_at_level_trace() {
    let (hub, backend) = (ClassicHub::start(), FakeBackend::start());
    let home = home_with_backend(&hub, &backend, &json!({ "apiKey": "canary-key" }));
    let mut command = home.command(&QUICK);
    command.env("RUST_LOG", "trace");
    let process = Process::new(command.spawn().unwrap());
    hub.channel(1).await;
    hub.infer("t1", "a", false, "canary-prompt");
    hub.infer("t2", "a", true, "canary-prompt");
    hub.ended("t1").await;
    hub.ended("t2").await;
    process.signal(Signal::SIGTERM);
    let outcome = process.end().await;
    let backend_port = format!(":{}", backend.port());
    for canary in ["canary-token", "canary-key", "canary-prompt", "hello from the backend", &backend_port] {
        assert!(!outcome.stderr.contains(canary), "{canary} in the log");
    }
}

/// P4: the registrar's row is routable again under the same session id.
#[actix_rt::test]
async fn a_registrar_reconnects_to_a_restarted_hub_with_the_same_session_id() {
    let (hub, _home, _process) = connected().await;
    let port = hub.port();
    hub.stop().await;
    let again = ClassicHub::on(port);
    again.channel(1).await;
    assert_eq!(again.requests("_provider-register")[0].json()["providerSessionId"], "sess-1");
    again.infer("t1", "m", false, "hi");
    again.ended("t1").await;
}
