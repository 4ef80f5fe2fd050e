//! What an admin and a member do at a hub from the command line: tokens, login, rows, agents, apply, check.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::process::{Home, Outcome, Process};
use tokio::io::AsyncWriteExt as _;

const ADMIN: &str = "an-admin-token-for-tests-alone";

/// A hub, and an admin who is logged in.
struct Office {
    hub: Process,
    url: String,
    admin: Home,
}

impl Office {
    async fn open() -> Self {
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
async fn fed(home: &Home, args: &[&str], input: &str) -> Outcome {
    let mut child = home.command(args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    Process::new(child).end().await
}

#[actix_rt::test]
async fn a_new_user_logs_in_with_the_token_that_an_admin_made() {
    let office = Office::open().await;
    let made = office.ok(&["token", "create", "--user", "alice", "--expires", "30d"]).await;
    let secret = made.trim();
    let alice = Home::new();
    // All that was printed, as a pipe hands it on.
    let login = fed(&alice, &["login", &office.url, "--token-file", "-"], &made).await;
    assert_eq!(login.code(), 0, "{login:?}");
    assert!(!format!("{login:?}").contains(secret), "the token is shown");
    let mode = std::fs::metadata(alice.mcpctl().join("credentials")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(alice.run(&["get", "llm"]).await.code(), 0);
    let forbidden = alice.run(&["token", "list"]).await;
    assert_eq!(forbidden.code(), 1);
    assert!(forbidden.stderr.contains("for admins only"), "{forbidden:?}");
    let list = office.ok(&["token", "list", "-o", "json"]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let id = list.as_array().unwrap().iter().find(|token| token["user"] == "alice").unwrap()["id"].clone();
    office.ok(&["token", "revoke", id.as_str().unwrap()]).await;
    let revoked = alice.run(&["get", "llm"]).await;
    assert!(revoked.stderr.contains("does not accept the token"), "{revoked:?}");
}

#[actix_rt::test]
async fn login_writes_nothing_for_a_token_that_the_hub_refuses() {
    let office = Office::open().await;
    let home = Home::new();
    let login = fed(&home, &["login", &office.url], "wrong\n").await;
    assert_eq!(login.code(), 1);
    assert!(login.stderr.contains("does not accept this token"), "{login:?}");
    assert!(!home.mcpctl().join("credentials").exists());
}

#[actix_rt::test]
async fn what_get_prints_as_yaml_apply_takes_back_without_a_difference() {
    let office = Office::open().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    office.ok(&[llm.as_slice(), &["--description", "yes", "--pool-name", "p"]].concat()).await;
    office
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
        let yaml = office.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = fed(&office.admin, &["apply", "-f", "-"], &yaml).await;
        assert_eq!(applied.stdout, expected, "{applied:?}");
        assert_eq!(office.ok(&["get", kind, "-o", "yaml"]).await, yaml);
    }
    // What a workstation publishes, and what nobody makes by hand.
    office.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = office.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let id = office.ok(&["chat-llm", "echo", "--async", "-m", "hi"]).await;
    testkit::wait::wait_for("the task ends", || async {
        office.ok(&["get", "task", id.trim(), "-o", "yaml"]).await.contains("status: completed").then_some(())
    })
    .await;
    for kind in ["llm", "agent", "session", "task"] {
        let yaml = office.ok(&["get", kind, "-o", "yaml"]).await;
        let applied = fed(&office.admin, &["apply", "-f", "-"], &yaml).await;
        assert!(applied.stdout.lines().count() > 0 && applied.code() == 0, "{kind}: {applied:?}");
        assert!(applied.stdout.lines().all(|line| line.ends_with(" unchanged")), "{kind}: {applied:?}");
        // A heart may beat meanwhile.
        let still = |yaml: &str| {
            yaml.lines().filter(|line| !line.contains("eartbeat")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(still(&office.ok(&["get", kind, "-o", "yaml"]).await), still(&yaml), "{kind}");
    }
    let changed = office.ok(&["get", "llm", "gpt", "-o", "yaml"]).await.replace("model: m", "model: other");
    let applied = fed(&office.admin, &["apply", "-f", "-"], &changed).await;
    assert_eq!(applied.stdout, "llm/gpt configured\n", "{applied:?}");
    let row: Value = serde_json::from_str(&office.ok(&["get", "llm", "gpt", "-o", "json"]).await).unwrap();
    assert_eq!((&row["model"], &row["poolName"]), (&json!("other"), &json!("p")));
    // A key goes to no other server; whoever moves the row is told.
    let keyed = "{name: keyed, type: openai, model: m, url: 'https://x.example/v1', apiKey: sk-canary}";
    assert_eq!(fed(&office.admin, &["apply", "-f", "-"], keyed).await.stdout, "llm/keyed created\n");
    let moved = keyed.replace("x.example", "y.example").replace(", apiKey: sk-canary", "");
    let applied = fed(&office.admin, &["apply", "-f", "-"], &moved).await;
    assert_eq!((applied.code(), applied.stdout.as_str()), (0, "llm/keyed configured\n"));
    assert!(applied.stderr.contains("warning: the url names another server"), "{applied:?}");
}

#[actix_rt::test]
async fn rows_and_agents_are_made_described_and_deleted() {
    let office = Office::open().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    assert_eq!(office.ok(&[llm.as_slice(), &["--pool-name", "p"]].concat()).await, "llm/gpt created\n");
    office.fails(&llm, 1, "gpt").await;
    office.fails(&[llm.as_slice(), &["--api-key-env", "NOT_SET"]].concat(), 2, "NOT_SET").await;
    let described = office.ok(&["describe", "llm", "gpt"]).await;
    assert!(described.contains("Pool p (1 of 1 active)") && described.contains("← this row"), "{described}");
    let table = office.ok(&["get", "llms"]).await;
    let heads: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads.join(" "), "NAME POOL KIND STATUS TYPE MODEL TIER VISIBILITY AGE ID");
    assert_eq!(office.ok(&["get", "llm", "-o", "name"]).await, "llm/gpt\n");
    assert_eq!(office.ok(&["delete", "llm", "gpt"]).await, "llm/gpt deleted\n");
    for command in ["delete", "describe", "get"] {
        office
            .fails(
                &[command, "llm", "gpt"],
                1,
                "error: there is no llm 'gpt'; `virtual-llm get llm` lists them\n",
            )
            .await;
    }
}

/// A34: a row that names another user's pool waits until it is let in, and whoever has to know is told.
#[actix_rt::test]
async fn an_llm_waits_for_the_owner_of_its_pool_and_both_are_told() {
    let office = Office::open().await;
    let mut homes = Vec::new();
    for user in ["alice", "bob"] {
        let home = Home::new();
        home.credentials(&office.url, office.ok(&["token", "create", "--user", user]).await.trim());
        home.providers(&json!([{ "name": format!("echo-{user}"), "type": "mock", "publish": true,
            "visibility": "public", "poolName": "echoes" }]));
        let publish = home.start(&["publish"]);
        publish.logs("control channel open").await;
        homes.push((home, publish));
    }
    let [(alice, _), (bob, bobs)] = homes.as_slice() else { panic!() };
    bobs.logs("LLM echo-bob waits for alice").await;
    office.hub.logs("LLM echo-bob waits for alice").await;
    for command in [&["status"][..], &["check"], &["describe", "llm", "echo-bob"]] {
        let said = bob.run(command).await;
        assert!(said.stdout.contains("virtual-llm pool admit echoes echo-bob"), "{command:?}: {said:?}");
    }
    assert!(bob.run(&["get", "llm"]).await.stdout.contains("echoes (waits)"));
    let pool = alice.run(&["get", "pool"]).await.stdout;
    let cells: Vec<_> = pool.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(cells, ["echoes", "alice", "echo-alice", "echo-bob"], "{pool}");
    let refused = bob.run(&["pool", "admit", "echoes", "echo-bob"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("for its owner and admins only"), "{refused:?}");
    let admitted = alice.run(&["pool", "admit", "echoes", "echo-bob"]).await;
    assert_eq!(admitted.stdout, "llm/echo-bob serves the pool echoes\n", "{admitted:?}");
    for command in [&["status"][..], &["check"], &["describe", "llm", "echo-bob"]] {
        let said = bob.run(command).await;
        assert!(said.code() == 0 && !said.stdout.contains("waits"), "{command:?}: {said:?}");
    }
    let removed = office.ok(&["pool", "remove", "echoes", "echo-bob"]).await;
    assert_eq!(removed, "llm/echo-bob no longer serves the pool echoes\n");
    // What an admin has deleted while it was published, its owner is told of.
    office.ok(&["delete", "llm", "echo-bob"]).await;
    bob.run(&["pause"]).await;
    bobs.logs("an admin has deleted echo-bob").await;
}

/// A34: a name that nothing has any more is listed, and freed.
#[actix_rt::test]
async fn a_name_is_listed_freed_and_given_away() {
    let office = Office::open().await;
    let llm = ["create", "llm", "gpt", "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
    office.ok(&llm).await;
    office.fails(&["delete", "name", "gpt"], 1, "in use").await;
    office.ok(&["delete", "llm", "gpt"]).await;
    assert_eq!(office.ok(&["get", "name", "-o", "name"]).await, "name/gpt\n");
    office.fails(&["name", "give", "gpt", "alice"], 1, "no user 'alice'").await;
    office.ok(&["token", "create", "--user", "alice"]).await;
    assert_eq!(office.ok(&["name", "give", "gpt", "alice"]).await, "name/gpt is alice's\n");
    office.fails(&llm, 1, "`virtual-llm delete name gpt` frees it").await;
    assert_eq!(office.ok(&["delete", "name", "gpt"]).await, "name/gpt deleted\n");
    office.fails(&["get", "name", "gpt"], 1, "there is no name 'gpt'").await;
    office.ok(&llm).await;
}

#[actix_rt::test]
async fn check_says_line_by_line_what_is_wrong_and_exits_with_it() {
    let office = Office::open().await;
    let good = json!({ "name": "echo", "type": "mock", "publish": true });
    office.admin.providers(&json!([good]));
    let said = office.ok(&["check"]).await;
    assert!(said.contains("1 to publish") && said.contains("accepts the token"), "{said}");
    assert!(!said.contains(ADMIN));
    let wake = json!({ "type": "command", "command": "no-such-command" });
    let bad = json!([good, { "name": "x", "type": "mock", "publish": true, "wake": wake }, { "name": 5, "type": "mock", "publish": true }]);
    office.admin.providers(&bad);
    let outcome = office.admin.run(&["check"]).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    for text in ["llm.providers[2].name", "no-such-command"] {
        assert!(
            outcome.stdout.lines().any(|line| line.starts_with("error") && line.contains(text)),
            "{outcome:?}"
        );
    }
}

#[actix_rt::test]
async fn a_piped_conversation_remembers_and_ends_with_the_pipe() {
    let office = Office::open().await;
    office.admin.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = office.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let file = office.admin.path().join("talk.json");
    let lines = format!("/system be brief\nfirst\n\"\"\"\nsecond\nhalf\n\"\"\"\n/save {}\n", file.display());
    let talk = fed(&office.admin, &["chat-llm", "echo"], &lines).await;
    assert_eq!((talk.code(), talk.stdout.as_str()), (0, "first\nsecond half\n"), "{talk:?}");
    let saved: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let roles: Vec<_> = saved.as_array().unwrap().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    drop(publish);
}

#[actix_rt::test]
async fn whoever_shares_a_private_llm_is_told_that_it_stays_private_and_what_helps() {
    let office = Office::open().await;
    let provider = |visibility: &str| json!([{ "name": "a", "type": "mock", "publish": true, "visibility": visibility }]);
    office.admin.providers(&provider("private"));
    let publish = office.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    office.admin.providers(&provider("public"));
    publish.signal(nix::sys::signal::Signal::SIGHUP);
    publish.logs("LLM a stays private").await;
    publish.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(publish.end().await.code(), 0);
    // As the warning says.
    office.ok(&["delete", "llm", "a"]).await;
    let publish = office.admin.start(&["publish"]);
    publish.logs("control channel open").await;
    let row: Value = serde_json::from_str(&office.ok(&["get", "llm", "a", "-o", "json"]).await).unwrap();
    assert_eq!(row["visibility"], "public");
    assert!(!publish.stderr().contains("stays private"), "{}", publish.stderr());
}
