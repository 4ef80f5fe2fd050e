//! The hub's process; it is killed when the test ends.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use testkit::procfs;
use testkit::wait::{eventually, wait_within};
use tokio::process::{Child, Command};
use tokio::time::sleep;

pub const ADMIN: &str = "admin-token-of-the-herd-0123456789abcdef";

pub struct Hub {
    child: Child,
    port: u16,
    home: TempDir,
}

impl Hub {
    pub async fn start() -> Self {
        let port = testkit::free_port();
        let home = tempfile::tempdir().unwrap();
        let hub = Self { child: spawn(&home, port), port, home };
        hub.wait_until_ready().await;
        hub
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub async fn kill(&mut self) {
        self.end(Signal::SIGKILL).await;
    }

    /// Asks the hub to stop, and waits until it has.
    pub async fn stop(&mut self) {
        self.end(Signal::SIGTERM).await;
    }

    async fn end(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
        self.child.wait().await.unwrap();
    }

    pub async fn start_again(&mut self) {
        self.child = spawn(&self.home, self.port);
        self.wait_until_ready().await;
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id().unwrap()).unwrap()
    }

    async fn wait_until_ready(&self) {
        eventually("the hub is ready", async || self.get("/readyz").await.is_some()).await;
    }

    /// Body of the answer if its status is 200.
    async fn get(&self, path: &str) -> Option<String> {
        let client = awc::Client::builder().timeout(Duration::from_secs(10)).finish();
        let request = client.get(format!("http://127.0.0.1:{}{path}", self.port)).bearer_auth(ADMIN);
        let mut answer = request.send().await.ok().filter(|answer| answer.status() == 200)?;
        let body = answer.body().limit(64 << 20).await.ok()?;
        String::from_utf8(body.to_vec()).ok()
    }

    /// Waits until at least `count` control channels are open.
    pub async fn wait_for_publishers(&self, count: usize, limit: Duration) {
        wait_within(limit, &format!("{count} publishers are connected"), async || {
            let metrics = self.get("/metrics").await.unwrap_or_default();
            let publishers = metrics.lines().find_map(|line| line.strip_prefix("virtual_llm_publishers "));
            let are_all =
                publishers.and_then(|open| open.parse().ok()).is_some_and(|open: usize| open >= count);
            if !are_all {
                // A look at the metrics costs the hub, whose load is measured: ten looks a second.
                sleep(Duration::from_millis(100)).await;
            }
            are_all.then_some(())
        })
        .await;
    }

    pub async fn active_rows(&self) -> usize {
        let rows: serde_json::Value = serde_json::from_str(&self.get("/api/v1/llms").await.unwrap()).unwrap();
        rows.as_array().unwrap().iter().filter(|row| row["status"] == "active").count()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        procfs::resident(self.pid())
    }

    /// User and system CPU time so far.
    pub fn cpu(&self) -> Duration {
        procfs::cpu(self.pid())
    }
}

fn spawn(home: &TempDir, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_virtual-llm"))
        .args(["--quiet", "hub", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"])
        .arg(home.path().join("hub"))
        .env_clear()
        .env("HOME", home.path())
        .env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}
