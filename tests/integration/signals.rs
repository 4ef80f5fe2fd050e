//! SIGTERM during delays, outages, wakes and calls.

use std::time::Duration;

use awc::http::Method;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::json;
use testkit::classic_hub::ClassicHub;
use testkit::free_port;
use testkit::process::{Home, Process};
use testkit::team::{Team, start_hub};
use testkit::wait::{eventually, wait_for, wait_until};
use tokio::time::Instant;

use super::registrar::{QUICK, home_with_mock};

/// Limit for a prompt end: two seconds and a margin for two busy cores, but far below the delays that must not be waited for.
const PROMPT: Duration = Duration::from_secs(10);

/// Sends SIGTERM. The process must end with 0 within [`PROMPT`].
async fn ends_promptly(process: Process) {
    let asked = Instant::now();
    process.signal(Signal::SIGTERM);
    let outcome = process.end().await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
}

/// F71: SIGTERM ends a registrar at once, although its next try to register is due in a minute.
#[actix_rt::test]
async fn sigterm_during_a_delay_of_a_minute_ends_a_registrar_at_once() {
    let home = Home::new();
    home.credentials(&format!("http://127.0.0.1:{}", free_port()), "t");
    home.providers(&json!([{ "name": "m", "type": "mock", "model": "mock", "publish": true }]));
    let process = home.start(&["publish", "--reconnect-base", "1m", "--reconnect-max", "1m"]);
    process.logs("next try in 60.0 s").await;
    ends_promptly(process).await;
}

/// F71: SIGTERM ends a registrar at once, although its channel is broken and its hub is away.
#[actix_rt::test]
async fn sigterm_while_the_hub_is_away_ends_a_registrar_at_once() {
    let hub = ClassicHub::start();
    let home = home_with_mock(&hub);
    let process = home.start(&["publish", "--reconnect-base", "30s"]);
    hub.channel(1).await;
    hub.stop().await;
    process.logs("no control channel").await;
    ends_promptly(process).await;
}

/// F71: SIGTERM during a wake kills the recipe's process group, ends the task with an error, and ends the registrar at once.
#[actix_rt::test]
async fn sigterm_in_a_wake_kills_the_recipe_and_ends_at_once() {
    let (hub, home) = (ClassicHub::start(), Home::new());
    home.credentials(&hub.url(), "t");
    let pid = home.path().join("pid");
    let script = format!("echo $$ > {}; sleep 300 & wait", pid.display());
    let url = format!("http://127.0.0.1:{}/v1", free_port());
    home.providers(&json!([{ "name": "a", "type": "openai", "model": "m", "url": url, "publish": true,
        "wake": { "type": "command", "command": "sh", "args": ["-c", script], "maxWaitSeconds": 300 } }]));
    let process = home.start(&QUICK);
    hub.channel(1).await;
    hub.task(json!({ "kind": "wake", "taskId": "w", "llmName": "a" }));
    hub.infer("t", "a", false, "x");
    let recipe = wait_for("the recipe runs", || async {
        std::fs::read_to_string(&pid).ok()?.trim().parse::<i32>().ok()
    })
    .await;
    ends_promptly(process).await;
    for task in ["w", "t"] {
        assert_eq!(hub.results(task), [json!({ "error": "publisher shutting down" })], "{task}");
    }
    let gone = || async { (!std::path::Path::new(&format!("/proc/{recipe}")).exists()).then_some(()) };
    wait_for("the recipe's process has ended", gone).await;
}

/// P8, F72: after SIGTERM a hub finishes the answers under way, refuses new calls, and exits with 0.
#[actix_rt::test]
async fn after_sigterm_a_hub_finishes_the_answers_under_way() {
    let team = Team::start().await;
    team.backend.script(|script| (script.tokens, script.pace) = (50, Duration::from_millis(20)));
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut stream = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    let mut text = String::from_utf8_lossy(&stream.next().await.unwrap().unwrap()).into_owned();
    team.hub.signal(Signal::SIGTERM);
    team.hub.logs("stopping").await;
    eventually("new calls are refused", async || team.chat(false).await.status == 503).await;
    while let Some(piece) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
    }
    assert!(text.contains("t49 ") && text.ends_with("data: [DONE]\n\n"), "{text}");
    let Team { hub, .. } = team;
    assert_eq!(hub.end().await.code(), 0);
}

/// F72, F73: a second SIGTERM ends a stopping hub at once; the broken streams have no end mark. The registrar reconnects to the
/// next hub.
#[actix_rt::test]
async fn a_second_sigterm_ends_a_hub_at_once_and_streams_without_end_mark() {
    let team = Team::start().await;
    team.backend.script(|script| (script.tokens, script.pace) = (100_000, Duration::from_millis(20)));
    let body = json!({ "model": "local", "stream": true, "messages": [] }).to_string();
    let mut stream = team.http.open(Method::POST, "/v1/chat/completions", Some(body)).await;
    assert!(stream.next().await.unwrap().is_ok());
    team.hub.signal(Signal::SIGTERM);
    team.hub.logs("stopping").await;
    eventually("new calls are refused", async || team.chat(false).await.status == 503).await;
    assert!(stream.next().await.unwrap().is_ok(), "the running stream continues");
    let asked = Instant::now();
    team.hub.signal(Signal::SIGTERM);
    let mut text = String::new();
    while let Some(Ok(piece)) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    assert!(!text.contains("[DONE]") && !text.contains("\"finish_reason\":\"stop\""), "{text}");
    let Team { backend, home, port, hub, http, registrar: _registrar } = team;
    let outcome = hub.end().await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
    wait_until("the backend request is dropped", || backend.open() == 0).await;
    backend.script(|script| (script.tokens, script.pace) = (3, Duration::ZERO));
    let next = start_hub(&home, port);
    next.logs("opened").await;
    let chat = json!({ "model": "local", "messages": [] });
    assert_eq!(http.post("/v1/chat/completions", &chat).await.status, 200);
}
