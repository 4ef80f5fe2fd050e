//! The stored login, and commands about what is one's own: `whoami`, `logout`, `get --mine`, `get --status`, `get task --wait`,
//! `delete` of several.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testkit::backend::FakeBackend;
use testkit::free_port;
use testkit::process::Home;
use testkit::team::{Team, hub_in_memory, start_hub};
use testkit::wait::{port_is_free, wait_until};

/// A home that is logged in at `url` as `user`, by a token that `admin` makes.
pub(crate) async fn user(admin: &Home, url: &str, user: &str) -> Home {
    let made = admin.run(&["token", "create", "--user", user]).await;
    let home = Home::new();
    home.credentials(url, made.stdout.trim());
    home
}

#[actix_rt::test]
async fn whoami_names_user_token_and_hub() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let said = admin.run(&["whoami"]).await.stdout;
    for part in
        ["User:     admin (admin)", "Token:    environment", "Expires:  never", &*format!("Hub:      {url}")]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    let made =
        admin.run(&["token", "create", "--user", "zoe", "--expires", "30d", "-o", "json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    let zoe = Home::new();
    zoe.credentials(&url, made["token"].as_str().unwrap());
    let said: Value = serde_json::from_str(&zoe.run(&["whoami", "-o", "json"]).await.stdout).unwrap();
    assert_eq!((&said["user"], &said["role"], &said["hub"]), (&json!("zoe"), &json!("member"), &json!(url)));
    assert_eq!((&said["tokenId"], &said["expiresAt"]), (&made["id"], &made["expiresAt"]));
    assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
    assert!(!said.to_string().contains(made["token"].as_str().unwrap()), "no secret");
    assert!(!zoe.run(&["whoami"]).await.stdout.contains("Limits"));
    admin.run(&["user", "set", "zoe", "--max-concurrent", "1"]).await;
    let said = zoe.run(&["whoami"]).await.stdout;
    assert!(said.contains("Limits:   1 call at a time\n"), "{said}");
}

#[actix_rt::test]
async fn logout_forgets_the_login_and_revokes_the_token_if_asked() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let zoe = user(&admin, &url, "zoe").await;
    let file = zoe.mcpctl().join("credentials");
    let secret: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let outcome = zoe.run(&["logout"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(outcome.stdout.contains(&format!("Logged out of {url}")), "{outcome:?}");
    assert!(!file.exists(), "nothing else was in it");
    assert_eq!(zoe.run(&["get", "llm"]).await.code(), 2);
    assert_eq!(zoe.run(&["logout"]).await.code(), 0, "a second time there is nothing to do");

    // The token is still valid. Keys of other tools are kept.
    let mut kept = secret.clone();
    kept["other"] = json!(1);
    zoe.write("credentials", &kept.to_string());
    let revoked = zoe.run(&["logout", "--revoke"]).await;
    assert_eq!(revoked.code(), 0, "{revoked:?}");
    assert!(revoked.stdout.contains("revoked"), "{revoked:?}");
    let left: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(left, json!({ "other": 1 }));
    zoe.credentials(&url, secret["token"].as_str().unwrap());
    let refused = zoe.run(&["whoami"]).await;
    assert!(refused.stderr.contains("does not accept the token"), "{refused:?}");

    // A login whose token cannot be revoked is kept, so that it can be tried again.
    let last = admin.run(&["logout", "--revoke"]).await;
    assert_eq!(last.code(), 1, "{last:?}");
    assert!(admin.mcpctl().join("credentials").exists());
}

#[actix_rt::test]
async fn a_member_revokes_no_other_token_than_its_own() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let zoe = user(&admin, &url, "zoe").await;
    user(&admin, &url, "yan").await;
    let list: Value =
        serde_json::from_str(&admin.run(&["token", "list", "-o", "json"]).await.stdout).unwrap();
    let id = |user: &str| {
        let token = list.as_array().unwrap().iter().find(|token| token["user"] == user).unwrap();
        token["id"].as_str().unwrap().to_owned()
    };
    let other = zoe.run(&["token", "revoke", &id("yan")]).await;
    assert!(other.code() == 1 && other.stderr.contains("for admins only"), "{other:?}");
    assert_eq!(zoe.run(&["token", "revoke", &id("zoe")]).await.code(), 0);
}

#[actix_rt::test]
async fn an_admin_names_a_token_by_its_user_if_that_has_one() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let zoe = user(&admin, &url, "zoe").await;
    let rotated = admin.run(&["token", "rotate", "ZOE"]).await;
    assert!(rotated.code() == 0 && rotated.stdout.starts_with("vlt_"), "{rotated:?}");
    assert_ne!(zoe.run(&["whoami"]).await.code(), 0, "another secret");
    user(&admin, &url, "zoe").await;
    let refused = admin.run(&["token", "revoke", "zoe"]).await;
    assert!(refused.code() == 1 && refused.stderr.contains("zoe has 2 valid tokens: tok-"), "{refused:?}");
    let listed = refused.stderr.split("tokens: ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let revoked = admin.run(&["token", "revoke", listed.split(", ").next().unwrap()]).await;
    assert_eq!(revoked.code(), 0, "{revoked:?}");
    let revoked = admin.run(&["token", "revoke", "zoe"]).await;
    assert_eq!(revoked.stdout, format!("token/{} revoked\n", listed.split(", ").nth(1).unwrap()));
    let none = admin.run(&["token", "revoke", "zoe"]).await;
    assert!(none.code() == 1 && none.stderr.contains("zoe has no valid token"), "{none:?}");
    let unknown = admin.run(&["token", "revoke", "nobody"]).await;
    assert!(unknown.code() == 1 && unknown.stderr.contains("there is no token 'nobody'"), "{unknown:?}");
}

#[actix_rt::test]
async fn get_lists_what_is_mine_and_llms_in_a_state() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let (alice, bob) = (user(&admin, &url, "alice").await, user(&admin, &url, "bob").await);
    let backend = FakeBackend::start();
    backend.script(|script| script.think = Duration::from_mins(10));
    let openai = |name: &str, url: String| {
        json!({ "name": name, "type": "openai", "model": "fake-model", "url": url,
        "publish": true, "visibility": "public", "maxConcurrency": 1 })
    };
    let nowhere = || format!("http://127.0.0.1:{}", free_port());
    let mut asleep = openai("asleep", nowhere());
    asleep["wake"] = json!({ "type": "command", "command": "true", "args": [] });
    alice.providers(&json!([openai("busy", backend.url()), asleep, openai("away", nowhere())]));
    // More than the hub tells at once: that `busy` is busy comes in its last page.
    let mock =
        |name: String| json!({ "name": name, "type": "mock", "publish": true, "visibility": "public" });
    let ready: Vec<_> = (0..150).map(|n| format!("ready-{n:03}")).collect();
    bob.providers(&ready.iter().cloned().map(mock).collect());
    let ready = ready.join(" ");
    let publishers = [alice.start(&["publish"]), bob.start(&["publish"])];
    for publisher in &publishers {
        publisher.logs("control channel open").await;
    }
    let _call = bob.start(&["chat-llm", "busy", "-m", "go on"]);
    wait_until("the backend has the call", || !backend.requests().is_empty()).await;
    let names = async |home: &Home, args: &[&str]| {
        let outcome = home.run(&[&["get", "llm", "-o", "name"], args].concat()).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        let mut names: Vec<_> = outcome.stdout.lines().map(|line| line.replace("llm/", "")).collect();
        names.sort();
        names.join(" ")
    };
    testkit::wait::eventually("the backends' states are known", async || {
        names(&bob, &["--status", "asleep"]).await == "asleep"
            && names(&bob, &["--status", "away"]).await == "away"
    })
    .await;
    let active = format!("busy {ready}");
    for (state, expected) in [("ready", &*ready), ("busy", "busy"), ("active", &*active), ("waking", "")] {
        assert_eq!(names(&bob, &["--status", state]).await, expected, "{state}");
    }
    assert_eq!(names(&alice, &["--mine"]).await, "asleep away busy");
    assert_eq!(names(&bob, &["--mine"]).await, ready);
    assert_eq!(names(&alice, &["--mine", "--status", "ready"]).await, "");
    let none = alice.run(&["get", "llm", "--mine", "--status", "ready"]).await;
    assert!(none.stderr.contains("There are no such LLMs"), "{none:?}");
    for wrong in [
        &["get", "task", "--status", "ready"][..],
        &["get", "llm", "busy", "--wait"],
        &["get", "hub", "--mine"],
    ] {
        assert_eq!(alice.run(wrong).await.code(), 2, "{wrong:?}");
    }
}

#[actix_rt::test]
async fn get_task_waits_for_the_answer_also_through_a_restart_of_the_hub() {
    let mut team = Team::start().await;
    team.backend.script(|script| script.think = Duration::from_secs(2));
    let queue = async |team: &Team| {
        let queued = team.home.run(&["chat-llm", "local", "--async", "-m", "hi"]).await;
        assert_eq!(queued.code(), 0, "{queued:?}");
        queued.stdout.trim().to_owned()
    };
    let id = queue(&team).await;
    let answered = team.home.run(&["get", "task", &id, "--wait"]).await;
    assert_eq!((answered.code(), answered.stdout.as_str()), (0, "hello from the backend\n"), "{answered:?}");
    let whole = team.home.run(&["get", "task", &id, "--wait", "-o", "json"]).await;
    let whole: Value = serde_json::from_str(&whole.stdout).unwrap();
    assert_eq!((&whole["id"], &whole["status"]), (&json!(id), &json!("completed")));

    team.backend.script(|script| script.think = Duration::ZERO);
    team.hub.signal(Signal::SIGKILL);
    port_is_free(team.port).await;
    team.hub.ended().await;
    let waiting = team.home.start(&["get", "task", &id, "--wait"]);
    wait_until("the hub is missed", || waiting.stderr().contains("warning:")).await;
    team.hub = start_hub(&team.home, team.port);
    let answered = waiting.end().await;
    assert_eq!((answered.code(), answered.stdout.as_str()), (0, "hello from the backend\n"), "{answered:?}");

    // What went wrong is the exit code and a line.
    team.hub.logs("opened").await;
    let refusal = json!({ "error": { "message": "out of memory" } }).to_string();
    team.backend.script(|script| script.refuse = Some((500, refusal)));
    let id = queue(&team).await;
    let failed = team.home.run(&["get", "task", &id, "--wait"]).await;
    assert!(failed.code() == 1 && failed.stderr.contains("out of memory"), "{failed:?}");
    let unknown = team.home.run(&["get", "task", "task-unknown", "--wait"]).await;
    assert!(unknown.code() == 1 && unknown.stderr.contains("there is no task"), "{unknown:?}");
}

#[actix_rt::test]
async fn delete_takes_several_names_and_reports_each() {
    let (admin, _hub, _) = hub_in_memory(&[]).await;
    for name in ["a", "b", "c"] {
        let llm =
            ["create", "llm", name, "--type", "openai", "--model", "m", "--url", "https://x.example/v1"];
        assert_eq!(admin.run(&llm).await.code(), 0);
    }
    let deleted = admin.run(&["delete", "llm", "a", "nothing", "b"]).await;
    assert_eq!(
        (deleted.code(), deleted.stdout.as_str()),
        (1, "llm/a deleted\nllm/b deleted\n"),
        "{deleted:?}"
    );
    assert!(deleted.stderr.contains("llm/nothing: there is no llm 'nothing'"), "{deleted:?}");
    assert!(deleted.stderr.contains("1 of 3 are not deleted"), "{deleted:?}");
    assert_eq!(admin.run(&["delete", "llm", "c"]).await.code(), 0);
}

#[actix_rt::test]
async fn rotate_gives_another_secret_and_the_stored_login_takes_it() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let zoe = user(&admin, &url, "zoe").await;
    let file = zoe.mcpctl().join("credentials");
    let stored = || {
        let text = std::fs::read_to_string(&file).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["token"].as_str().unwrap().to_owned()
    };
    let first = stored();
    zoe.providers(&json!([{ "name": "echo", "type": "mock", "publish": true }]));
    let publish = zoe.start(&["publish", "--reconnect-base", "50ms", "--reconnect-max", "200ms"]);
    publish.logs("control channel open").await;
    let rotated = zoe.run(&["token", "rotate"]).await;
    assert_eq!(rotated.code(), 0, "{rotated:?}");
    let second = stored();
    assert!(first != second && !format!("{rotated:?}").contains(&second), "{rotated:?}");
    // A registrar that runs takes it from there.
    wait_until("the channel is open again", || publish.stderr().matches("control channel open").count() == 2)
        .await;
    assert_eq!(zoe.run(&["whoami"]).await.code(), 0);
    let old = Home::new();
    old.credentials(&url, &first);
    assert_eq!(old.run(&["whoami"]).await.code(), 1);

    // An admin rotates another's token: the secret alone goes to standard output. The earlier one stays valid for a while.
    let me: Value = serde_json::from_str(&zoe.run(&["whoami", "-o", "json"]).await.stdout).unwrap();
    let id = me["tokenId"].as_str().unwrap();
    let other = admin.run(&["token", "rotate", id, "--grace", "1h"]).await;
    assert_eq!((other.code(), other.stdout.lines().count()), (0, 1), "{other:?}");
    assert!(other.stderr.contains(&format!("virtual-llm login {url}")), "{other:?}");
    old.credentials(&url, other.stdout.trim());
    assert_eq!((old.run(&["whoami"]).await.code(), zoe.run(&["whoami"]).await.code()), (0, 0));
    let own = admin.run(&["token", "rotate"]).await;
    assert!(own.code() == 1 && own.stderr.contains("the hub's own admin token"), "{own:?}");
}

#[actix_rt::test]
async fn a_sign_in_link_is_printed_alone_to_a_pipe() {
    let (admin, _hub, url) = hub_in_memory(&["--public-url", "https://hub.example/llm"]).await;
    let printed = admin.run(&["token", "create", "--user", "zoe", "--link"]).await;
    let code = printed
        .stdout
        .trim()
        .strip_prefix("https://hub.example/llm/#/sign-in/")
        .unwrap_or_else(|| panic!("{printed:?}"));
    assert!(printed.stderr.contains("once, until"), "{printed:?}");
    let http = testkit::http::Http::new(&url, code);
    let token = http.post("/api/v1/sign-in", &json!({})).await.json();
    assert_eq!(token["user"], "zoe", "{token}");
    assert_eq!(http.post("/api/v1/sign-in", &json!({})).await.status, 401);
    let made = admin.run(&["token", "create", "--user", "yan", "--link", "-o", "json"]).await.stdout;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(
        made["link"],
        format!("https://hub.example/llm/#/sign-in/{}", made["signInCode"].as_str().unwrap())
    );
    assert_eq!(made.get("token"), None);
}

#[actix_rt::test]
async fn login_takes_the_token_of_a_sign_in_link() {
    let (admin, _hub, url) = hub_in_memory(&[]).await;
    let link = admin.run(&["token", "create", "--user", "zoe", "--link"]).await.stdout.trim().to_owned();
    let zoe = Home::new();
    let login = zoe.run(&["login", &link]).await;
    assert_eq!(login.code(), 0, "{login:?}");
    assert!(login.stdout.contains(&format!("Logged in to {url} as ")), "{login:?}");
    assert!(zoe.run(&["whoami"]).await.stdout.contains("zoe (member)"));
    let again = Home::new().run(&["login", &link]).await;
    assert!(again.code() == 1 && again.stderr.contains("ask for another one"), "{again:?}");
}
