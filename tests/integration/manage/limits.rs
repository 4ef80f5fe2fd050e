//! Limits of users and tokens.

use testkit::free_port;
use testkit::http::Http;

use super::*;

/// A limit is set, shown and removed for a user and for a token, and holds.
#[actix_rt::test]
async fn limits_of_users_and_tokens_are_set_shown_and_removed() {
    let scene = Scene::start().await;
    let create = [
        "token",
        "create",
        "--user",
        "bob",
        "--models",
        "qwen,llama-*",
        "--tokens-per-day",
        "500k",
        "-o",
        "json",
    ];
    let made: Value = serde_json::from_str(&scene.ok(&create).await).unwrap();
    assert_eq!((&made["models"], &made["tokensPerDay"]), (&json!(["llama-*", "qwen"]), &json!(500_000)));
    let id = made["id"].as_str().unwrap();
    let set = ["token", "set", id, "--requests-per-minute", "2", "--models", "*"];
    let said = scene.ok(&set).await;
    assert_eq!(said, format!("token/{id}: 500000 tokens a day, 2 requests a minute\n"));
    let set = ["user", "set", "BOB", "--max-concurrent", "3", "--tokens-per-day", "2M"];
    assert_eq!(scene.ok(&set).await, "user/BOB: 2000000 tokens a day, 3 calls at a time\n");
    let tokens = scene.ok(&["get", "token"]).await;
    let line = tokens.lines().find(|line| line.starts_with(id)).unwrap();
    assert!(line.contains("500000") && line.contains("bob"), "{tokens}");
    assert_eq!(
        scene.ok(&["token", "list", "-o", "name"]).await,
        scene.ok(&["get", "token", "-o", "name"]).await
    );
    // A user with one token stands for it.
    let said = scene.ok(&["token", "set", "Bob", "--max-concurrent", "9"]).await;
    assert_eq!(said, format!("token/{id}: 500000 tokens a day, 2 requests a minute, 9 calls at a time\n"));
    scene.ok(&["token", "set", id, "--max-concurrent", "none"]).await;
    let users = scene.ok(&["get", "user", "-o", "wide"]).await;
    let cells: Vec<&str> =
        users.lines().find(|line| line.starts_with("bob")).unwrap().split_whitespace().collect();
    assert_eq!(cells[..8], ["bob", "member", "1", "-", "2000000", "0", "-", "3"], "{users}");
    let described = scene.ok(&["describe", "user", "bob"]).await;
    assert!(described.contains("Tokens Per Day:       2000000\n"), "{described}");
    assert!(scene.ok(&["describe", "token", id]).await.contains("Requests Per Minute:  2\n"));
    // The user's own view, and the limit at work.
    let bob = Http::new(&scene.url, made["token"].as_str().unwrap());
    let me = bob.get("/api/v1/whoami").await.json();
    assert_eq!(
        (&me["userLimits"]["maxConcurrent"], &me["tokenLimits"]["requestsPerMinute"]),
        (&json!(3), &json!(2))
    );
    let url = format!("http://127.0.0.1:{}/v1", free_port());
    let llm = ["create", "llm", "away", "--type", "openai", "--model", "m", "--url", &url];
    scene.ok(&[&llm[..], &["--visibility", "public"]].concat()).await;
    let call = json!({ "model": "away", "messages": [] });
    for expected in [502, 502, 429] {
        assert_eq!(bob.post("/v1/chat/completions", &call).await.status, expected);
    }
    // `apply` leaves them alone.
    let yaml = scene.ok(&["get", "user", "-o", "yaml"]).await;
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
    assert_eq!((applied.code(), applied.stdout.contains("user/bob unchanged")), (0, true), "{applied:?}");
    let clear = ["user", "set", "bob", "--max-concurrent", "none", "--tokens-per-day", "none"];
    assert_eq!(scene.ok(&clear).await, "user/bob: no limits\n");
    scene.fails(&["user", "set", "bob", "--models", "none"], 2, "'*' is for all").await;
    scene.fails(&["user", "set", "bob"], 2, "--tokens-per-day").await;
    scene.fails(&["user", "set", "bob", "--tokens-per-day", "0"], 2, "or none").await;
    scene.fails(&["user", "set", "bob", "--models", "a b"], 1, "models: name 1 to 64").await;
    scene.fails(&["user", "set", "nobody", "--max-concurrent", "1"], 1, "there is no user 'nobody'").await;
    scene.fails(&["token", "set", "tok-0", "--max-concurrent", "1"], 1, "there is no token 'tok-0'").await;
}
