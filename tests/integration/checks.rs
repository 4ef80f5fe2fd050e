//! `check` reports every mistake in a configuration, in the same words as the command that would fail.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::classic_hub::ClassicHub;
use testkit::golden::Sheet;
use testkit::process::Home;

/// A home directory that has a provider with the members of `extra`, and credentials for `hub`.
fn home(hub: &ClassicHub, extra: &Value) -> Home {
    let mut provider = json!({ "name": "qwen", "type": "mock", "publish": true });
    for (key, value) in extra.as_object().unwrap().clone() {
        provider[key] = value;
    }
    raw(hub, &json!({ "llm": { "providers": [provider] } }).to_string())
}

fn raw(hub: &ClassicHub, config: &str) -> Home {
    let home = Home::new();
    home.write("config.json", config);
    home.credentials(&hub.url(), "t");
    hub.script("/api/v1/llms", [(200, json!([]))]);
    home
}

fn set_mode(home: &Home, file: &str, mode: u32) {
    std::fs::set_permissions(home.mcpctl().join(file), std::fs::Permissions::from_mode(mode)).unwrap();
}

#[actix_rt::test]
async fn check_finds_each_mistake_of_a_configuration() {
    let hub = ClassicHub::start();
    let backend = FakeBackend::start();
    let free = testkit::free_port().to_string();
    let (port, backend_port) = (hub.port().to_string(), backend.port().to_string());
    let hidden = [(port.as_str(), "HUB"), (backend_port.as_str(), "BACKEND"), (free.as_str(), "FREE")];
    let at_backend = |model: &str| json!({ "type": "openai", "model": model, "url": backend.url() });
    let mut sheet = Sheet::default();

    sheet.mistake("all is well", &home(&hub, &at_backend("fake-model")), &["check"], &hidden).await;
    let nothing = Home::new();
    sheet.mistake("nothing there", &nothing, &["check"], &hidden).await;
    for (what, config) in [
        ("broken JSON", "{ \"llm\": {\n  \"providers\": [ }\n"),
        ("a comma too many", "{ \"llm\": { \"providers\": [] },\n}\n"),
        ("a list for an object", "[]"),
    ] {
        sheet.mistake(what, &raw(&hub, config), &["check"], &hidden).await;
    }
    let mut misspelt = json!({ "name": "qwen", "type": "mock", "publish": true, "visibilty": "public" });
    misspelt["wake"] = json!({ "type": "command", "comand": "true", "command": "true" });
    let misspelt = raw(&hub, &json!({ "llm": { "provider": [], "providers": [misspelt] } }).to_string());
    sheet.mistake("keys misspelt", &misspelt, &["check"], &hidden).await;
    for (what, extra) in [
        ("a wrong type", json!({ "maxConcurrency": "four" })),
        ("an unknown word", json!({ "visibility": "everybody" })),
        ("an unknown backend", json!({ "type": "vlllm", "model": "m" })),
        ("no URL", json!({ "type": "openai", "model": "m" })),
        ("a wrong URL", json!({ "type": "vllm", "model": "m", "url": "localhost:8000" })),
        ("no model", json!({ "type": "vllm" })),
        ("a bad recipe", json!({ "wake": { "type": "shell", "command": "x" } })),
        (
            "a recipe's program missing",
            json!({ "wake": { "type": "command", "command": "no-such-program" } }),
        ),
        (
            "sleep without wake",
            json!({ "sleep": { "type": "command", "command": "true", "idleSeconds": 60 } }),
        ),
        ("a name too long", json!({ "name": "x".repeat(101) })),
        ("a name with capitals", json!({ "name": "Qwen" })),
        (
            "the backend is down",
            json!({ "type": "openai", "model": "m", "url": format!("http://127.0.0.1:{free}/v1") }),
        ),
        (
            "the backend sleeps",
            json!({ "type": "openai", "model": "m", "url": format!("http://127.0.0.1:{free}/v1"),
                "wake": { "type": "command", "command": "true" } }),
        ),
        ("the backend has no such model", at_backend("other-model")),
        (
            "llama.cpp lists its one model by a path",
            json!({ "type": "llamacpp", "model": "other-model", "url": backend.url() }),
        ),
        (
            "the variable of a key is not set",
            json!({ "type": "openai", "model": "fake-model", "url": backend.url(), "apiKeyEnv": "NO_SUCH_KEY" }),
        ),
    ] {
        sheet.mistake(what, &home(&hub, &extra), &["check"], &hidden).await;
    }
    backend.script(|script| script.max_model_len = Some(8192));
    let mut able = at_backend("fake-model");
    able["capabilities"] = json!({ "tools": true, "vision": false });
    sheet
        .mistake(
            "the backend and its owner say what the model can do",
            &home(&hub, &able),
            &["check"],
            &hidden,
        )
        .await;
    let mock = json!({ "name": "a", "type": "mock", "publish": true });
    let twice = raw(&hub, &json!({ "providers": [mock, mock] }).to_string());
    sheet.mistake("a name taken twice", &twice, &["check"], &hidden).await;

    let open = home(&hub, &json!({ "wake": { "type": "command", "command": "true" } }));
    set_mode(&open, "config.json", 0o666);
    sheet.mistake("a recipe that others can write", &open, &["check"], &hidden).await;
    let open =
        home(&hub, &json!({ "type": "openai", "model": "fake-model", "url": backend.url(), "apiKey": "k" }));
    set_mode(&open, "config.json", 0o644);
    set_mode(&open, "credentials", 0o644);
    sheet.mistake("keys that others can read", &open, &["check"], &hidden).await;
    let folder = raw(&hub, "{}");
    std::fs::remove_file(folder.mcpctl().join("config.json")).unwrap();
    std::fs::create_dir(folder.mcpctl().join("config.json")).unwrap();
    sheet.mistake("a folder for a file", &folder, &["check"], &hidden).await;
    let looped = raw(&hub, "{}");
    std::fs::remove_file(looped.mcpctl().join("config.json")).unwrap();
    std::os::unix::fs::symlink("config.json", looped.mcpctl().join("config.json")).unwrap();
    sheet.mistake("a link to itself", &looped, &["check"], &hidden).await;

    let logged_out = home(&hub, &json!({}));
    std::fs::remove_file(logged_out.mcpctl().join("credentials")).unwrap();
    sheet.mistake("no credentials", &logged_out, &["check"], &hidden).await;
    let away = home(&hub, &json!({}));
    away.credentials(&format!("http://127.0.0.1:{free}"), "t");
    sheet.mistake("no hub there", &away, &["check"], &hidden).await;
    let hub_saying_no = ClassicHub::start();
    hub_saying_no.script("/api/v1/llms", [(401, json!({ "error": "unauthorized" }))]);
    let refused = home(&hub, &json!({}));
    refused.credentials(&hub_saying_no.url(), "t");
    let no_port = hub_saying_no.port().to_string();
    sheet.mistake("a wrong token", &refused, &["check"], &[(no_port.as_str(), "HUB")]).await;
    let remote = home(&hub, &json!({}));
    remote.credentials("http://hub.example", "t");
    sheet.mistake("plain http to another machine", &remote, &["check"], &hidden).await;
    sheet.is_golden("check.txt");
}
