//! The registrar as a process: start, stop, second instance, kill -9, a hub that comes and goes.

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::classic_hub::ClassicHub;
use testkit::process::Home;
use testkit::wait::wait_until;

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

pub(super) fn home_with_mock(hub: &ClassicHub) -> Home {
    let home = Home::new();
    home.credentials(&hub.url(), "secret-token");
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock", "publish": true }]));
    home
}

#[actix_rt::test]
async fn nothing_to_publish_is_one_line_and_exit_0() {
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
async fn no_credentials_is_exit_2_and_names_the_file_to_make() {
    let home = Home::new();
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock", "publish": true }]));
    let outcome = home.run(&["publish"]).await;
    assert_eq!(outcome.code(), 2, "{outcome:?}");
    assert!(outcome.stderr.contains(home.mcpctl().join("credentials").to_str().unwrap()), "{outcome:?}");
}

/// F18, F19, F20: whatever a hub refuses at the start ends it with exit 3, for the service manager, and the hub's own
/// reason.
#[actix_rt::test]
async fn a_refusal_at_start_is_exit_3_with_the_hubs_reason() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    for (status, reason) in [
        (409, "Cannot publish over public LLM: m"),
        (401, "no such token"),
        (403, "this token may not publish"),
        (400, "providers[0].name: no such name"),
        (422, "no such type"),
    ] {
        // A 401 is tried once more with the token of the file.
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

/// F27: failures pass.
#[actix_rt::test]
async fn a_hub_that_fails_for_a_while_at_start_is_tried_again() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let failures = [408, 425, 429, 500, 503, 200].map(|status| (status, json!({})));
    hub.script("_provider-register", failures);
    let _process = home.start(&QUICK);
    hub.channel(1).await;
    assert_eq!(hub.requests("_provider-register").len(), 7);
}

#[actix_rt::test]
async fn a_kill_9_and_a_start_keep_the_session_id() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let process = home.start(&QUICK);
    hub.channel(1).await;
    process.signal(Signal::SIGKILL);
    process.end().await;
    let _again = home.start(&QUICK);
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    hub.channel(2).await;
    assert_eq!(hub.requests("_provider-stream")[1].header("x-mcpctl-provider-session"), Some("sess-1"));
}

/// F57: a second registrar on the same files ends with the name of the lock.
#[actix_rt::test]
async fn a_second_registrar_is_refused_with_the_name_of_the_lock() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let first = home.start(&QUICK);
    hub.channel(1).await;
    let second = home.run(&QUICK).await;
    assert_eq!(second.code(), 1, "{second:?}");
    assert!(second.stderr.contains("provider-session"), "{second:?}");
    first.signal(Signal::SIGTERM);
    assert_eq!(first.end().await.code(), 0);
}

/// F70, P8: SIGTERM lets finish what runs, refuses what waits, and ends with 0.
#[actix_rt::test]
async fn sigterm_lets_what_runs_finish_and_refuses_what_waits() {
    let (hub, backend, home) = (ClassicHub::start(), FakeBackend::start(), Home::new());
    backend.script(|script| script.think = std::time::Duration::from_millis(500));
    home.credentials(&hub.url(), "t");
    home.providers(&json!([{ "name": "a", "type": "openai", "model": "m", "url": backend.url(), "publish": true, "maxConcurrency": 1 }]));
    let process = home.start(&QUICK);
    hub.channel(1).await;
    hub.infer("running", "a", false, "x");
    hub.infer("waiting", "a", false, "x");
    wait_until("one runs", || backend.open() == 1).await;
    process.signal(Signal::SIGTERM);
    assert_eq!(hub.ended("waiting").await, [json!({ "error": "publisher shutting down" })]);
    assert_eq!(hub.ended("running").await[0]["status"], 200);
    assert_eq!(process.end().await.code(), 0);
}

/// P8, F73: a second SIGTERM stops the registrar at once.
#[actix_rt::test]
async fn a_second_signal_stops_at_once_with_exit_1() {
    let (hub, backend, home) = (ClassicHub::start(), FakeBackend::start(), Home::new());
    backend.script(|script| script.think = std::time::Duration::from_mins(1));
    home.credentials(&hub.url(), "t");
    home.providers(
        &json!([{ "name": "a", "type": "openai", "model": "m", "url": backend.url(), "publish": true }]),
    );
    let process = home.start(&["publish"]);
    hub.channel(1).await;
    hub.infer("t1", "a", false, "x");
    wait_until("it runs", || backend.open() == 1).await;
    process.signal(Signal::SIGTERM);
    process.logs("stopping").await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.end().await.code(), 1);
}

/// F21: as a process, against a hub of old.
#[actix_rt::test]
async fn a_forgotten_session_registers_again_with_the_same_id() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let _process = home.start(&QUICK);
    hub.channel(1).await;
    hub.script("_provider-heartbeat", [(404, json!({ "error": "unknown session" }))]);
    let register = hub.request("_provider-register", 2).await;
    assert_eq!(register.json()["providerSessionId"], "sess-1");
    // The channel of the forgotten session is given up for one of the new.
    hub.channel(2).await;
    hub.infer("t1", "m", false, "still here");
    hub.ended("t1").await;
}

/// F13, F83: a channel that somebody cut is back soon.
#[actix_rt::test]
async fn a_channel_that_ends_is_opened_again_after_a_fresh_register_and_a_beat_follows() {
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
async fn no_secret_prompt_or_answer_is_logged_at_the_loudest_level() {
    let (hub, backend, home) = (ClassicHub::start(), FakeBackend::start(), Home::new());
    home.credentials(&hub.url(), "canary-token");
    home.providers(&json!([{ "name": "a", "type": "openai", "model": "m", "url": backend.url(), "apiKey": "canary-key", "publish": true }]));
    let mut command = home.command(&QUICK);
    command.env("RUST_LOG", "trace");
    let process = testkit::process::Process::new(command.spawn().unwrap());
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

/// P4: routable again, under the same id.
#[actix_rt::test]
async fn a_hub_that_dies_and_comes_back_finds_the_registrar_again_with_the_same_id() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let _process = home.start(&QUICK);
    hub.channel(1).await;
    let port = hub.port();
    hub.stop().await;
    let again = ClassicHub::on(port);
    again.channel(1).await;
    assert_eq!(again.requests("_provider-register")[0].json()["providerSessionId"], "sess-1");
    again.infer("t1", "m", false, "hi");
    again.ended("t1").await;
}
