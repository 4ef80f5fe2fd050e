//! `--log-format json` of hub and registrar.

use nix::sys::signal::Signal;
use serde_json::{Map, Value, json};
use testkit::http::Http;
use testkit::team::{ADMIN, hub_in_memory};

/// A name that ends a line, begins another object and reverses what follows.
const HOSTILE: &str =
    "x\"}\n{\"ts\":\"2026-01-01T00:00:00.000Z\",\"level\":\"error\",\"text\":\"forged\"}\r\u{1b}[2J\u{202e}";

/// All lines of a log, each an object with a time, a level and a text. Panics at any other line.
fn lines(log: &str) -> Vec<Map<String, Value>> {
    let parsed = log.lines().map(|line| {
        let is_shown = |c: char| !c.is_control() && c != '\u{202e}';
        assert!(line.chars().all(is_shown) && line.len() <= 8 << 10, "{line:?}");
        let Ok(Value::Object(object)) = serde_json::from_str(line) else { panic!("no object: {line}") };
        let level = object["level"].as_str().unwrap();
        assert!(["error", "warn", "info", "debug", "trace"].contains(&level), "{line}");
        let time = object["ts"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert!(object["text"].is_string(), "{line}");
        assert!(!line.contains(ADMIN), "a secret is in the log");
        object
    });
    parsed.collect()
}

/// P7, A12: each line of a busy hub and of a registrar that crashes is one object, with the limits of the text format.
#[actix_rt::test]
async fn every_line_of_a_busy_hub_and_registrar_is_an_object() {
    let (home, hub, url) = hub_in_memory(&["--log-format", "json", "-vv"]).await;
    home.providers(&json!([
        { "name": "demo", "type": "mock", "publish": true, "visibility": "public", "panicEvery": 2 },
        { "name": "flaky", "type": "mock", "publish": true, "visibility": "public", "failEvery": 1 },
    ]));
    let registrar = home.start(&["publish", "--log-format", "json", "-vv"]);
    registrar.logs("control channel open").await;
    let http = Http::new(&url, ADMIN);
    let chat = async |model: &str| {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
        http.post("/v1/chat/completions", &body).await.status
    };
    assert_eq!(chat("demo").await, 200);
    assert_eq!(chat("demo").await, 502, "every second task panics");
    assert!(chat("flaky").await >= 500);
    for _ in 0..30 {
        assert_eq!(chat(HOSTILE).await, 404);
    }
    assert_eq!(Http::new(&url, "wrong-token-0123456789").get("/v1/models").await.status, 401);
    let mut logs = Vec::new();
    for process in [registrar, hub] {
        process.signal(Signal::SIGTERM);
        let ended = process.end().await;
        assert_eq!(ended.code(), 0, "{ended:?}");
        logs.push(lines(&ended.stderr));
    }
    let [registrar, hub] = &logs[..] else { unreachable!() };

    let with_code =
        |code: &str| -> Vec<_> { hub.iter().filter(|line| line.get("code") == Some(&code.into())).collect() };
    let unknown = with_code("model_not_found");
    assert_eq!(unknown.len(), 20, "the limit of one user and code");
    let last = unknown.last().unwrap();
    let field = |name: &str| last[name].as_str().unwrap();
    assert_eq!((field("kind"), field("user"), field("address")), ("model_not_found", "admin", "127.0.0.1"));
    assert!(field("text").starts_with("call failed: user=admin address=127.0.0.1 row=- "), "{last:?}");
    assert!(last["ms"].is_number() && last["request"].is_string() && last["status"] == 404, "{last:?}");
    let crashed =
        hub.iter().find(|line| line.get("llm") == Some(&"demo".into()) && line.contains_key("code")).unwrap();
    assert!(crashed["publisher"].is_string() && crashed["id"].is_string(), "{crashed:?}");

    let failed = registrar.iter().find(|line| line.get("provider") == Some(&"flaky".into())).unwrap();
    assert!(
        failed["code"].is_string() && failed["ms"].is_number() && failed["task"].is_string(),
        "{failed:?}"
    );
    let panic = registrar.iter().find(|line| line.get("kind") == Some(&"panics".into())).unwrap();
    assert_eq!(panic["level"], "error");
    assert!(registrar.iter().any(|line| line["text"].as_str().unwrap().contains("control channel open")));
}

/// The last words of a hub that cannot start are a line of the log, too.
#[actix_rt::test]
async fn the_error_at_which_a_hub_ends_is_an_object() {
    let (home, _hub, url) = hub_in_memory(&[]).await;
    let listen = url.strip_prefix("http://").unwrap();
    let ended = home.run(&["hub", "--in-memory", "--log-format", "json", "--listen", listen]).await;
    assert_eq!(ended.code(), 1, "{ended:?}");
    let last = lines(&ended.stderr).pop().unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["text"].as_str().unwrap().contains(listen), "{last:?}");
}
