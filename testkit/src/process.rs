//! The binary as a process with a home of its own, killed by id when the test ends.

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

/// The program under test, which cargo builds for the tests and benchmarks of its package.
///
/// Cargo names it when it runs them. One that is run by hand finds it in the folder above its own.
pub fn program() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_virtual-llm").map_or_else(
        || {
            let own = std::env::current_exe().unwrap();
            own.parent().and_then(Path::parent).unwrap().join("virtual-llm")
        },
        PathBuf::from,
    )
}

/// A home directory of a test's own.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The directory for `--home`.
    pub fn mcpctl(&self) -> PathBuf {
        self.0.path().join(".mcpctl")
    }

    /// Writes `~/.mcpctl/NAME`, 0600.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        let path = self.mcpctl().join(name);
        // Nobody else's, whatever the umask: what others could put there is refused.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes the credentials for a hub at `url`.
    pub fn credentials(&self, url: &str, token: &str) {
        self.write("credentials", &serde_json::json!({ "mcpdUrl": url, "token": token }).to_string());
    }

    /// Writes a configuration with these providers.
    pub fn providers(&self, providers: &serde_json::Value) {
        self.write("config.json", &serde_json::json!({ "llm": { "providers": providers } }).to_string());
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A command of the binary that sees this home and nothing of the tester's environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args);
        self.alone(command)
    }

    /// The same, run by a shell that does `setup` first and then becomes the binary: limits, ignored signals.
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

/// What a process left.
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
        i32::try_from(self.child.id().expect("still running")).unwrap()
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

    /// Waits until standard error has `text`.
    pub async fn logs(&self, text: &str) {
        self.shows(&self.stderr, text).await;
    }

    /// Waits until standard output has `text`.
    pub async fn prints(&self, text: &str) {
        self.shows(&self.stdout, text).await;
    }

    async fn shows(&self, from: &Rc<RefCell<String>>, text: &str) {
        let found = timeout(PATIENCE, wait_until("it shows", || from.borrow().contains(text)));
        assert!(found.await.is_ok(), "no {text:?} in:\n{}\n{}", self.stdout(), self.stderr());
    }

    /// Seconds of CPU so far.
    pub fn cpu(&self) -> f64 {
        procfs::cpu(self.pid()).as_secs_f64()
    }

    /// Waits until it has ended, whatever it printed.
    pub async fn ended(&mut self) {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
    }

    /// Waits for the end.
    pub async fn end(mut self) -> Outcome {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let Ok(status) = status else { panic!("still runs:\n{}\n{}", self.stdout(), self.stderr()) };
        // The pipes' readers end with the process, on this thread, a moment later.
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

/// A process that is killed by its id when it is dropped.
pub struct Killed(pub std::process::Child);

impl Killed {
    /// Starts it with nothing on its standard input.
    pub fn spawn(command: &mut std::process::Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    /// Asks it to end, and waits.
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
