//! `launch`, with a stand-in for the coding agent that records its arguments and its environment.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;
use testkit::connection::Connection;
use testkit::peer::Peer;
use testkit::process::{Home, Outcome, Process};
use testkit::team::{ADMIN, hub_in_memory};
use tokio::process::Command;

/// A hub with the LLM `qwen`, a home directory with credentials for it, and a folder of stand-ins.
struct Scene<H = [Process; 2]> {
    home: Home,
    url: String,
    bin: PathBuf,
    _hub: H,
}

impl Scene {
    async fn start() -> Self {
        let (home, hub, url) = hub_in_memory(&[]).await;
        home.providers(&json!([{ "name": "qwen", "type": "mock", "publish": true }]));
        let publish = home.start(&["publish"]);
        publish.logs("control channel open").await;
        Self::of(home, url, [hub, publish])
    }
}

impl Scene<Peer> {
    /// A fake hub whose model states a context length in tokens.
    fn with_context(tokens: u32) -> Self {
        let serve = async move |mut connection: Connection| {
            loop {
                let request = connection.request().await?;
                let (status, body) = match request.path() {
                    "/v1/models/qwen" => (200, json!({ "id": "qwen", "context_length": tokens })),
                    _ => (404, json!({})),
                };
                connection.json(status, &body).await?;
            }
        };
        let (peer, home) = (Peer::start(serve), Home::new());
        home.credentials(&peer.url(), ADMIN);
        let url = peer.url();
        Self::of(home, url, peer)
    }
}

impl<H> Scene<H> {
    fn of(home: Home, url: String, hub: H) -> Self {
        let bin = home.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        Self { home, url, bin, _hub: hub }
    }

    /// Writes the stand-in `program`: it records its arguments and its environment, then runs `then`.
    fn stand_in(&self, program: &str, then: &str) {
        let path = self.bin.join(program);
        let text =
            format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$RECORD.args\"\nenv >\"$RECORD.env\"\n{then}\n");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(args);
        command.env("PATH", self.path()).env("RECORD", self.home.path().join("record"));
        command
    }

    fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.bin.display())
    }

    async fn launch(&self, args: &[&str]) -> Outcome {
        Process::new(self.command(args).spawn().unwrap()).end().await
    }

    /// Runs shell commands with the stand-ins, in an empty environment. Returns the exit code.
    async fn shell(&self, commands: &str) -> Option<i32> {
        let mut shell = Command::new("sh");
        shell.args(["-c", commands]).env_clear().env("PATH", self.path());
        shell.env("RECORD", self.home.path().join("record"));
        shell.status().await.unwrap().code()
    }

    /// What a stand-in recorded under this name.
    fn record(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(format!("record.{name}"))).unwrap()
    }

    fn args(&self) -> Vec<String> {
        self.record("args").lines().map(str::to_owned).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.record("env")
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(str::to_owned)
    }
}

#[actix_rt::test]
async fn claude_code_gets_hub_token_and_model_in_its_environment() {
    let scene = Scene::start().await;
    scene.stand_in("claude", "");
    let outcome = scene.launch(&["launch", "claude", "qwen", "--", "-p", "two words"]).await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(scene.args(), ["-p", "two words"]);
    assert_eq!(scene.variable("ANTHROPIC_BASE_URL").unwrap(), scene.url);
    assert_eq!(scene.variable("ANTHROPIC_AUTH_TOKEN").unwrap(), ADMIN);
    for name in ["ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "ANTHROPIC_SMALL_FAST_MODEL"] {
        assert_eq!(scene.variable(name).unwrap(), "qwen", "{name}");
    }
}

#[actix_rt::test]
async fn variables_of_other_servers_and_accounts_are_removed() {
    let scene = Scene::start().await;
    scene.stand_in("claude", "");
    let mut command = scene.command(&["launch", "claude", "qwen"]);
    command.env("ANTHROPIC_API_KEY", "other").env("CLAUDE_CODE_USE_BEDROCK", "1").env("KEPT", "1");
    command.env("ANTHROPIC_BASE_URL", "https://other.example");
    let outcome = Process::new(command.spawn().unwrap()).end().await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(scene.variable("ANTHROPIC_API_KEY"), None);
    assert_eq!(scene.variable("CLAUDE_CODE_USE_BEDROCK"), None);
    assert_eq!(scene.variable("ANTHROPIC_BASE_URL").unwrap(), scene.url);
    assert_eq!(scene.variable("KEPT").unwrap(), "1");
}

#[actix_rt::test]
async fn a_loopback_hub_is_not_called_through_the_environments_proxy() {
    let scene = Scene::start().await;
    scene.stand_in("claude", "");
    let mut command = scene.command(&["launch", "claude", "qwen"]);
    command.env("http_proxy", "http://proxy.example:1").env("no_proxy", "a.example");
    let outcome = Process::new(command.spawn().unwrap()).end().await;
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    assert_eq!(scene.variable("NO_PROXY").unwrap(), "a.example,127.0.0.1");
}

/// A11: other users see command lines.
#[actix_rt::test]
async fn no_agent_gets_the_token_in_its_arguments() {
    let scene = Scene::start().await;
    for agent in ["claude", "codex", "opencode", "qwen", "aider"] {
        scene.stand_in(agent, "");
        let outcome = scene.launch(&["launch", agent, "qwen", "--", "last"]).await;
        assert_eq!(outcome.code(), 0, "{agent}: {outcome:?}");
        let args = scene.args();
        assert_eq!(args.last().unwrap(), "last", "{agent}");
        assert!(!args.concat().contains(ADMIN), "{agent}: {args:?}");
        let names = ["ANTHROPIC_AUTH_TOKEN", "VIRTUAL_LLM_TOKEN", "OPENAI_API_KEY"];
        assert!(names.iter().any(|name| scene.variable(name).as_deref() == Some(ADMIN)), "{agent}");
    }
}

#[actix_rt::test]
async fn the_printed_commands_do_what_launch_does() {
    let scene = Scene::start().await;
    for agent in ["claude", "codex", "opencode", "qwen", "aider"] {
        scene.stand_in(agent, "");
        let args = ["launch", agent, "qwen", "--", "it's", "$HOME"];
        let outcome = scene.launch(&args).await;
        assert_eq!(outcome.code(), 0, "{agent}: {outcome:?}");
        let (launched, names) =
            (scene.args(), ["ANTHROPIC_AUTH_TOKEN", "OPENCODE_CONFIG_CONTENT", "OPENAI_API_KEY"]);
        let values = names.map(|name| scene.variable(name));
        let printed = scene.launch(&["launch", agent, "qwen", "--print", "--", "it's", "$HOME"]).await;
        assert_eq!(printed.code(), 0, "{agent}: {printed:?}");
        assert!(!printed.stdout.contains(ADMIN), "{}", printed.stdout);
        std::fs::remove_file(scene.home.path().join("record.args")).unwrap();
        assert_eq!(scene.shell(&printed.stdout).await, Some(0), "{}", printed.stdout);
        assert_eq!(scene.args(), launched, "{agent}");
        assert_eq!(names.map(|name| scene.variable(name)), values, "{agent}");
    }
}

#[actix_rt::test]
async fn printed_commands_read_the_token_of_the_variable() {
    let scene = Scene::start().await;
    let mut command = scene.command(&["launch", "claude", "qwen", "--print"]);
    command.env("MCPD_TOKEN", ADMIN);
    let outcome = Process::new(command.spawn().unwrap()).end().await;
    assert!(outcome.stdout.contains("export ANTHROPIC_AUTH_TOKEN=\"$MCPD_TOKEN\"\n"), "{outcome:?}");
}

#[actix_rt::test]
async fn the_exit_code_is_the_agents() {
    let scene = Scene::start().await;
    scene.stand_in("claude", "exit 7");
    let outcome = scene.launch(&["launch", "claude", "qwen"]).await;
    assert_eq!((outcome.code(), outcome.stderr.as_str()), (7, ""));
}

#[actix_rt::test]
async fn the_agent_gets_the_signals() {
    let scene = Scene::start().await;
    scene.stand_in(
        "claude",
        "trap 'echo ended >\"$RECORD.end\"; exit 9' TERM\necho ready\nwhile :; do sleep 0.05; done",
    );
    let process = Process::new(scene.command(&["launch", "claude", "qwen"]).spawn().unwrap());
    process.prints("ready").await;
    process.signal(Signal::SIGTERM);
    assert_eq!(process.end().await.code(), 9);
    assert_eq!(scene.record("end"), "ended\n");
}

#[actix_rt::test]
async fn a_missing_program_is_told_with_its_installation() {
    let scene = Scene::start().await;
    for (agent, install) in [("claude", "@anthropic-ai/claude-code"), ("codex", "@openai/codex")] {
        let outcome = scene.launch(&["launch", agent, "qwen"]).await;
        assert_eq!(outcome.code(), 1, "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("no program '{agent}' on PATH")), "{outcome:?}");
        assert!(outcome.stderr.contains(&format!("npm install -g {install}")), "{outcome:?}");
    }
}

#[actix_rt::test]
async fn a_misspelt_model_is_told_with_the_nearest_name() {
    let scene = Scene::start().await;
    scene.stand_in("claude", "");
    let outcome = scene.launch(&["launch", "claude", "qwne"]).await;
    assert_eq!(outcome.code(), 1, "{outcome:?}");
    assert!(outcome.stderr.contains("no LLM, pool or agent 'qwne'"), "{outcome:?}");
    assert!(
        outcome.stderr.contains("there is qwen") || outcome.stderr.contains("did you mean 'qwen'"),
        "{outcome:?}"
    );
    assert!(!scene.home.path().join("record.args").exists());
}

/// Reads the recorded mode, folder's mode and text of a temporary file.
const RECORD_FILE: &str = "stat -c %a \"$file\" \"${file%/*}\" >\"$RECORD.file\"; cat \"$file\" >>\"$RECORD.file\"; \
    echo \"$file\" >\"$RECORD.path\"";

/// A11: temporary files belong to the user alone.
#[actix_rt::test]
async fn the_context_is_in_a_temporary_file_that_is_removed_at_the_end() {
    let scene = Scene::with_context(65_536);
    let of_aider = "while [ \"$1\" != --model-metadata-file ]; do shift; done; file=$2";
    let of_qwen = "file=$QWEN_CODE_SYSTEM_SETTINGS_PATH";
    for (agent, find) in [("aider", of_aider), ("qwen", of_qwen)] {
        scene.stand_in(agent, &format!("{find}; {RECORD_FILE}; exit 7"));
        let outcome = scene.launch(&["launch", agent, "qwen"]).await;
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (7, ""), "{agent}");
        let record = scene.record("file");
        assert!(record.starts_with("600\n700\n{"), "{agent}: {record}");
        assert!(record.contains("65536") && !record.contains(ADMIN), "{agent}: {record}");
        let path = PathBuf::from(scene.record("path").trim());
        assert!(path.is_absolute() && !path.parent().unwrap().exists(), "{agent}: {path:?}");
        // The printed commands do the same.
        let printed = scene.launch(&["launch", agent, "qwen", "--print"]).await.stdout;
        std::fs::remove_file(scene.home.path().join("record.file")).unwrap();
        assert_eq!(scene.shell(&printed).await, Some(7), "{printed}");
        assert!(scene.record("file").contains("65536"), "{agent}");
        assert!(!Path::new(scene.record("path").trim()).parent().unwrap().exists(), "{agent}");
    }
}

#[actix_rt::test]
async fn a_signal_ends_the_agent_and_removes_its_files() {
    let scene = Scene::with_context(65_536);
    let find = "while [ \"$1\" != --model-metadata-file ]; do shift; done; file=$2";
    let ready = "trap 'exit 9' TERM INT; echo ready; while :; do sleep 0.05; done";
    scene.stand_in("aider", &format!("{find}; {RECORD_FILE}; {ready}"));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let process = Process::new(scene.command(&["launch", "aider", "qwen"]).spawn().unwrap());
        process.prints("ready").await;
        process.signal(signal);
        let outcome = process.end().await;
        assert_eq!(outcome.code(), 9, "{signal}: {outcome:?}");
        assert!(!Path::new(scene.record("path").trim()).parent().unwrap().exists(), "{signal}");
    }
}

#[actix_rt::test]
async fn the_context_window_is_set_and_a_small_one_is_a_warning() {
    for (tokens, is_small) in [(65_536, false), (8_192, true)] {
        let scene = Scene::with_context(tokens);
        scene.stand_in("claude", "");
        let outcome = scene.launch(&["launch", "claude", "qwen"]).await;
        assert_eq!(outcome.code(), 0, "{outcome:?}");
        assert_eq!(scene.variable("CLAUDE_CODE_MAX_CONTEXT_TOKENS").unwrap(), tokens.to_string());
        assert_eq!(
            outcome.stderr.contains("warning: qwen has a context of 8192 tokens"),
            is_small,
            "{outcome:?}"
        );
    }
}
