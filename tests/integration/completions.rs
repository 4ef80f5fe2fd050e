//! The completion scripts, run in their shells. A test is skipped with a message if its shell is not installed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use testkit::process::{Home, Process};
use testkit::skipped;
use testkit::team::ADMIN;
use testkit::wait::PATIENCE;
use tokio::process::Command;
use tokio::time::timeout;

/// A hub with two LLMs, a pool and an agent, and a home directory with the program in its `PATH`.
struct Scene {
    home: Home,
    bin: PathBuf,
    _processes: [Process; 2],
}

impl Scene {
    async fn start() -> Self {
        let home = Home::new();
        let bin = home.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_virtual-llm"), bin.join("virtual-llm")).unwrap();
        let mut command = home.command(&["hub", "--in-memory", "--listen", "127.0.0.1:0"]);
        let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
        hub.logs("http://127.0.0.1:").await;
        let log = hub.stderr();
        let after = log.split("http://").nth(1).unwrap();
        let address: String = after.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect();
        home.credentials(&format!("http://{address}"), ADMIN);
        let config = json!({
            "providers": [
                { "name": "qwen", "type": "mock", "publish": true },
                { "name": "quartz", "type": "mock", "publish": true, "poolName": "stones" },
            ],
            "agents": [{ "name": "helper", "llm": "qwen", "publish": true }],
        });
        home.write("config.json", &config.to_string());
        let publish = home.start(&["publish"]);
        publish.logs("control channel open").await;
        Self { home, bin, _processes: [hub, publish] }
    }

    /// Writes the completion script for `shell` to a file called `name`.
    async fn script(&self, shell: &str, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, self.home.run(&["completions", shell]).await.stdout).unwrap();
        path
    }

    /// Output of `shell` with these arguments; `None` if the shell is not installed.
    async fn shell(&self, shell: &str, args: &[&str]) -> Option<String> {
        let path = format!("{}:{}", self.bin.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(shell);
        command.args(args).env_clear().env("PATH", path).env("HOME", self.home.path()).env("TERM", "xterm");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let Ok(child) = command.spawn() else {
            skipped(&format!("completion in {shell}, which is not installed"));
            return None;
        };
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the shell ends").unwrap();
        Some(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }
}

/// A command line up to the cursor, words that must be offered, and words that must not.
const CASES: &[(&str, &[&str], &[&str])] = &[
    ("chat-llm ", &["qwen", "quartz", "stones", "helper"], &["Cargo.toml"]),
    ("chat-llm s", &["stones"], &["qwen"]),
    ("get ", &["agent", "llm", "session", "task"], &["quartz"]),
    ("get llm ", &["qwen", "quartz"], &["helper", "Cargo.toml"]),
    ("describe agent ", &["helper"], &["quartz", "Cargo.toml"]),
    ("delete llm qwen ", &["quartz"], &["helper", "Cargo.toml"]),
    ("launch ", &["claude", "codex", "opencode"], &["Cargo.toml"]),
    ("launch codex ", &["qwen", "quartz", "stones", "helper"], &["Cargo.toml"]),
    ("provider ", &["qwen", "quartz"], &["helper", "Cargo.toml"]),
    ("chat-llm qwen --sys", &["--system"], &["--no-stream"]),
    ("pub", &["publish"], &["resume"]),
];

fn is_offered(shell: &str, line: &str, said: &str, wanted: &[&str], unwanted: &[&str]) {
    let words: Vec<_> = said.split(|c: char| c.is_whitespace() || c.is_control()).collect();
    for word in wanted {
        assert!(words.iter().any(|said| said.starts_with(word)), "{shell}: no {word} after {line:?}: {said}");
    }
    for word in unwanted {
        assert!(!words.contains(word), "{shell}: {word} after {line:?}: {said}");
    }
}

#[actix_rt::test]
async fn bash_completes_commands_options_and_names() {
    let scene = Scene::start().await;
    let script = scene.script("bash", "virtual-llm.bash").await;
    for (line, wanted, unwanted) in CASES {
        // readline passes the command, the word to complete, and the word before it.
        let complete = "source \"$1\"; IFS=' ' read -ra COMP_WORDS <<<\"virtual-llm $2\"; \
            [[ $2 == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); \
            eval \"$(complete -p virtual-llm | sed 's/.*-F \\([^ ]*\\).*/call=\\1/')\"; \
            $call virtual-llm \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\"; \
            printf '%s\\n' \"${COMPREPLY[@]}\"";
        let args = ["--norc", "-c", complete, "bash", script.to_str().unwrap(), line];
        let Some(said) = scene.shell("bash", &args).await else { return };
        is_offered("bash", line, &said, wanted, unwanted);
    }
}

#[actix_rt::test]
async fn fish_completes_commands_options_and_names() {
    let scene = Scene::start().await;
    let script = scene.script("fish", "virtual-llm.fish").await;
    for (line, wanted, unwanted) in CASES {
        let complete = format!("source {}; complete -C 'virtual-llm {line}'", script.display());
        let Some(said) = scene.shell("fish", &["-N", "-c", &complete]).await else { return };
        is_offered("fish", line, &said, wanted, unwanted);
    }
}

/// A zsh script that opens a pseudo-terminal, because zsh completes only there, and prints the completions of each line.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty -b z zsh -f -i
zpty -w z "fpath=($1 \$fpath); autoload -U compinit; compinit -u -D; LISTMAX=1000; stty cols 400; bindkey '^I' list-choices; PS1='>'; print RE''ADY"
zpty -r z said '*READY*'
# Each line is typed when the editor asks for pastes in brackets: then it reads. What is listed comes before the line is drawn again, and the mark before the next one.
for line in "${@[2,-1]}"; do
    zpty -r z said '*2004h*'
    zpty -w -n z "virtual-llm $line"$'\t\C-u'"print MA''RK"$'\n'
    zpty -r z said '*MARK*'
    print -r -- "LINE ${said//$'\n'/ }"
done
zpty -d z
"#;

/// Removes the terminal's escape sequences.
fn plain(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + " " + piece.trim_start_matches(|c: char| !c.is_alphabetic()).get(1..).unwrap_or_default()
    })
}

#[actix_rt::test]
async fn zsh_completes_commands_options_and_names() {
    let scene = Scene::start().await;
    let functions: &Path = &scene.home.path().join("functions");
    std::fs::create_dir(functions).unwrap();
    scene.script("zsh", "functions/_virtual-llm").await;
    let mut args = vec!["-f", "-c", ZSH, "zsh", functions.to_str().unwrap()];
    args.extend(CASES.iter().map(|(line, ..)| *line));
    let Some(said) = scene.shell("zsh", &args).await else { return };
    let lists: Vec<_> = said.split("LINE ").skip(1).collect();
    assert_eq!(lists.len(), CASES.len(), "{said}");
    for ((line, wanted, unwanted), said) in CASES.iter().zip(lists) {
        // The output also repeats the typed line.
        let said = plain(said).replace(&format!("virtual-llm {line}"), "");
        is_offered("zsh", line, &said, wanted, unwanted);
    }
}
