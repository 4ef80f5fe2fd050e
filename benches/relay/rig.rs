//! Hub and registrar as processes of the release build, with tokens, audit and a store on disk.

use std::cell::RefCell;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use testkit::free_port;
use testkit::process::Killed;
use testkit::procfs::{anonymous, ran, resident};

use crate::caller::{Caller, Target};
use crate::calls::SMALL;
use crate::figures::Figures;

const TOKEN: &str = "benchmark-admin-token-0123456789abcdef";

/// The provider that sleeps when the backend is told so, and is woken over HTTP.
pub const SLEEPER: &str = "sleeper";

/// Hub and registrar on the ways, by the transport between them.
pub const TRANSPORTS: [&str; 2] = ["link", "classic"];

pub struct Rig {
    pub direct: Target,
    /// One for each of [`TRANSPORTS`]; the first one alone if `BENCH_PROGRAM` has no `--transport`.
    pub relays: Vec<Relay>,
    /// Another relay, or a tunnel, before the same backend (`BENCH_PEER`).
    pub peer: Option<Target>,
    _peer: Option<Killed>,
}

/// A hub and a registrar before the backend.
pub struct Relay {
    pub target: Target,
    hub: RefCell<Killed>,
    registrar: Killed,
    home: TempDir,
}

fn target(port: u16) -> Target {
    Target { port, path: "/v1/chat/completions", token: TOKEN.to_owned() }
}

impl Rig {
    pub fn start(backend: u16) -> Self {
        let server = format!("http://127.0.0.1:{backend}");
        let peer = std::env::var("BENCH_PEER").ok();
        let address = peer.as_ref().and_then(|peer| peer.parse::<SocketAddr>().ok());
        let started = peer.filter(|_| address.is_none()).map(|command| {
            let port = free_port();
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("exec {command}")]);
            (port, run(shell.env("PORT", port.to_string()).env("BACKEND", &server)))
        });
        let port = address.map(|address| address.port()).or(started.as_ref().map(|(port, _)| *port));
        Self {
            direct: target(backend),
            relays: transports().map(|transport| Relay::start(backend, transport, &[])).collect(),
            peer: port.map(target),
            _peer: started.map(|(_, running)| running),
        }
    }

    /// The relay by a link.
    pub fn linked(&self) -> &Relay {
        &self.relays[0]
    }

    /// Every way to the backend, by name.
    pub fn ways(&self) -> Vec<(&'static str, &Target)> {
        let relays = TRANSPORTS.into_iter().zip(self.relays.iter().map(|relay| &relay.target));
        let peer = self.peer.as_ref().map(|peer| ("peer", peer));
        [("direct", &self.direct)].into_iter().chain(relays).chain(peer).collect()
    }

    /// The relay of a way that is one.
    pub fn relay(&self, way: &str) -> Option<&Relay> {
        TRANSPORTS.iter().position(|transport| *transport == way).and_then(|at| self.relays.get(at))
    }

    /// Waits until a call is answered on every way.
    pub async fn ready(&self) {
        for (name, target) in self.ways() {
            let answers = tokio::time::timeout(Duration::from_secs(30), answered(target)).await;
            assert!(answers.is_ok(), "no answer: {name}");
        }
    }
}

impl Relay {
    /// Starts both, each run by the command `runner`, such as `valgrind`, in a folder of their own.
    pub fn start(backend: u16, transport: &str, runner: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = free_port();
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
            serde_json::json!({ "mcpdUrl": format!("http://127.0.0.1:{port}"), "token": TOKEN });
        std::fs::write(mcpctl.join("credentials"), credentials.to_string()).unwrap();
        let reconnect = ["--reconnect-base", "100ms", "--reconnect-max", "200ms"];
        let mut registrar = own(runner, &home);
        registrar.arg("publish").args(reconnect);
        if transport != TRANSPORTS[0] {
            registrar.args(["--transport", transport]);
        }
        Self {
            target: target(port),
            hub: RefCell::new(hub(runner, &home, port)),
            registrar: run(&mut registrar),
            home,
        }
    }

    /// The processes of hub and registrar.
    pub fn pids(&self) -> (i32, i32) {
        (self.hub.borrow().pid(), self.registrar.pid())
    }

    /// CPU time that hub and registrar have used so far, in seconds.
    pub fn cpu(&self) -> [f64; 2] {
        let (hub, registrar) = self.pids();
        [hub, registrar].map(|pid| ran(pid).as_secs_f64())
    }

    /// Resident memory of the hub, in bytes.
    pub fn hub_memory(&self) -> u64 {
        resident(self.hub.borrow().pid())
    }

    /// Resident memory 10 s after start, one call made: all of it, and what is no page of the executable or of libc.
    pub async fn memory(&self, figures: &Figures) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let figure = |pid| {
            let [all, own] = [resident(pid), anonymous(pid)].map(|bytes| bytes as f64 / 1e6);
            format!("{all:.1} MB ({own:.1} MB without pages of files)")
        };
        let (hub, registrar) = self.pids();
        figures.row("resident, 10 s after start", &[("hub", figure(hub)), ("registrar", figure(registrar))]);
    }

    /// Kills the hub and starts it again on its port and data.
    pub fn restart_hub(&self) {
        self.hub.borrow_mut().kill();
        *self.hub.borrow_mut() = hub(&[], &self.home, self.target.port);
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

/// The transports that the program has.
pub fn transports() -> impl Iterator<Item = &'static str> {
    let help = Command::new(program()).args(["publish", "--help"]).output().unwrap();
    let has_both = String::from_utf8_lossy(&help.stdout).contains("--transport");
    TRANSPORTS.into_iter().take(if has_both { 2 } else { 1 })
}

fn program() -> OsString {
    std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_virtual-llm").into())
}

fn own(runner: &[&str], home: &TempDir) -> Command {
    let program = program();
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
