//! What an owner of LLMs sees of the calls of others: `usage --owned`, `get task --owned`, `describe task`.

use serde_json::{Value, json};
use testkit::free_port;
use testkit::team::hub_in_memory;

use crate::account::user;

/// An owner sees who used its LLMs and why calls failed there; others see nothing of that.
#[actix_rt::test]
async fn an_owner_sees_who_used_its_llms_and_why_calls_failed() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let (alice, bob) = (user(&admin, &url, "alice").await, user(&admin, &url, "bob").await);
    let url = format!("http://127.0.0.1:{}", free_port());
    let llm = |name: &str, more: Value| {
        let mut llm = json!({ "name": name, "publish": true, "visibility": "public" });
        llm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        llm
    };
    alice.providers(&json!([
        llm("here", json!({ "type": "mock" })),
        llm("away", json!({ "type": "openai", "model": "m", "url": url })),
    ]));
    let publisher = alice.start(&["publish"]);
    publisher.logs("control channel open").await;
    assert_eq!(bob.run(&["chat-llm", "here", "-m", "hi"]).await.code(), 0);
    assert_ne!(bob.run(&["chat-llm", "away", "-m", "hi"]).await.code(), 0);
    let usage = alice.run(&["usage", "--owned"]).await;
    let line: Vec<_> = usage.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(line[..3], ["bob", "2", "1"], "{usage:?}");
    let tasks = alice.run(&["get", "task", "--owned", "-o", "wide"]).await;
    let line: Vec<_> = tasks.stdout.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(line[1..4], ["bob", "away", "backend_unavailable"], "{tasks:?}");
    assert!(tasks.stdout.contains("is not available now"), "{tasks:?}");
    let described = alice.run(&["describe", "task", line[0]]).await;
    for part in ["Owner Id:             bob\n", "Code:                 backend_unavailable\n", "Error:"] {
        assert!(described.stdout.contains(part), "{part}: {described:?}");
    }
    assert_eq!(alice.run(&["get", "task", line[0]]).await.code(), 0);
    let none = bob.run(&["usage", "--owned"]).await;
    assert!(none.stderr.contains("There were no calls to your LLMs from 20"), "{none:?}");
    let none = bob.run(&["get", "task", "--owned"]).await;
    assert!(none.stderr.contains("There are no such tasks."), "{none:?}");
    let wrong = bob.run(&["get", "llm", "--owned"]).await;
    assert!(wrong.code() == 2 && wrong.stderr.contains("--owned is for `get task`"), "{wrong:?}");
}
