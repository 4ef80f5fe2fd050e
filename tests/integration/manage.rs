//! Management commands of admins and members: tokens, login, rows, agents, apply, check.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::process::{Home, Outcome, Process};
use tokio::io::AsyncWriteExt as _;

const ADMIN: &str = "an-admin-token-for-tests-alone";

/// A hub, and the home directory of a logged-in admin.
struct Scene {
    hub: Process,
    url: String,
    admin: Home,
}

impl Scene {
    async fn start() -> Self {
        let admin = Home::new();
        let mut command = admin.command(&["hub", "--in-memory", "--listen", "127.0.0.1:0"]);
        let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
        hub.logs("http://127.0.0.1:").await;
        let log = hub.stderr();
        let url: String = log[log.find("http://127.0.0.1:").unwrap()..]
            .chars()
            .take_while(|c| !c.is_whitespace() && !matches!(c, ',' | ';' | '\u{1b}'))
            .collect();
        admin.credentials(&url, ADMIN);
        Self { hub, url, admin }
    }

    async fn ok(&self, args: &[&str]) -> String {
        let outcome = self.admin.run(args).await;
        assert_eq!(outcome.code(), 0, "{args:?}: {outcome:?}");
        outcome.stdout
    }

    async fn fails(&self, args: &[&str], code: i32, text: &str) {
        let outcome = self.admin.run(args).await;
        assert_eq!(outcome.code(), code, "{args:?}: {outcome:?}");
        assert!(outcome.stderr.contains(text), "{args:?}: {outcome:?}");
    }
}

/// Runs the binary with `input` on its standard input.
async fn run_with_input(home: &Home, args: &[&str], input: &str) -> Outcome {
    let mut child = home.command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    Process::new(child).end().await
}

#[actix_rt::test]
async fn a_new_user_logs_in_with_the_token_that_an_admin_made() {
    let scene = Scene::start().await;
    let made = scene.ok(&["token", "create", "--user", "alice", "--expires", "30d"]).await;
    let secret = made.trim();
    let alice = Home::new();
    // `--token-file -` reads the whole output of `token create`.
    let login = run_with_input(&alice, &["login", &scene.url, "--token-file", "-"], &made).await;
    assert_eq!(login.code(), 0, "{login:?}");
    assert!(!format!("{login:?}").contains(secret), "the token must not be printed");
    let mode = std::fs::metadata(alice.mcpctl().join("credentials")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(alice.run(&["get", "llm"]).await.code(), 0);
    let forbidden = alice.run(&["token", "list"]).await;
    assert_eq!(forbidden.code(), 1);
    assert!(forbidden.stderr.contains("for admins only"), "{forbidden:?}");
    let list = scene.ok(&["token", "list", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = list.as_array().unwrap().iter().find(|token| token["user"] == "alice").unwrap()["id"].clone();
    scene.ok(&["token", "revoke", id.as_str().unwrap()]).await;
    let revoked = alice.run(&["get", "llm"]).await;
    assert!(revoked.stderr.contains("does not accept the token"), "{revoked:?}");
}

#[actix_rt::test]
async fn login_writes_nothing_for_a_token_that_the_hub_refuses() {
    let scene = Scene::start().await;
    let home = Home::new();
    let login = run_with_input(&home, &["login", &scene.url], "wrong\n").await;
    assert_eq!(login.code(), 1);
    assert!(login.stderr.contains("does not accept this token"), "{login:?}");
    assert!(!home.mcpctl().join("credentials").exists());
}

#[actix_rt::test]
async fn apply_of_gets_yaml_output_changes_nothing() {
    let scene = Scene::start().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    scene.ok(&[llm.as_slice(), &["--description", "yes", "--pool-name", "p"]].concat()).await;
    scene
        .ok(&[
            "create",
            "agent",
            "helper",
            "--llm",
            "gpt",
            "--system-prompt",
            "a: b\n- c",
            "--default-params",
            r#"{"temperature":0.2}"#,
        ])
        .await;
    for (kind, expected) in [("llm", "llm/gpt unchanged\n"), ("agents", "agent/helper unchanged\n")] {
        let yaml = scene.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
        assert_eq!(applied.stdout, expected, "{applied:?}");
        assert_eq!(scene.ok(&["get", kind, "-o", "yaml"]).await, yaml);
    }
    // Virtual rows, sessions and tasks cannot be created with `apply`.
    scene.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let id = scene.ok(&["chat-llm", "echo", "--async", "-m", "hi"]).await;
    testkit::wait::wait_for("the task ends", || async {
        scene.ok(&["get", "task", id.trim(), "-o", "yaml"]).await.contains("status: completed").then_some(())
    })
    .await;
    for kind in ["llm", "agent", "session", "task"] {
        let yaml = scene.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &yaml).await;
        assert!(applied.stdout.lines().count() > 0 && applied.code() == 0, "{kind}: {applied:?}");
        assert!(applied.stdout.lines().all(|line| line.ends_with(" unchanged")), "{kind}: {applied:?}");
        // A heartbeat may change the times meanwhile.
        let still = |yaml: &str| {
            yaml.lines().filter(|line| !line.contains("eartbeat")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(still(&scene.ok(&["get", kind, "-o", "yaml"]).await), still(&yaml), "{kind}");
    }
    let changed = scene.ok(&["get", "llm", "gpt", "-o", "yaml"]).await.replace("model: m", "model: other");
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &changed).await;
    assert_eq!(applied.stdout, "llm/gpt configured\n", "{applied:?}");
    let row: Value = serde_json::from_str(&scene.ok(&["get", "llm", "gpt", "-o", "json"]).await).unwrap();
    assert_eq!((&row["model"], &row["poolName"]), (&json!("other"), &json!("p")));
    // A stored key is not sent to another server: a changed URL drops the key, with a warning.
    let keyed = "{name: keyed, type: openai, model: m, url: 'https://x.example/v1', apiKey: sk-canary}";
    assert_eq!(
        run_with_input(&scene.admin, &["apply", "-f", "-"], keyed).await.stdout,
        "llm/keyed created\n"
    );
    let moved = keyed.replace("x.example", "y.example").replace(", apiKey: sk-canary", "");
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &moved).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "llm/keyed configured\n"));
    assert!(applied.stderr.contains("warning: the url names another server"), "{applied:?}");
}

/// A34: of another user's agent whose LLM is hidden, the output has no `llmName`.
#[actix_rt::test]
async fn apply_keeps_an_agent_whose_llm_is_hidden() {
    let scene = Scene::start().await;
    let agent = ["create", "agent", "helper", "--llm", "hidden", "--visibility", "public"];
    scene.ok(&agent).await;
    let bob = Home::new();
    bob.credentials(&scene.url, scene.ok(&["token", "create", "--user", "bob"]).await.trim());
    let yaml = bob.run(&["get", "agent", "-o", "yaml"]).await.stdout;
    assert!(yaml.contains("llmName: null"), "{yaml}");
    let after = "- {name: own, llmName: helper}";
    for home in [&bob, &scene.admin] {
        let applied = run_with_input(home, &["apply", "-f", "-"], &yaml).await;
        assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/helper unchanged\n"), "{applied:?}");
    }
    scene.ok(&["delete", "agent", "helper"]).await;
    // The other objects of the file are applied.
    let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &format!("{yaml}{after}\n")).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/own created\n"), "{applied:?}");
    assert!(applied.stderr.contains("agent/helper skipped: its llmName is hidden"), "{applied:?}");
}

/// A34: an agent of another user would open the caller's private LLM of the same name.
#[actix_rt::test]
async fn apply_does_not_create_what_was_another_users() {
    let scene = Scene::start().await;
    let mallory = Home::new();
    mallory.credentials(&scene.url, scene.ok(&["token", "create", "--user", "mallory"]).await.trim());
    let agent = ["create", "agent", "helper", "--llm", "private", "--visibility", "public"];
    assert_eq!(mallory.run(&agent).await.code(), 0);
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    scene.ok(&llm).await;
    let [agents, llms] =
        [scene.ok(&["get", "agent", "-o", "yaml"]).await, scene.ok(&["get", "llm", "-o", "yaml"]).await];
    let other = Scene::start().await;
    let applied = run_with_input(&other.admin, &["apply", "-f", "-"], &format!("{agents}{llms}")).await;
    // The caller's own objects of the file are created.
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "llm/gpt created\n"), "{applied:?}");
    assert!(applied.stderr.contains("agent/helper skipped: it was mallory's"), "{applied:?}");
    let chosen = agents.replace("ownerId: mallory", "ownerId: null");
    let applied = run_with_input(&other.admin, &["apply", "-f", "-"], &chosen).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "agent/helper created\n"), "{applied:?}");
}

/// A virtual row without its registrar would be a public one without an address.
#[actix_rt::test]
async fn apply_leaves_what_a_workstation_publishes_to_it() {
    let scene = Scene::start().await;
    for (object, fields) in [("llm", "type: openai\nmodel: m"), ("agent", "llmName: other")] {
        let file = format!("name: lent\nkind: virtual\n{fields}\n");
        let applied = run_with_input(&scene.admin, &["apply", "-f", "-"], &file).await;
        assert_eq!((applied.code(), applied.stdout.as_str()), (0, ""), "{applied:?}");
        assert!(applied.stderr.contains(&format!("{object}/lent skipped: it is published")), "{applied:?}");
    }
}

#[actix_rt::test]
async fn rows_and_agents_are_created_described_and_deleted() {
    let scene = Scene::start().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    assert_eq!(scene.ok(&[llm.as_slice(), &["--pool-name", "p"]].concat()).await, "llm/gpt created\n");
    scene.fails(&llm, 1, "gpt").await;
    scene.fails(&[llm.as_slice(), &["--api-key-env", "NOT_SET"]].concat(), 2, "NOT_SET").await;
    let described = scene.ok(&["describe", "llm", "gpt"]).await;
    assert!(described.contains("Pool p (1 of 1 active)") && described.contains("← this row"), "{described}");
    let table = scene.ok(&["get", "llms"]).await;
    let heads: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads.join(" "), "NAME POOL KIND STATUS TYPE MODEL TIER VISIBILITY AGE ID");
    assert_eq!(scene.ok(&["get", "llm", "-o", "name"]).await, "llm/gpt\n");
    assert_eq!(scene.ok(&["delete", "llm", "gpt"]).await, "llm/gpt deleted\n");
    for command in ["delete", "describe", "get"] {
        scene
            .fails(
                &[command, "llm", "gpt"],
                1,
                "error: there is no llm 'gpt'; `virtual-llm get llm` lists them\n",
            )
            .await;
    }
}

/// A34: a row that names another user's pool waits for its admission; the registrar, the hub's log and the pool's owner see it.
#[actix_rt::test]
async fn an_llm_for_another_users_pool_waits_and_both_users_see_it() {
    let scene = Scene::start().await;
    let mut homes = Vec::new();
    for user in ["alice", "bob"] {
        let home = Home::new();
        home.credentials(&scene.url, scene.ok(&["token", "create", "--user", user]).await.trim());
        home.providers(&json!([{ "name": format!("echo-{user}"), "type": "mock", "publish": true,
            "visibility": "public", "poolName": "echoes" }]));
        let publish = home.start(&["publish"]);
        publish.logs("control channel open").await;
        homes.push((home, publish));
    }
    let [(alice, _), (bob, bobs)] = homes.as_slice() else { panic!() };
    bobs.logs("LLM echo-bob waits for alice").await;
    scene.hub.logs("LLM echo-bob waits for alice").await;
    for command in [&["status"][..], &["check"], &["describe", "llm", "echo-bob"]] {
        let said = bob.run(command).await;
        assert!(said.stdout.contains("virtual-llm pool admit echoes echo-bob"), "{command:?}: {said:?}");
    }
    assert!(bob.run(&["get", "llm"]).await.stdout.contains("echoes (waits)"));
    let pool = alice.run(&["get", "pool"]).await.stdout;
    let cells: Vec<_> = pool.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(cells, ["echoes", "alice", "echo-alice", "echo-bob"], "{pool}");
    // An LLM of this name is not there: the pool is meant.
    for kind in ["pool", "llm"] {
        let described = alice.run(&["describe", kind, "echoes"]).await.stdout;
        let (members, waiting) = described.split_once("Waiting to be admitted").unwrap();
        assert!(members.contains("1 of 1 active") && members.contains("echo-alice"), "{described}");
        assert!(!members.contains("echo-bob") && waiting.contains("echo-bob"), "{described}");
    }
    let refused = bob.run(&["pool", "admit", "echoes", "echo-bob"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("for its owner and admins only"), "{refused:?}");
    let admitted = alice.run(&["pool", "admit", "echoes", "echo-bob"]).await;
    assert_eq!(admitted.stdout, "llm/echo-bob serves the pool echoes\n", "{admitted:?}");
    for command in [&["status"][..], &["check"], &["describe", "llm", "echo-bob"]] {
        let said = bob.run(command).await;
        assert!(said.code() == 0 && !said.stdout.contains("waits"), "{command:?}: {said:?}");
    }
    let described = alice.run(&["describe", "pool", "echoes"]).await.stdout;
    assert!(described.contains("2 of 2 active") && !described.contains("Waiting"), "{described}");
    let removed = scene.ok(&["pool", "remove", "echoes", "echo-bob"]).await;
    assert_eq!(removed, "llm/echo-bob no longer serves the pool echoes\n");
    // The registrar logs that an admin has deleted its published LLM.
    scene.ok(&["delete", "llm", "echo-bob"]).await;
    bob.run(&["pause"]).await;
    bobs.logs("an admin has deleted echo-bob").await;
}

/// A34: an unused name is listed, can be given to another user, and can be freed.
#[actix_rt::test]
async fn a_reserved_name_is_listed_given_away_and_freed() {
    let scene = Scene::start().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    scene.ok(&llm).await;
    scene.fails(&["delete", "name", "gpt"], 1, "in use").await;
    scene.ok(&["delete", "llm", "gpt"]).await;
    assert_eq!(scene.ok(&["get", "name", "-o", "name"]).await, "name/gpt\n");
    scene.fails(&["name", "give", "gpt", "alice"], 1, "no user 'alice'").await;
    scene.ok(&["token", "create", "--user", "alice"]).await;
    assert_eq!(scene.ok(&["name", "give", "gpt", "alice"]).await, "name/gpt is alice's\n");
    scene.fails(&llm, 1, "`virtual-llm delete name gpt` frees it").await;
    assert_eq!(scene.ok(&["delete", "name", "gpt"]).await, "name/gpt deleted\n");
    scene.fails(&["get", "name", "gpt"], 1, "there is no name 'gpt'").await;
    scene.ok(&llm).await;
}

#[actix_rt::test]
async fn check_prints_one_line_for_each_error_and_exits_with_1() {
    let scene = Scene::start().await;
    let good = json!({ "name": "echo", "type": "mock", "publish": true });
    scene.admin.providers(&json!([good]));
    let said = scene.ok(&["check"]).await;
    assert!(said.contains("1 to publish") && said.contains("accepts the token"), "{said}");
    assert!(!said.contains(ADMIN));
    let wake = json!({ "type": "command", "command": "no-such-command" });
    let bad = json!([good, { "name": "x", "type": "mock", "publish": true, "wake": wake }, { "name": 5, "type": "mock", "publish": true }]);
    scene.admin.providers(&bad);
    let outcome = scene.admin.run(&["check"]).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    for text in ["llm.providers[2].name", "no-such-command"] {
        assert!(
            outcome.stdout.lines().any(|line| line.starts_with("error") && line.contains(text)),
            "{outcome:?}"
        );
    }
}

#[actix_rt::test]
async fn a_piped_conversation_has_context_and_ends_with_its_input() {
    let scene = Scene::start().await;
    scene.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let file = scene.admin.path().join("talk.json");
    let lines = format!("/system be brief\nfirst\n\"\"\"\nsecond\nhalf\n\"\"\"\n/save {}\n", file.display());
    let talk = run_with_input(&scene.admin, &["chat-llm", "echo"], &lines).await;
    assert_eq!((talk.code(), talk.stdout.as_str()), (0, "first\nsecond half\n"), "{talk:?}");
    let saved: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let roles: Vec<_> = saved.as_array().unwrap().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    drop(publish);
}

#[actix_rt::test]
async fn sharing_a_private_llm_warns_that_it_stays_private_and_how_to_change_it() {
    let scene = Scene::start().await;
    let provider = |visibility: &str| json!([{ "name": "a", "type": "mock", "publish": true, "visibility": visibility }]);
    scene.admin.providers(&provider("private"));
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    scene.admin.providers(&provider("public"));
    publish.signal(nix::sys::signal::Signal::SIGHUP);
    publish.logs("LLM a stays private").await;
    publish.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(publish.end().await.code(), 0);
    // The remedy from the warning.
    scene.ok(&["delete", "llm", "a"]).await;
    let publish = scene.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let row: Value = serde_json::from_str(&scene.ok(&["get", "llm", "a", "-o", "json"]).await).unwrap();
    assert_eq!(row["visibility"], "public");
    assert!(!publish.stderr().contains("stays private"), "{}", publish.stderr());
}

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
