//! Output of commands on a terminal and in a pipe.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use testkit::backend::FakeBackend;
use testkit::free_port;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, connected_registrar, hub_in_memory};
use testkit::terminal::Terminal;

const LONG: &str = "/home/alice/models/a-rather-long-folder/SmolLM2-135M-Instruct.Q4_1.gguf";

/// Starts a hub and a registrar with these providers.
async fn team(providers: &serde_json::Value) -> (Home, [Process; 2]) {
    let (home, hub, _) = hub_in_memory(&[]).await;
    home.providers(providers);
    let registrar = connected_registrar(&home).await;
    (home, [hub, registrar])
}

#[actix_rt::test]
async fn tables_fit_the_terminal_and_a_pipe_gets_them_whole() {
    let (home, _team) = team(&json!([
        { "name": "smol", "type": "mock", "model": LONG, "publish": true },
        { "name": "qwen2.5-72b-instruct", "type": "mock", "model": "Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4",
          "publish": true, "poolName": "large-models" },
    ]))
    .await;
    for columns in [60, 80, 100, 140] {
        for args in [["get", "llm"].as_slice(), &["status"], &["get", "session"]] {
            let terminal = Terminal::start(&home, args, columns);
            let (status, text) = terminal.end().await;
            assert!(status.success() && text.contains("qwen2.5"), "{text}");
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(columns), "{columns}: {line}");
            }
        }
    }
    let status = home.run(&["status"]).await.stdout;
    assert!(status.contains(LONG), "{status}");
    let table = home.run(&["get", "llm"]).await.stdout;
    let heads: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["NAME", "POOL", "KIND", "STATUS", "TYPE", "MODEL", "TIER", "VISIBILITY", "AGE", "ID"]);
    assert!(table.contains("Qwen/Qwen2.5-72B-Instruct-GPTQ-Int4"), "{table}");
}

#[actix_rt::test]
async fn colours_are_used_on_terminals_unless_no_color_is_set() {
    let home = Home::new();
    home.providers(&json!([{ "name": "a", "type": "mock", "publish": true }]));
    let terminal = Terminal::start(&home, &["check"], 80);
    terminal.shows("no credentials").await;
    assert!(terminal.raw().contains("\u{1b}[31merror"), "{:?}", terminal.raw());
    assert!(!home.run(&["check"]).await.stdout.contains('\u{1b}'));
    let mut command = home.command(&["check"]);
    let plain = Terminal::start_with(command.env("NO_COLOR", "1"), 80);
    plain.shows("no credentials").await;
    assert!(!plain.raw().contains("\u{1b}[3"), "{:?}", plain.raw());
}

/// While a sleeping model wakes, `chat-llm` shows a spinner and the seconds so far.
#[actix_rt::test]
async fn a_spinner_is_shown_while_a_model_wakes_and_removed_by_the_answer() {
    let port = free_port();
    let asleep = json!([{
        "name": "napping", "type": "openai", "model": "fake-model", "url": format!("http://127.0.0.1:{port}/v1"),
        "publish": true, "wake": { "type": "command", "command": "true", "maxWaitSeconds": 20 },
    }]);
    let (home, _team) = team(&asleep).await;
    let terminal = Terminal::start(&home, &["chat-llm", "napping", "-m", "hi"], 80);
    terminal.shows("waiting for the model, 1s").await;
    let _awake = FakeBackend::on(port);
    terminal.shows("t0 t1 t2").await;
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{text}");
    assert!(text.trim_end().ends_with("t0 t1 t2"), "{text}");
    // Output to a pipe has only the answer.
    let piped = home.run(&["chat-llm", "napping", "-m", "hi"]).await;
    assert_eq!((piped.stdout.trim_end(), piped.stderr.as_str()), ("t0 t1 t2", ""));
}

#[actix_rt::test]
async fn up_on_a_terminal_shows_the_chat_without_log_lines() {
    let home = Home::new();
    home.providers(&json!([{ "name": "a", "type": "mock", "publish": true }]));
    let port = free_port().to_string();
    let terminal = Terminal::start(&home, &["up", "--port", &port, "--model", "a"], 100);
    terminal.shows("Serving until Ctrl-C").await;
    kill(Pid::from_raw(terminal.pid()), Signal::SIGINT).unwrap();
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{text}");
    assert!(!text.contains("INFO"), "{text}");
    assert!(text.contains("you> ") && text.contains("a> Say hello"), "{text}");
    // With a log, its lines are before the chat and behind it.
    let logged = Terminal::start(&home, &["up", "-vv", "--once", "--port", &port, "--model", "a"], 100);
    let (status, text) = logged.end().await;
    assert!(status.success() && text.contains("INFO"), "{text}");
    assert!(text.contains("\na> Say hello in one short sentence.\n("), "{text}");
    let piped = home.run(&["up", "--once", "--port", &port, "--model", "a"]).await;
    assert!(piped.stderr.contains("INFO"), "{piped:?}");
}

#[actix_rt::test]
async fn a_conversation_has_a_status_line_and_ctrl_c_stops_only_the_answer() {
    let (home, _team) = team(&json!([
        { "name": "echo", "type": "mock", "publish": true },
        { "name": "slow", "type": "mock", "publish": true, "tokens": 1000, "tokensPerSecond": 20 },
    ]))
    .await;
    let talk = Terminal::start(&home, &["chat-llm", "echo"], 80);
    talk.shows("> ").await;
    talk.types("good day\r");
    talk.shows("tokens/s, first after").await;
    // Before the next prompt, Ctrl-D would end a line and not the input.
    talk.shows(" s]\n> ").await;
    assert!(talk.text().contains("good day\n"), "{}", talk.text());
    talk.types("\u{4}");
    assert!(talk.end().await.0.success());

    let talk = Terminal::start(&home, &["chat-llm", "slow"], 80);
    talk.shows("> ").await;
    talk.types("tell\r");
    talk.shows("tell tell tell").await;
    kill(Pid::from_raw(talk.pid()), Signal::SIGINT).unwrap();
    talk.shows("(stopped)\n> ").await;
    talk.types("/system be brief\r");
    talk.shows("brief\n> ").await;
    talk.types("/system\r");
    talk.shows("\nbe brief\n> ").await;
    talk.types("/exit\r");
    assert!(talk.end().await.0.success());
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The history of a conversation is stored in a private file. It is not stored with `--no-history`, or in a folder where
/// others could place a link.
#[actix_rt::test]
async fn the_history_of_a_conversation_is_stored_privately_or_not_at_all() {
    let (home, _team) = team(&json!([{ "name": "echo", "type": "mock", "publish": true }])).await;
    let history = home.mcpctl().join("chat-history");
    let talk = async |options: &[&str], text: &str| {
        let talk = Terminal::start(&home, &[&["chat-llm", "echo"], options].concat(), 80);
        talk.shows("> ").await;
        talk.types(&format!("{text}\r"));
        talk.shows(" s]\n> ").await;
        talk.types("\u{4}");
        let (status, said) = talk.end().await;
        assert!(status.success(), "{said}");
    };
    talk(&["--no-history"], "the merger is off").await;
    assert!(!history.exists());
    talk(&[], "good morning").await;
    assert!(fs::read_to_string(&history).unwrap().contains("good morning"));
    assert_eq!(mode(&history), 0o600);
    fs::set_permissions(&history, Permissions::from_mode(0o644)).unwrap();
    talk(&["--no-history"], "nor is the other").await;
    talk(&[], "good night").await;
    let kept = fs::read_to_string(&history).unwrap();
    assert!(kept.contains("good night") && !kept.contains("nor is"), "{kept}");
    assert_eq!(mode(&history), 0o600);

    // Nothing is stored in a file that other users may have created.
    let (loose, notes) = (home.path().join("loose"), home.path().join("notes"));
    for (file, mode) in [(&loose, 0o666), (&notes, 0o644)] {
        fs::write(file, "before").unwrap();
        fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(&history, Permissions::from_mode(0o606)).unwrap();
    let open = Terminal::start(&home, &["chat-llm", "echo"], 200);
    open.shows("nothing is kept of what you type").await;
    open.shows("> ").await;
    open.types("a secret\r");
    open.shows(" s]\n> ").await;
    open.types(&format!("/save {}\r", loose.display()));
    open.shows("loose`\n> ").await;
    open.types(&format!("/save {}\r", notes.display()));
    open.shows("(written to").await;
    open.types("\u{4}");
    assert!(open.end().await.0.success());
    assert_eq!(fs::read_to_string(&history).unwrap(), kept);
    assert_eq!(fs::read_to_string(&loose).unwrap(), "before");
    assert!(fs::read_to_string(&notes).unwrap().contains("a secret"));
    assert_eq!(mode(&notes), 0o600);

    fs::remove_file(&history).unwrap();
    let precious = home.path().join("precious");
    fs::write(&precious, "mine").unwrap();
    symlink(&precious, &history).unwrap();
    // A credentials file in that folder is refused, too, so the environment provides the token.
    let credentials = home.mcpctl().join("credentials");
    let written: serde_json::Value = serde_json::from_slice(&fs::read(&credentials).unwrap()).unwrap();
    fs::remove_file(credentials).unwrap();
    for mode in [0o777, 0o1777] {
        fs::set_permissions(home.mcpctl(), Permissions::from_mode(mode)).unwrap();
        let mut command = home.command(&["chat-llm", "echo"]);
        command.env("MCPD_URL", written["mcpdUrl"].as_str().unwrap()).env("MCPD_TOKEN", ADMIN);
        let talk = Terminal::start_with(&mut command, 120);
        talk.shows("nothing is kept of what you type").await;
        talk.shows("> ").await;
        talk.types("a word\r");
        talk.shows(" s]\n> ").await;
        talk.types("\u{4}");
        assert!(talk.end().await.0.success());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    }
}
