//! The binary as a process with its own home directory; the process is killed when the test ends.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::procfs;
use crate::wait::{PATIENCE, wait_until};

/// Path of the program under test, which cargo builds for the tests and benchmarks of its package.
///
/// Cargo sets the path in an environment variable. A test binary that is started by hand looks in its parent folder.
pub fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_virtual-llm").map_or_else(
        || {
            let own = std::env::current_exe().unwrap();
            own.parent().and_then(Path::parent).unwrap().join("virtual-llm")
        },
        PathBuf::from,
    )
}

/// A temporary home directory.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The directory for `--home`.
    pub fn mcpctl(&self) -> PathBuf {
        self.0.path().join(".mcpctl")
    }

    /// Writes `~/.mcpctl/NAME` with mode 0600.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let path = self.mcpctl().join(name);
        // With any umask the folder must be private, because the binary refuses files that others could replace.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes the credentials for a hub at `url`.
    pub fn credentials(&self, url: &str, token: &str) {
        self.write("credentials", &serde_json::json!({ "mcpdUrl": url, "token": token }).to_string());
    }

    /// Writes `config.json` with these providers.
    pub fn providers(&self, providers: &serde_json::Value) {
        self.write("config.json", &serde_json::json!({ "llm": { "providers": providers } }).to_string());
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A command for the binary with this home directory and an otherwise empty environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args);
        self.alone(command)
    }

    /// As `command`, but a shell runs `setup` first, such as a limit or an ignored signal, then `exec`s the binary.
    pub fn command_after(&self, setup: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{setup}; exec \"$0\" \"$@\"")]).arg(program()).args(args);
        self.alone(command)
    }

    fn alone(&self, mut command: Command) -> Command {
        command
            .env_clear()
            .env("HOME", self.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the binary.
    pub fn start(&self, args: &[&str]) -> Process {
        Process::new(self.command(args).spawn().unwrap())
    }

    /// Runs the binary to its end.
    pub async fn run(&self, args: &[&str]) -> Outcome {
        self.start(args).end().await
    }
}

/// A running binary.
pub struct Process {
    child: Child,
    stdout: Rc<RefCell<String>>,
    stderr: Rc<RefCell<String>>,
}

/// Exit status and output of an ended process.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }
}

impl Process {
    pub fn new(mut child: Child) -> Self {
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id().expect("the process has ended")).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn stdout(&self) -> String {
        self.stdout.borrow().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.borrow().clone()
    }

    /// Waits until standard error contains `text`.
    pub async fn logs(&self, text: &str) {
        self.shows(&self.stderr, text).await;
    }

    /// Waits until standard output contains `text`.
    pub async fn prints(&self, text: &str) {
        self.shows(&self.stdout, text).await;
    }

    async fn shows(&self, from: &Rc<RefCell<String>>, text: &str) {
        let found = timeout(PATIENCE, wait_until("the output has the text", || from.borrow().contains(text)));
        assert!(found.await.is_ok(), "no {text:?} in:\n{}\n{}", self.stdout(), self.stderr());
    }

    /// CPU time so far, in seconds.
    pub fn cpu(&self) -> f64 {
        procfs::cpu(self.pid()).as_secs_f64()
    }

    /// Waits until the process has ended. The output may not be complete yet.
    pub async fn ended(&mut self) {
        timeout(PATIENCE, self.child.wait()).await.expect("the process did not end").unwrap();
    }

    /// Waits until the process has ended and all output is read.
    pub async fn end(mut self) -> Outcome {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else {
            panic!("the process still runs:\n{}\n{}", self.stdout(), self.stderr())
        };
        // The tasks that read the pipes finish shortly after the process.
        wait_until("the output is read", || {
            Rc::strong_count(&self.stdout) == 1 && Rc::strong_count(&self.stderr) == 1
        })
        .await;
        Outcome { status: status.unwrap(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

fn collect(pipe: impl AsyncRead + Unpin + 'static) -> Rc<RefCell<String>> {
    let text = Rc::new(RefCell::new(String::new()));
    let sink = Rc::clone(&text);
    spawn_local(async move {
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
            sink.borrow_mut().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// A process that is killed when it is dropped.
pub struct Killed(pub std::process::Child);

impl Killed {
    /// Starts a command with an empty standard input.
    pub fn spawn(command: &mut std::process::Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Sends SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        self.0.wait().unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}
