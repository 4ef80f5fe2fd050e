//! Error messages for the mistakes of a new user, and all help texts, as golden files. `BLESS=1 cargo test` rewrites them.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::golden::{Sheet, golden};
use testkit::process::{Home, Process};

const ADMIN: &str = "an-admin-token-for-tests-alone";

fn config(value: &Value) -> Home {
    let home = Home::new();
    home.write("config.json", &value.to_string());
    home
}

fn provider(extra: &Value) -> Home {
    let mut provider = json!({ "name": "qwen", "type": "vllm", "model": "m", "publish": true });
    for (key, value) in extra.as_object().unwrap().clone() {
        provider[key] = value;
    }
    let home = config(&json!({ "llm": { "providers": [provider] } }));
    home.credentials("http://127.0.0.1:9", "t");
    home
}

#[actix_rt::test]
async fn each_mistake_of_a_new_user_gets_its_golden_message() {
    let mut sheet = Sheet::default();
    let empty = Home::new();
    sheet.mistake("nothing configured", &empty, &["publish"], &[]).await;
    sheet.mistake("no credentials", &empty, &["get", "llm"], &[]).await;
    let unlogged = config(&json!({ "providers": [{ "name": "a", "type": "mock", "publish": true }] }));
    sheet.mistake("no credentials to publish with", &unlogged, &["publish"], &[]).await;
    let broken = Home::new();
    broken.write("config.json", "{ \"llm\": {\n  \"providers\": [ }\n");
    sheet.mistake("broken JSON", &broken, &["publish"], &[]).await;
    sheet.mistake("a wrong type", &provider(&json!({ "maxConcurrency": "four" })), &["publish"], &[]).await;
    sheet.mistake("no URL", &provider(&json!({ "type": "openai" })), &["publish"], &[]).await;
    sheet.mistake("a wrong URL", &provider(&json!({ "url": "localhost:8000" })), &["publish"], &[]).await;
    sheet
        .mistake(
            "a bad recipe",
            &provider(&json!({ "wake": { "type": "shell", "command": "x" } })),
            &["publish"],
            &[],
        )
        .await;
    sheet.mistake("a name too long", &provider(&json!({ "name": "x".repeat(101) })), &["publish"], &[]).await;
    sheet
        .mistake("a name with capitals", &provider(&json!({ "publishName": "Qwen" })), &["publish"], &[])
        .await;
    let twice = json!({ "name": "a", "type": "mock", "publish": true });
    sheet
        .mistake("a name taken twice", &config(&json!({ "providers": [twice, twice] })), &["publish"], &[])
        .await;
    let open = provider(&json!({ "wake": { "type": "command", "command": "true" } }));
    let path = open.mcpctl().join("config.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    sheet.mistake("a recipe that others can write", &open, &["publish"], &[]).await;
    let folder = Home::new();
    std::fs::create_dir_all(folder.mcpctl().join("config.json")).unwrap();
    sheet.mistake("a folder for a file", &folder, &["publish"], &[]).await;
    let locked = provider(&json!({}));
    let path = locked.mcpctl().join("config.json");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&path).is_err() {
        // Root can read any file, so the check runs only for other users.
        let said = locked.run(&["publish"]).await.stderr;
        assert!(said.contains("cannot read") && said.contains("Permission denied"), "{said}");
    }
    let looped = Home::new();
    std::fs::create_dir_all(looped.mcpctl()).unwrap();
    std::os::unix::fs::symlink("config.json", looped.mcpctl().join("config.json")).unwrap();
    sheet.mistake("an unreadable file", &looped, &["publish"], &[]).await;
    sheet
        .mistake("a key misspelt", &provider(&json!({ "publish": null, "publsh": true })), &["publish"], &[])
        .await;
    let remote = Home::new();
    remote.credentials("http://hub.example", "t");
    sheet.mistake("plain http to another machine", &remote, &["get", "llm"], &[]).await;
    sheet.mistake("no such command", &empty, &["pubish"], &[]).await;
    sheet.mistake("no such duration", &empty, &["publish", "--drain-timeout", "5x"], &[]).await;
    sheet.mistake("no terminal", &empty, &["login", "http://127.0.0.1:9"], &[]).await;
    sheet.mistake("no registrar", &empty, &["status"], &[]).await;
    sheet.is_golden("errors.txt");
}

#[actix_rt::test]
async fn each_refusal_of_a_hub_is_printed_with_the_next_step() {
    let mut sheet = Sheet::default();
    let home = Home::new();
    let mut command = home.command(&["hub", "--in-memory", "--listen", "127.0.0.1:0"]);
    let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
    hub.logs("http://127.0.0.1:").await;
    let log = hub.stderr();
    let after = log.split("http://127.0.0.1:").nth(1).unwrap();
    let port: String = after.chars().take_while(char::is_ascii_digit).collect();
    let url = format!("http://127.0.0.1:{port}");
    let free = testkit::free_port().to_string();
    let hidden = [(port.as_str(), "PORT"), (free.as_str(), "FREE")];
    home.credentials(&format!("http://127.0.0.1:{free}"), ADMIN);
    sheet.mistake("no hub there", &home, &["get", "llm"], &hidden).await;
    home.credentials(&format!("https://127.0.0.1:{port}"), ADMIN);
    sheet.mistake("https for http", &home, &["get", "llm"], &hidden).await;
    home.credentials(&url, "wrong");
    sheet.mistake("a wrong token", &home, &["get", "llm"], &hidden).await;
    home.providers(&json!([{ "name": "a", "type": "mock", "publish": true }]));
    sheet
        .mistake(
            "a port in use",
            &home,
            &["hub", "--in-memory", "--listen", &format!("127.0.0.1:{port}")],
            &hidden,
        )
        .await;
    home.credentials(&url, ADMIN);
    sheet.mistake("no such LLM", &home, &["chat-llm", "nope", "-m", "x"], &hidden).await;
    sheet.mistake("no such LLM to describe", &home, &["describe", "llm", "nope"], &hidden).await;
    sheet.mistake("no such agent to delete", &home, &["delete", "agent", "nope"], &hidden).await;
    sheet.is_golden("refusals.txt");
}

/// The names under "Commands" in a help text.
fn subcommands(help: &str) -> Vec<String> {
    let listed = help.split_once("\nCommands:\n").map_or("", |(_, rest)| rest);
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names =
        lines.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[actix_rt::test]
async fn every_help_text_matches_its_golden_file_and_has_an_example() {
    let home = Home::new();
    let mut text = String::new();
    let mut global = String::new();
    let mut commands = vec![String::new()];
    while let Some(command) = commands.pop() {
        let args: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let outcome = home.run(&args).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        let mut help = outcome.stdout;
        assert!(help.contains("Example"), "{command} has no example");
        commands.extend(subcommands(&help).iter().rev().map(|name| format!("{command} {name}")));
        // Most end with the same options in the same layout, which are here once.
        if global.is_empty() {
            let from = help.find("Global options:").unwrap();
            global = help[from..from + help[from..].find("\n\n").unwrap()].to_owned();
        } else {
            help = help.replace(&global, "Global options: as above");
        }
        writeln!(text, "$ virtual-llm {}\n{help}", args.join(" ")).unwrap();
    }
    golden("help.txt", &text);
}
