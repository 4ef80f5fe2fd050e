//! The processes of the test: one hub and its registrars, each the real binary with its own home directory.

use std::cell::{Cell, RefCell};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::json;
use testkit::client::ask;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::record::Record;

pub const ADMIN: &str = "admin-token-of-the-invariant-run-0123456789";

/// Pids of all running processes, so that each can be killed at the end of the test.
#[derive(Clone, Default)]
pub struct Pids(Arc<Mutex<Vec<i32>>>);

impl Pids {
    pub fn kill_all(&self) {
        for pid in self.0.lock().drain(..) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Kills all running processes when dropped, also during a panic.
pub struct EndsAll(pub Pids);

impl Drop for EndsAll {
    fn drop(&mut self) {
        self.0.kill_all();
    }
}

/// A program that the test starts several times.
pub struct Program {
    name: String,
    args: Vec<String>,
    home: PathBuf,
    pids: Pids,
    record: Rc<Record>,
    pid: Cell<i32>,
    /// Number of starts so far.
    lives: Cell<u32>,
    end: RefCell<watch::Receiver<Option<ExitStatus>>>,
    /// Whether the test is ending the process; otherwise its end is a violation.
    wanted: Rc<Cell<bool>>,
}

impl Program {
    pub fn new(name: String, args: Vec<String>, home: PathBuf, pids: Pids, record: Rc<Record>) -> Self {
        let (_, end) = watch::channel(None);
        Self {
            name,
            args,
            home,
            pids,
            record,
            pid: Cell::new(0),
            lives: Cell::new(0),
            end: RefCell::new(end),
            wanted: Rc::default(),
        }
    }

    pub fn start(&self) {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        self.lives.set(self.lives.get() + 1);
        let mut child = command(&self.home)
            .args(&self.args)
            .env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN)
            // The key tells the backend how often the registrar had been started.
            .env("BACKEND_KEY", format!("life-{}", self.lives.get()))
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        self.pids.0.lock().push(pid);
        self.pid.set(pid);
        self.wanted.set(false);
        let (ended, end) = watch::channel(None);
        self.end.replace(end);
        let (pids, name) = (self.pids.clone(), self.name.clone());
        let (wanted, record) = (Rc::clone(&self.wanted), Rc::clone(&self.record));
        actix_rt::spawn(async move {
            let status = child.wait().await.unwrap();
            pids.0.lock().retain(|other| *other != pid);
            if !wanted.get() {
                record.violation(format!("{name} ended by itself: {status}"));
            }
            ended.send_replace(Some(status));
        });
    }

    pub fn log_file(&self) -> PathBuf {
        self.home.join("log")
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn pid(&self) -> i32 {
        self.pid.get()
    }

    /// Sends a signal if the process runs. After its end, the pid may belong to another program.
    pub fn signal(&self, signal: Signal) {
        if self.end.borrow().borrow().is_none() {
            let _ = kill(Pid::from_raw(self.pid.get()), signal);
        }
    }

    pub async fn kill(&self) {
        self.wanted.set(true);
        self.signal(Signal::SIGKILL);
        let _ = self.ended(Duration::from_secs(10)).await;
    }

    /// Sends SIGTERM: the process must exit with 0 within `limit`.
    pub async fn terminate(&self, limit: Duration) {
        self.wanted.set(true);
        let start = Instant::now();
        self.signal(Signal::SIGTERM);
        match self.ended(limit).await {
            Some(status) if status.success() => (),
            Some(status) => {
                self.record.violation(format!("P8: {} ended with {status} after SIGTERM", self.name));
            }
            None => {
                self.record.violation(format!(
                    "P8: {} still ran {:?} after SIGTERM",
                    self.name,
                    start.elapsed()
                ));
                self.kill().await;
            }
        }
    }

    async fn ended(&self, limit: Duration) -> Option<ExitStatus> {
        let mut end = self.end.borrow().clone();
        let ended = timeout(limit, end.wait_for(Option::is_some)).await;
        ended.ok()?.ok().and_then(|status| *status)
    }
}

/// Copies the binary into `base`, so that a build during a long run does not replace it.
pub fn copy_binary(base: &Path) {
    fs::copy(env!("CARGO_BIN_EXE_virtual-llm"), base.join(BINARY)).unwrap();
}

const BINARY: &str = "virtual-llm";

/// A command for the binary with this home directory and an otherwise empty environment.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(home.parent().unwrap().join(BINARY));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

pub fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    let options = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let mut file: File = options.unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// Creates a directory with mode 0700.
pub fn private_dir(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Half of the registrars of each pool are classic. One of the others stays with links that break early.
fn transport(index: usize) -> &'static str {
    ["auto", "link", "classic", "classic"][index % 4]
}

/// Creates the home directory and the `Program` of a registrar.
pub fn registrar(
    index: usize,
    base: &Path,
    hub_port: u16,
    backend_port: u16,
    token: &str,
    pids: &Pids,
    record: &Rc<Record>,
) -> Program {
    let home = base.join(format!("registrar-{index}"));
    let mcpctl = home.join(".mcpctl");
    private_dir(&mcpctl);
    let mut provider = json!({
        "name": format!("row-{index}"), "type": "openai", "model": "fake", "publish": true,
        "url": format!("http://127.0.0.1:{backend_port}/v1"), "apiKeyEnv": "BACKEND_KEY", "visibility": "public",
        "poolName": format!("pool-{}", index / 4), "maxConcurrency": 4, "maxQueue": 8, "timeoutSeconds": 4,
    });
    if index.is_multiple_of(5) {
        // The recipe does not start the backend; the test needs only that a recipe runs.
        provider["wake"] =
            json!({ "type": "command", "command": "sleep", "args": ["0.1"], "maxWaitSeconds": 3 });
    }
    write_private(&mcpctl.join("config.json"), &json!({ "llm": { "providers": [provider] } }).to_string());
    let credentials = json!({ "mcpdUrl": format!("http://127.0.0.1:{hub_port}"), "token": token });
    write_private(&mcpctl.join("credentials"), &credentials.to_string());
    let timings = ["--heartbeat-interval", "1s", "--reconnect-base", "100ms", "--reconnect-max", "2s"];
    let limits = ["--idle-timeout", "3s", "--drain-timeout", "3s"];
    let args = ["publish"].into_iter().chain(timings).chain(limits).chain(["--transport", transport(index)]);
    let args = args.map(str::to_owned).collect();
    Program::new(format!("registrar {index}"), args, home, pids.clone(), Rc::clone(record))
}

/// Creates the home directory and the `Program` of the hub.
pub fn hub(base: &Path, port: u16, pids: &Pids, record: &Rc<Record>) -> Program {
    let home = base.join("hub");
    private_dir(&home);
    let (listen, data) = (format!("127.0.0.1:{port}"), home.join("data"));
    let place = ["hub", "--listen", &listen, "--data-dir", data.to_str().unwrap()];
    let timings = [
        ["--heartbeat-timeout", "3s"],
        ["--reattach-grace", "2s"],
        ["--sweep-interval", "1s"],
        ["--ping-interval", "500ms"],
        ["--keepalive-interval", "1s"],
        ["--wait-timeout", "8s"],
        ["--queue-timeout", "20s"],
    ];
    let args = place.into_iter().chain(timings.into_iter().flatten()).map(str::to_owned).collect();
    Program::new("hub".to_owned(), args, home, pids.clone(), Rc::clone(record))
}

/// Waits until the hub is ready. The error has the last line of the hub's log.
pub async fn ready(hub: &Program, port: u16) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let asked = timeout(Duration::from_secs(3), ask(port, ADMIN, "GET /readyz", "", None)).await;
        if asked.is_ok_and(|asked| asked.is_ok_and(|answer| answer.status == 200)) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let log = fs::read_to_string(hub.log_file()).unwrap_or_default();
            let last = log.lines().last().unwrap_or_default();
            return Err(format!("P4: the hub is not ready; its last log line: {last}"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
