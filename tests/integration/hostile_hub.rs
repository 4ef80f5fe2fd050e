//! A malicious hub: its texts are printed and logged as plain text, and have no other effect on a terminal or a log.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::classic_hub::ClassicHub;
use testkit::process::{Home, Outcome};
use testkit::wait::wait_until;

/// Line ends, escape sequences of 7 and of 8 bits that colour, clear and link, and characters that reverse the text direction.
const NASTY: &str = "x\r\n2026-01-01T00:00:00.000Z ERROR hub: forged\u{1b}[2J\u{1b}]8;;http://evil\u{7}\u{9b}31m\0\u{7f}\u{202e}\u{2066}\u{200f}\u{2028}";

/// The control and bidirectional characters in `text`.
fn unsafe_in(text: &str) -> Vec<char> {
    let reorders = |c: char| matches!(c, '\u{200f}' | '\u{202e}' | '\u{2066}' | '\u{2028}');
    text.chars().filter(|c| (c.is_control() && *c != '\n') || reorders(*c)).collect()
}

fn row() -> Value {
    let nested = json!({ NASTY: [NASTY, { "x": NASTY }] });
    let keys =
        ["id", "name", "type", "model", "kind", "status", "tier", "visibility", "description", "poolName"];
    let more =
        ["ownerId", "llmName", "project", "worker", "error", "createdAt", "lastHeartbeatAt", "user", "role"];
    let mut row: serde_json::Map<String, Value> =
        keys.iter().chain(&more).map(|key| ((*key).to_owned(), NASTY.into())).collect();
    row.extend([
        ("extras".to_owned(), nested.clone()),
        (NASTY.to_owned(), nested),
        ("llms".to_owned(), json!([NASTY, { "name": NASTY }])),
        ("features".to_owned(), json!([NASTY])),
    ]);
    row.into()
}

/// A12, A14: rows, lists, errors and answers of a hub are printed without control and bidirectional characters; JSON output
/// keeps the value.
#[actix_rt::test]
async fn commands_print_texts_of_a_hub_without_control_characters() {
    let hub = ClassicHub::start();
    let home = Home::new();
    home.credentials(&hub.url(), "token");
    let many = |answer: Value| (0..20).map(move |_| (200, answer.clone()));
    for list in ["/api/v1/llms", "/agents", "/sessions", "/inference-tasks", "/tokens", "/llms/x/tasks"] {
        hub.script(list, many(json!([row(), row()])));
    }
    hub.script("/llms/x", many(row()));
    hub.script("/agents/x", many(row()));
    let members =
        json!({ "poolName": NASTY, "size": NASTY, "activeCount": { NASTY: NASTY }, "members": [row()] });
    hub.script("/members", many(members));
    let completion = json!({ "choices": [{ "message": { "content": NASTY, "reasoning_content": NASTY } }] });
    let refusals = [json!({ "error": NASTY }), json!({ "error": { "message": NASTY } }), json!(NASTY)];
    let answers = refusals.into_iter().map(|body| (500, body)).chain([(200, completion)]);
    hub.script("/infer", answers);

    let run = async |line: &str| -> Outcome { home.run(&line.split(' ').collect::<Vec<_>>()).await };
    for line in [
        "get llm",
        "get llm -o wide",
        "get llm -o name",
        "get llm x",
        "get agent",
        "get agent -o wide",
        "get session -o wide",
        "get task",
        "get task -o wide",
        "describe llm x",
        "describe agent x",
        "describe task x",
        "token list",
        "chat-llm x -m hi --no-stream",
        "chat-llm x -m hi --no-stream",
        "chat-llm x -m hi --no-stream",
        "chat-llm x -m hi --no-stream",
        "check",
    ] {
        let outcome = run(line).await;
        assert!(outcome.stdout.len() + outcome.stderr.len() > 0, "{line}");
        assert_eq!((unsafe_in(&outcome.stdout), unsafe_in(&outcome.stderr)), (vec![], vec![]), "{line}");
    }
    let shown = run("get llm -o json").await.stdout;
    assert!(unsafe_in(&shown).is_empty(), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json!([row(), row()]));
    hub.stop().await;
}

/// A14, A17: texts of a hub cannot start a new line in a registrar's log, and a provider name that contains a shell command is
/// just an unknown name.
#[actix_rt::test]
async fn texts_of_a_hub_cannot_forge_a_log_line() {
    let hub = ClassicHub::start();
    let home = Home::new();
    home.credentials(&hub.url(), "token");
    let touched = home.path().join("touched");
    let touch = format!("touch {}", touched.display());
    home.providers(&json!([{ "name": "a", "type": "mock", "model": "m", "publish": true,
        "wake": { "type": "command", "command": "true", "args": [format!("; {touch}"), format!("$({touch})")] } }]));
    let registered =
        json!({ "providerSessionId": "sess-1", "warnings": [NASTY], "llms": NASTY, NASTY: NASTY });
    hub.script("/_provider-register", [(503, json!({ "error": NASTY })), (201, registered)]);
    hub.script("/_provider-heartbeat", (0..50).map(|_| (500, json!({ "error": NASTY }))));
    let quick = ["--heartbeat-interval", "50ms", "--reconnect-base", "50ms", "--reconnect-max", "100ms"];
    let mut command = home.command(&[&["publish"], &quick[..]].concat());
    let registrar = testkit::process::Process::new(command.env("RUST_LOG", "trace").spawn().unwrap());
    hub.channel(1).await;
    hub.send(format!("event: {}\ndata: {{\n\n", NASTY.replace(['\r', '\n'], " ")));
    hub.task(json!({ "kind": NASTY, "taskId": "odd", "llmName": "a" }));
    hub.task(json!({ "kind": "infer", "taskId": NASTY, "llmName": "a", "streaming": false, "request": {} }));
    for (id, name) in [("t1", NASTY.to_owned()), ("t2", format!("a; {touch}")), ("t3", format!("$({touch})"))]
    {
        hub.task(json!({ "kind": "wake", "taskId": id, "llmName": name, "command": touch, "args": [touch] }));
        let ended = hub.ended(id).await;
        assert_eq!(ended[0]["error"], format!("provider '{name}' not registered locally"));
    }
    let recipe = json!({ "type": "command", "command": "sh", "args": ["-c", touch] });
    hub.task(json!({ "kind": "wake", "taskId": "t4", "llmName": "a", "wake": recipe, "command": touch }));
    assert_eq!(hub.ended("t4").await[0]["status"], 200);
    wait_until("heartbeats are refused", || hub.requests("heartbeat").len() > 3).await;
    registrar.signal(Signal::SIGTERM);
    let outcome = registrar.end().await;
    assert!(outcome.stderr.contains("forged"), "the hub's reason is logged: {}", outcome.stderr);
    assert_eq!((unsafe_in(&outcome.stdout), unsafe_in(&outcome.stderr)), (vec![], vec![]));
    let ours = ["actors", "virtual_llm", "wire", "hub", "actix"];
    for line in outcome.stderr.lines() {
        let target = line.split_whitespace().nth(2).unwrap_or_default();
        assert!(ours.iter().any(|name| target.starts_with(name)) && !target.starts_with("hub:"), "{line}");
    }
    assert!(!touched.exists());
    hub.stop().await;
}

/// A12, A14: a hub's refusal and a configuration of another author are printed without control characters.
#[actix_rt::test]
async fn refusals_and_configurations_are_printed_without_control_characters() {
    let hub = ClassicHub::start();
    let home = Home::new();
    home.credentials(&hub.url(), "token");
    home.providers(&json!([{ "name": "a", "type": "mock", "model": "m", "publish": true }]));
    hub.script("/_provider-register", [(418, json!({ "error": NASTY }))]);
    let refused = home.run(&["publish"]).await;
    assert_eq!(refused.code(), 3, "{}", refused.stderr);
    assert!(refused.stderr.contains("418") && unsafe_in(&refused.stderr).is_empty(), "{}", refused.stderr);
    home.providers(
        &json!([{ "name": NASTY, "type": NASTY, "model": NASTY, "publish": true, "apiKeyEnv": NASTY,
        "wake": { "type": "command", "command": NASTY } }]),
    );
    for line in ["check", "publish"] {
        let outcome = home.run(&[line]).await;
        assert_ne!(outcome.code(), 0, "{line}");
        assert_eq!((unsafe_in(&outcome.stdout), unsafe_in(&outcome.stderr)), (vec![], vec![]), "{line}");
        let is_finding = |line: &str| ["ok ", "warn ", "error "].iter().any(|word| line.starts_with(word));
        assert!(outcome.stdout.lines().all(is_finding), "{}", outcome.stdout);
    }
    hub.stop().await;
}
