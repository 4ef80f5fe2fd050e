//! Management commands of admins and members: tokens, login, rows, agents, apply, check.

mod aliases;
mod apply;
mod limits;

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

/// Who is asked for a token and has a link gives that.
#[actix_rt::test]
async fn login_takes_a_pasted_link_of_the_same_hub() {
    let scene = Scene::start().await;
    let link = scene.ok(&["token", "create", "--user", "alice", "--link"]).await;
    let alice = Home::new();
    let other = run_with_input(&alice, &["login", "http://127.0.0.1:1"], &link).await;
    assert!(other.code() == 2 && other.stderr.contains("of another hub"), "{other:?}");
    let login = run_with_input(&alice, &["login", &scene.url], &link).await;
    assert!(login.code() == 0 && login.stdout.contains(" as alice (member); "), "{login:?}");
    let login = run_with_input(&alice, &["login", &scene.url], ADMIN).await;
    assert!(login.stdout.contains(" as admin (admin); "), "{login:?}");
    assert!(login.stdout.contains("in the place of the login before"), "{login:?}");
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
