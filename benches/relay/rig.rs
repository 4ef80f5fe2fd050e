//! Hub and registrar as processes of the release build, with tokens, audit and a store on disk.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testkit::free_port;
use testkit::process::Killed;
use testkit::procfs::{cpu, resident};

use crate::caller::{Caller, Target};
use crate::calls::SMALL;
use crate::figures::Figures;

const TOKEN: &str = "benchmark-admin-token-0123456789abcdef";

/// The provider that sleeps when the backend is told so, and is woken over HTTP.
pub const SLEEPER: &str = "sleeper";

/// The LLM of the registrar without a link.
pub const CLASSIC: &str = "classic";

pub struct Rig {
    pub direct: Target,
    pub relay: Target,
    /// What `BENCH_PEER` starts: another relay before the same backend.
    pub peer: Option<Target>,
    hub: RefCell<Killed>,
    registrar: Killed,
    _peer: Option<Killed>,
    hub_port: u16,
    home: TempDir,
}

impl Rig {
    pub fn start(backend: u16) -> Self {
        Self::start_under(backend, &[])
    }

    /// As `start`, with hub and registrar each run by a command, such as `valgrind`; both get a folder of their own.
    pub fn start_under(backend: u16, runner: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let hub_port = free_port();
        let mcpctl = home.path().join(".mcpctl");
        std::fs::create_dir(&mcpctl).unwrap();
        let server = format!("http://127.0.0.1:{backend}");
        let provider = serde_json::json!({ "name": "bench", "type": "openai", "model": "m", "url": format!("{server}/v1"),
            "publish": true, "visibility": "public", "maxConcurrency": 1024, "maxQueue": 1024 });
        let mut sleeper = provider.clone();
        sleeper["name"] = SLEEPER.into();
        sleeper["availability"] = serde_json::json!({ "url": format!("{server}/is_sleeping"),
            "jsonPointer": "/is_sleeping", "equals": false });
        sleeper["wake"] =
            serde_json::json!({ "type": "http", "url": format!("{server}/wake"), "method": "POST" });
        let config = serde_json::json!({ "llm": { "providers": [provider, sleeper] } });
        std::fs::write(mcpctl.join("config.json"), config.to_string()).unwrap();
        let credentials =
            serde_json::json!({ "mcpdUrl": format!("http://127.0.0.1:{hub_port}"), "token": TOKEN });
        std::fs::write(mcpctl.join("credentials"), credentials.to_string()).unwrap();
        let peer = std::env::var("BENCH_PEER").ok().map(|command| {
            let port = free_port();
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {command}")]);
            (port, run(shell.env("PORT", port.to_string()).env("BACKEND", &server)))
        });
        let target = |port| Target { port, path: "/v1/chat/completions", token: TOKEN.to_owned() };
        Self {
            direct: target(backend),
            relay: target(hub_port),
            peer: peer.as_ref().map(|(port, _)| target(*port)),
            hub: RefCell::new(hub(runner, &home, hub_port)),
            registrar: run(own(runner, &home).args([
                "publish",
                "--reconnect-base",
                "100ms",
                "--reconnect-max",
                "200ms",
            ])),
            _peer: peer.map(|(_, running)| running),
            hub_port,
            home,
        }
    }

    /// Starts a second registrar, without a link. It publishes the same backend as [`CLASSIC`].
    pub fn classic(&self) -> Killed {
        let (home, mcpctl) = (self.home.path().join("classic"), self.home.path().join(".mcpctl"));
        std::fs::create_dir(&home).unwrap();
        std::fs::copy(mcpctl.join("credentials"), home.join("credentials")).unwrap();
        let config = std::fs::read_to_string(mcpctl.join("config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        let providers = config["llm"]["providers"].as_array_mut().unwrap();
        providers.truncate(1);
        providers[0]["name"] = CLASSIC.into();
        std::fs::write(home.join("config.json"), config.to_string()).unwrap();
        run(own(&[], &self.home).arg("--home").arg(home).args(["publish", "--transport", "classic"]))
    }

    /// Every way to the backend, by name.
    pub fn ways(&self) -> Vec<(&'static str, &Target)> {
        let peer = self.peer.as_ref().map(|peer| ("peer", peer));
        [("direct", &self.direct), ("relay", &self.relay)].into_iter().chain(peer).collect()
    }

    /// Waits until a call is answered on every way.
    pub async fn ready(&self) {
        for (name, target) in self.ways() {
            let answers = tokio::time::timeout(Duration::from_secs(30), answered(target)).await;
            assert!(answers.is_ok(), "no answer: {name}");
        }
    }

    /// The processes of hub and registrar.
    pub fn pids(&self) -> (i32, i32) {
        (self.hub.borrow().pid(), self.registrar.pid())
    }

    /// CPU time that hub and registrar have used so far, in seconds.
    pub fn cpu(&self) -> (f64, f64) {
        let (hub, registrar) = self.pids();
        (cpu(hub).as_secs_f64(), cpu(registrar).as_secs_f64())
    }

    /// Resident memory of the hub, in bytes.
    pub fn hub_memory(&self) -> u64 {
        resident(self.hub.borrow().pid())
    }

    /// Resident memory 10 s after start, one call made.
    pub async fn memory(&self, figures: &Figures) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let figure = |bytes| format!("{:.1} MB", bytes as f64 / 1e6);
        figures.row(
            "resident, 10 s after start",
            &[("hub", figure(self.hub_memory())), ("registrar", figure(resident(self.registrar.pid())))],
        );
    }

    /// Kills the hub and starts it again on its port and data.
    pub fn restart_hub(&self) {
        self.hub.borrow_mut().kill();
        *self.hub.borrow_mut() = hub(&[], &self.home, self.hub_port);
    }

    /// Ends the registrar, then the hub, by SIGTERM: what they wrote on the way out is complete afterwards.
    pub fn stop(&mut self) {
        self.registrar.stop();
        self.hub.borrow_mut().stop();
    }
}

/// Asks until there is an answer.
pub async fn answered(target: &Target) {
    loop {
        let up = tokio::net::TcpStream::connect(("127.0.0.1", target.port)).await.is_ok();
        if up && Caller::new(target).whole(SMALL).await == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn own(runner: &[&str], home: &TempDir) -> Command {
    let program =
        std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_virtual-llm").into());
    let mut command = match runner {
        [] => Command::new(program),
        [runner, arguments @ ..] => {
            let mut command = Command::new(runner);
            command.args(arguments).arg(program);
            command
        }
    };
    command.env("HOME", home.path()).env("VIRTUAL_LLM_ADMIN_TOKEN", TOKEN);
    command
}

fn hub(runner: &[&str], home: &TempDir, port: u16) -> Killed {
    let data: PathBuf = home.path().join("hub");
    run(own(runner, home).args(["hub", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]).arg(data))
}

/// Starts a process that ends with its owner.
fn run(command: &mut Command) -> Killed {
    let stderr = if std::env::var_os("BENCH_LOGS").is_some() { Stdio::inherit() } else { Stdio::null() };
    Killed::spawn(command.stdout(Stdio::null()).stderr(stderr))
}
