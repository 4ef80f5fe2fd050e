//! The command `alias`.

use super::*;

#[actix_rt::test]
async fn aliases_are_set_listed_applied_and_deleted() {
    let scene = Scene::start().await;
    scene.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let set = scene.ok(&["alias", "set", "claude-*", "echo"]).await;
    assert_eq!(set, "alias/claude-* stands for echo (calls of all users)\n");
    scene.ok(&["alias", "set", "openai/gpt-5", "echo", "--user", "admin"]).await;
    assert!(!scene.ok(&["chat-llm", "openai/gpt-5", "-m", "hello"]).await.trim().is_empty());
    let list = scene.ok(&["get", "alias"]).await;
    let cells = |line: &str| line.split_whitespace().take(4).map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = list.lines().map(cells).collect();
    assert_eq!(rows[0], ["NAME", "TARGET", "STATUS", "USER"]);
    assert_eq!(rows[1], ["claude-*", "echo", "active", "(all)"]);
    assert_eq!(rows[2], ["openai/gpt-5", "echo", "active", "admin"]);
    let yaml = scene.ok(&["get", "alias", "-o", "yaml"]).await;
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
    assert_eq!(applied.stdout, "alias/claude-* unchanged\nalias/openai/gpt-5 unchanged\n", "{applied:?}");
    let deleted = scene.ok(&["alias", "delete", "openai/gpt-5", "--user", "admin"]).await;
    assert_eq!(deleted, "alias/openai/gpt-5 deleted\n");
    scene.fails(&["alias", "delete", "openai/gpt-5"], 1, "there is no alias 'openai/gpt-5'").await;
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
    assert_eq!(applied.stdout, "alias/claude-* unchanged\nalias/openai/gpt-5 created\n", "{applied:?}");
    scene.fails(&["alias", "set", "gpt-*-mini", "echo"], 1, "may end in *").await;
    scene.fails(&["alias", "set", "gpt", "nothing"], 1, "LLM 'nothing' not found").await;
}

/// The hub finds the name of a chat: a row that another user publishes under an alias's name gets none of its messages.
#[actix_rt::test]
async fn a_chat_follows_an_alias_whatever_others_publish() {
    let scene = Scene::start().await;
    scene
        .admin
        .providers(&json!([{ "name": "echo", "type": "mock", "publish": true, "visibility": "public" }]));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    scene.ok(&["alias", "set", "claude-*", "echo"]).await;
    let token = scene.ok(&["token", "create", "--user", "mallory"]).await;
    let mallory = Home::new();
    mallory.credentials(&scene.url, token.trim());
    mallory.providers(
        &json!([{ "name": "claude-haiku", "type": "mock", "publish": true, "visibility": "public" }]),
    );
    let squat = mallory.start(&["publish"]);
    squat.logs("control channel open").await;
    scene.ok(&["chat-llm", "claude-haiku", "-m", "hello"]).await;
    let tasks: serde_json::Value =
        serde_json::from_str(&scene.ok(&["get", "task", "-o", "json"]).await).unwrap();
    assert_eq!((&tasks[0]["llmName"], tasks.as_array().unwrap().len()), (&json!("echo"), 1), "{tasks}");
}
