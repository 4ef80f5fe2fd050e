//! Files that another user of the machine can write are refused, and the error names the command that corrects them. Over
//! 300 lines: one test for each kind of file.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::free_port;
use testkit::process::{Home, Outcome};
use testkit::skipped;
use testkit::team::{ADMIN, listening_hub, start_hub, start_hub_with, start_registrar_with};
use tokio::net::TcpListener;

use crate::trouble::certificate;

/// A user id that is neither root nor the user of the tests.
const STRANGER: u32 = 54_321;

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Creates a world-writable folder in the home directory.
fn open_folder(home: &Home, name: &str) -> PathBuf {
    let folder = home.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    set(&folder, 0o777);
    folder
}

/// Paths to a file with `text` that another user could replace, and the advice for each: in a world-writable folder, below
/// one, through a link in one, itself writable, and owned by another user.
fn ways_to(home: &Home, text: &str) -> Vec<(PathBuf, &'static str)> {
    let make = |path: PathBuf, mode: u32| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        set(&path, mode);
        path
    };
    let folder = open_folder(home, "open");
    let good = make(home.path().join("safe/good"), 0o600);
    let below = make(folder.join("mine/below"), 0o600);
    set(below.parent().unwrap(), 0o700);
    symlink(&good, folder.join("link")).unwrap();
    let own = make(home.path().join("safe/own"), 0o622);
    let mut ways = vec![
        (make(folder.join("file"), 0o600), "chmod go-w "),
        (below, "chmod go-w "),
        (folder.join("link"), "chmod go-w "),
        (own, "chmod go-w "),
    ];
    if nix::unistd::geteuid().is_root() {
        let foreign = make(home.path().join("safe/foreign"), 0o644);
        chown(&foreign, Some(STRANGER), None).unwrap();
        ways.push((foreign, "chown -h 0 "));
    } else {
        skipped("files of another user, which only root can create");
    }
    ways
}

fn refused(outcome: &Outcome, path: &Path, advice: &str) {
    let (said, path) = (&outcome.stderr, path.display());
    assert_eq!(outcome.code(), 2, "{path}: {said}");
    assert!(said.contains(advice), "{path}: {said}");
    assert_eq!(said.trim().lines().count(), 1, "{path}: {said}");
}

/// A16: another user can choose neither a recipe's command nor an environment variable to send.
#[actix_rt::test]
async fn a_replaceable_configuration_runs_no_recipe_and_sends_no_variable() {
    let home = Home::new();
    let ran = home.path().join("ran");
    let recipe = json!({ "type": "command", "command": "touch", "args": [ran.to_str().unwrap()] });
    let mut provider = json!({ "name": "a", "type": "vllm", "model": "m", "publish": true });
    let config = |provider: &serde_json::Value| json!({ "llm": { "providers": [provider] } }).to_string();
    provider["wake"] = recipe;
    let with_recipe = config(&provider);
    provider.as_object_mut().unwrap().remove("wake");
    provider["apiKeyEnv"] = "HOME".into();
    for text in [with_recipe, config(&provider)] {
        let home = Home::new();
        home.credentials("http://127.0.0.1:9", "token");
        for (path, advice) in ways_to(&home, &text) {
            let path = path.to_str().unwrap();
            refused(&home.run(&["publish", "--config", path]).await, Path::new(path), advice);
            let checked = home.run(&["check", "--config", path]).await;
            assert!(checked.code() == 1 && checked.stdout.contains(advice), "{checked:?}");
        }
    }
    assert!(!ran.exists());
}

/// A configuration that has neither recipes nor variables is read, with a warning.
#[actix_rt::test]
async fn a_replaceable_configuration_without_recipes_is_read_with_a_warning() {
    let home = Home::new();
    home.credentials("http://127.0.0.1:9", "token");
    let text = json!({ "providers": [{ "name": "a", "type": "mock", "publish": true }] }).to_string();
    for (path, advice) in ways_to(&home, &text) {
        let checked = home.run(&["check", "--config", path.to_str().unwrap()]).await;
        let line = checked.stdout.lines().find(|line| line.contains(advice));
        assert!(line.is_some_and(|line| line.starts_with("warn")), "{path:?}: {checked:?}");
        assert!(checked.stdout.contains("1 to publish"), "{checked:?}");
    }
}

#[actix_rt::test]
async fn a_recipe_program_that_others_can_write_is_a_warning() {
    let home = Home::new();
    home.credentials("http://127.0.0.1:9", "token");
    for (program, advice) in ways_to(&home, "#!/bin/sh\n") {
        let own = program.metadata().unwrap().permissions().mode();
        set(&program, own | 0o500);
        let recipe = json!({ "type": "command", "command": program.to_str().unwrap() });
        home.providers(&json!([{ "name": "a", "type": "mock", "publish": true, "wake": recipe }]));
        let checked = home.run(&["check"]).await;
        let line = checked.stdout.lines().find(|line| line.contains(advice));
        assert!(line.is_some_and(|line| line.starts_with("warn")), "{program:?}: {checked:?}");
        let registrar = home.start(&["publish"]);
        registrar.logs(advice).await;
        assert!(registrar.stderr().contains("a recipe's command"), "{}", registrar.stderr());
    }
}

#[actix_rt::test]
async fn replaceable_credentials_token_and_ca_files_are_not_used() {
    let home = Home::new();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    for (path, advice) in ways_to(&home, &json!({ "mcpdUrl": url, "token": "t" }).to_string()) {
        let path = path.to_str().unwrap();
        refused(&home.run(&["get", "llm", "--credentials", path]).await, Path::new(path), advice);
        let checked = home.run(&["check", "--credentials", path]).await;
        assert!(checked.stdout.contains(advice), "{checked:?}");
    }
    let home = Home::new();
    for (path, advice) in ways_to(&home, "0123456789abcdef\n") {
        refused(&home.run(&["login", &url, "--token-file", path.to_str().unwrap()]).await, &path, advice);
    }
    let home = Home::new();
    home.credentials(&url, "token");
    let (cert, _) = certificate(home.path(), "127.0.0.1", 2099);
    for (path, advice) in ways_to(&home, &fs::read_to_string(cert).unwrap()) {
        refused(&home.run(&["get", "llm", "--ca-file", path.to_str().unwrap()]).await, &path, advice);
    }
    drop(silent);
}

/// `login` does not write a token where another user could place a link to another file.
#[actix_rt::test]
async fn login_writes_no_token_into_a_folder_that_others_can_write() {
    let (home, _hub, port) = listening_hub().await;
    let folder = open_folder(&home, "shared");
    let token = home.write("token", ADMIN);
    let url = format!("http://127.0.0.1:{port}");
    let file = folder.join("credentials");
    let words = ["login", &url, "--token-file", token.to_str().unwrap(), "--credentials"];
    let outcome = home.run(&[&words[..], &[file.to_str().unwrap()]].concat()).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("chmod go-w {}", folder.display())), "{outcome:?}");
    assert!(!file.exists());
    set(&folder, 0o1777);
    let outcome = home.run(&[&words[..], &[file.to_str().unwrap()]].concat()).await;
    assert_eq!(outcome.code(), 1, "in a sticky folder another user can create the file first: {outcome:?}");
    assert!(outcome.stderr.contains("choose a folder of your own") && !file.exists(), "{outcome:?}");
    // The target of a link is checked, too.
    set(&folder, 0o777);
    let link = home.path().join("link");
    symlink(&file, &link).unwrap();
    let outcome = home.run(&[&words[..], &[link.to_str().unwrap()]].concat()).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(!file.exists());
    let kept = home.path().join("kept");
    fs::create_dir(&kept).unwrap();
    fs::remove_file(&link).unwrap();
    symlink(kept.join("credentials"), &link).unwrap();
    let outcome = home.run(&[&words[..], &[link.to_str().unwrap()]].concat()).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert!(kept.join("credentials").is_file() && link.is_symlink());
}

/// No command replaces a file through a link of another user.
#[actix_rt::test]
async fn nothing_is_written_through_a_link_of_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("links of another user, which only root can create");
    }
    let (home, _hub, port) = listening_hub().await;
    let sticky = open_folder(&home, "sticky");
    set(&sticky, 0o1777);
    let victim = home.write("victim", "{}");
    let link = sticky.join("link.json");
    symlink(&victim, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(STRANGER), None).unwrap();
    let (token, link) = (home.write("token", ADMIN), link.to_str().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let login = ["login", &url, "--token-file", token.to_str().unwrap(), "--credentials", link];
    let backend = FakeBackend::start();
    let add = ["add", "--url", &backend.url(), "--yes", "--config", link];
    for words in [&login[..], &add] {
        let outcome = home.run(words).await;
        assert_ne!(outcome.code(), 0, "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains(link), "{words:?}: {outcome:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "{}", "{words:?}");
    }
}

/// `login` keeps neither settings from a file that others could write nor permissions granted for another hub.
#[actix_rt::test]
async fn login_keeps_no_setting_of_other_users_or_another_hub() {
    let (home, _hub, port) = listening_hub().await;
    let token = home.write("token", ADMIN);
    let url = format!("http://127.0.0.1:{port}");
    let login = ["login", &url, "--token-file", token.to_str().unwrap()];
    let file = home.mcpctl().join("credentials");
    let before = json!({ "mcpdUrl": "http://192.0.2.2", "token": "old", "allowInsecure": true, "other": 1 });
    for (mode, others_keys) in [(0o600, true), (0o602, false)] {
        fs::create_dir_all(home.mcpctl()).unwrap();
        fs::write(&file, before.to_string()).unwrap();
        set(&file, mode);
        let outcome = home.run(&login).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        let written: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(written.get("allowInsecure"), None, "{written}");
        assert_eq!(written.get("other").is_some(), others_keys, "{mode:o}: {written}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    fs::write(&file, before.to_string()).unwrap();
    let other = home.run(&["get", "llm", "--hub-url", "http://192.0.2.3"]).await;
    assert_eq!(other.code(), 2, "the file's permission for plain http is for its own hub only: {other:?}");
    assert!(other.stderr.contains("plain http"), "{other:?}");
}

/// A token from the environment is never replaced by the token of the credentials file.
#[actix_rt::test]
async fn a_refused_token_of_the_environment_is_not_replaced_by_the_files() {
    let (home, _hub, port) = listening_hub().await;
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    home.providers(&json!([{ "name": "a", "type": "mock", "publish": true }]));
    let mut command = home.command(&["publish"]);
    command.env("MCPD_TOKEN", "0123456789abcdef");
    let registrar = testkit::process::Process::new(command.spawn().unwrap());
    assert_eq!(registrar.end().await.code(), 3, "the hub refuses the token");
}

/// A session file counts only if other users cannot replace its folder or links. The file's own mode is corrected.
#[actix_rt::test]
async fn a_replaceable_session_file_is_ignored() {
    let (home, _hub, port) = listening_hub().await;
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    home.providers(&json!([{ "name": "a", "type": "mock", "publish": true }]));
    let folder = open_folder(&home, "shared");
    let file = folder.join("session");
    fs::write(&file, "sess-of-a-stranger\n").unwrap();
    let registrar = start_registrar_with(&home, &["--session-file", file.to_str().unwrap()]);
    registrar.logs("control channel open").await;
    assert!(registrar.stderr().contains("chmod go-w "), "{}", registrar.stderr());
    let sessions = home.run(&["get", "session", "-o", "name"]).await.stdout;
    assert!(sessions.contains("session/sess-") && !sessions.contains("stranger"), "{sessions}");
}

#[actix_rt::test]
async fn a_hub_uses_no_data_folder_token_or_key_that_others_can_replace() {
    let home = Home::new();
    let listen = ["hub", "--listen", "127.0.0.1:0"];
    let folder = |name: &str| {
        let folder = home.path().join(name);
        fs::create_dir(&folder).unwrap();
        set(&folder, 0o700);
        folder
    };
    let mut bad: Vec<(PathBuf, String)> = Vec::new();
    let is_root = nix::unistd::geteuid().is_root();
    // For a user other than root, the folder's group may be private to the user, and a group-writable folder is allowed.
    for mode in [0o770, 0o702, 0o777].into_iter().filter(|mode| is_root || mode & 0o002 != 0) {
        let data = folder(&format!("{mode:o}"));
        set(&data, mode);
        bad.push((data.clone(), format!("chmod go-w {}", data.display())));
    }
    // In a sticky folder others cannot replace the database, but can place a journal beside it.
    let sticky = folder("sticky");
    set(&sticky, 0o1777);
    bad.push((sticky, "choose a folder of your own".to_owned()));
    for name in ["hub.db", "hub.db-wal", "hub.db-journal", "hub.lock"] {
        let file = folder(&format!("open-{name}")).join(name);
        fs::write(&file, "").unwrap();
        set(&file, 0o666);
        bad.push((file.parent().unwrap().to_owned(), format!("chmod go-w {}", file.display())));
    }
    let below = open_folder(&home, "open").join("below");
    fs::create_dir(&below).unwrap();
    set(&below, 0o700);
    bad.push((below, format!("chmod go-w {}", home.path().join("open").display())));
    let token = folder("token").join("admin-token");
    fs::write(&token, "0123456789abcdef\n").unwrap();
    set(&token, 0o662);
    bad.push((token.parent().unwrap().to_owned(), format!("chmod go-w {}", token.display())));
    if is_root {
        let foreign = folder("foreign");
        chown(&foreign, Some(STRANGER), None).unwrap();
        bad.push((foreign.join("below/deep"), "run this as that user".to_owned()));
        bad.push((foreign, "run this as that user".to_owned()));
        for name in ["admin-token", "hub.db", "hub.db-wal"] {
            let file = folder(&format!("with-{name}")).join(name);
            fs::write(&file, "").unwrap();
            set(&file, 0o600);
            chown(&file, Some(STRANGER), None).unwrap();
            bad.push((file.parent().unwrap().to_owned(), format!("chown -h 0 {}", file.display())));
        }
    } else {
        skipped("files of another user, which only root can create");
    }
    for (data, advice) in bad {
        let outcome = home.run(&[&listen[..], &["--data-dir", data.to_str().unwrap()]].concat()).await;
        assert_eq!(outcome.code(), 1, "{data:?}: {outcome:?}");
        assert!(outcome.stderr.contains(&advice), "{data:?}: {outcome:?}");
    }
    assert!(!home.path().join("foreign/below").exists(), "no file is created in another user's folder");
    let (cert, key) = certificate(home.path(), "127.0.0.1", 2099);
    for (file, mode) in [(&cert, 0o646), (&key, 0o602)] {
        set(file, mode);
        let tls = ["--in-memory", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let outcome = home.run(&[&listen[..], &tls].concat()).await;
        refused(&outcome, file, &format!("chmod go-w {}", file.display()));
        set(file, 0o600);
    }
}

/// No other program can receive tokens on the second address of `localhost` while the hub runs.
#[actix_rt::test]
async fn a_hub_on_127_0_0_1_also_binds_the_ipv6_localhost_or_warns() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skipped("IPv6");
    }
    let (home, hub, port) = listening_hub().await;
    home.credentials(&format!("http://localhost:{port}"), ADMIN);
    let asked = home.run(&["get", "llm"]).await;
    assert_eq!(asked.code(), 0, "localhost leads to the hub: {asked:?}");
    assert!(std::net::TcpListener::bind(("::1", port)).is_err(), "the hub holds [::1]");
    hub.signal(nix::sys::signal::Signal::SIGTERM);
    hub.end().await;
    let _other = std::net::TcpListener::bind(("::1", port)).unwrap();
    let hub = start_hub(&home, port);
    hub.logs("another program has [::1]").await;
    hub.logs("listens on").await;
}

#[actix_rt::test]
async fn a_world_readable_tls_key_is_a_warning() {
    let home = Home::new();
    let (cert, key) = certificate(home.path(), "127.0.0.1", 2099);
    let warning = format!("chmod o-r {}", key.display());
    for (mode, warned) in [(0o644, true), (0o604, true), (0o640, false), (0o600, false)] {
        set(&key, mode);
        let tls = ["--in-memory", "--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        let hub = home.start(&[&["hub", "--listen", "127.0.0.1:0"], &tls[..]].concat());
        hub.logs("listens on").await;
        assert_eq!(hub.stderr().contains(&warning), warned, "{mode:o}: {}", hub.stderr());
        hub.signal(nix::sys::signal::Signal::SIGTERM);
        hub.end().await;
    }
}

/// The CA file for the hub does not apply to backends: a backend's certificate must be trusted by the system.
#[actix_rt::test]
async fn the_hubs_ca_file_does_not_apply_to_backends() {
    let (home, port, upstream) = (Home::new(), free_port(), free_port());
    let (cert, key) = certificate(home.path(), "127.0.0.1", 2099);
    let other = Home::new();
    let tls = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let backend = start_hub_with(&other, upstream, &tls);
    let hub = start_hub(&home, port);
    backend.logs("listens on").await;
    hub.logs("listens on").await;
    home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
    let url = format!("https://127.0.0.1:{upstream}/v1");
    let provider = json!({ "name": "a", "type": "openai", "model": "m", "url": url, "apiKey": "sk-canary-0123",
        "publish": true });
    home.providers(&json!([provider]));
    let registrar = start_registrar_with(&home, &["--ca-file", cert.to_str().unwrap()]);
    registrar.logs("control channel open").await;
    let said = home.run(&["chat-llm", "a", "-m", "hi"]).await;
    assert!(!said.stderr.contains("key"), "the backend was asked, and saw the key: {said:?}");
    assert_eq!(said.code(), 1, "{said:?}");
    drop(registrar);
}
