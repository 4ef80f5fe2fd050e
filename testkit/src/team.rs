//! A hub and a registrar as two processes, and a fake backend for the registrar.

use serde_json::{Value, json};

use crate::backend::FakeBackend;
use crate::free_port;
use crate::http::{Answer, Http};
use crate::process::{Home, Process};

pub const ADMIN: &str = "admin-token-of-a-test-0123456789abcdef";

/// A hub process, a registrar process and a fake backend.
pub struct Team {
    pub backend: FakeBackend,
    pub home: Home,
    pub port: u16,
    pub hub: Process,
    pub registrar: Process,
    pub http: Http,
}

/// Starts a hub on a free port, with a new home directory, and waits until it listens.
pub async fn listening_hub() -> (Home, Process, u16) {
    let (home, port) = (Home::new(), free_port());
    let hub = start_hub(&home, port);
    hub.logs("listens on").await;
    (home, hub, port)
}

/// Starts a hub that stores nothing on disk, and waits until it listens. The new home directory has an admin's credentials
/// for the hub. Also returns the hub's URL.
pub async fn hub_in_memory(options: &[&str]) -> (Home, Process, String) {
    let (home, listen) = (Home::new(), format!("127.0.0.1:{}", free_port()));
    let usual = ["hub", "--in-memory", "--listen", &listen];
    let mut command = home.command(&[&usual, options].concat());
    let hub = Process::new(command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN).spawn().unwrap());
    hub.logs("listens on").await;
    let url = format!("http://{listen}");
    home.credentials(&url, ADMIN);
    (home, hub, url)
}

pub fn start_hub(home: &Home, port: u16) -> Process {
    launch_hub("true", home, port, &[])
}

/// As `start_hub`, but a shell runs `setup` first.
pub fn start_hub_after(setup: &str, home: &Home, port: u16) -> Process {
    launch_hub(setup, home, port, &[])
}

/// As `start_hub`, with further options.
pub fn start_hub_with(home: &Home, port: u16, options: &[&str]) -> Process {
    launch_hub("true", home, port, options)
}

fn launch_hub(setup: &str, home: &Home, port: u16, options: &[&str]) -> Process {
    let (listen, data) = (format!("127.0.0.1:{port}"), home.path().join("hub"));
    let usual = ["hub", "--listen", &listen, "--data-dir", data.to_str().unwrap()];
    let grace = if options.contains(&"--reattach-grace") { &[][..] } else { &["--reattach-grace", "2s"] };
    let mut command = home.command_after(setup, &[&usual, grace, options].concat());
    command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN);
    Process::new(command.spawn().unwrap())
}

pub fn start_registrar(home: &Home) -> Process {
    start_registrar_with(home, &[])
}

/// Starts a registrar, and waits until its control channel is open.
pub async fn connected_registrar(home: &Home) -> Process {
    let registrar = start_registrar(home);
    registrar.logs("control channel open").await;
    registrar
}

/// As `start_registrar`, with further options.
pub fn start_registrar_with(home: &Home, options: &[&str]) -> Process {
    let usual =
        ["publish", "--heartbeat-interval", "500ms", "--reconnect-base", "50ms", "--reconnect-max", "200ms"];
    home.start(&[&usual, options].concat())
}

/// Deviations from the default team.
pub struct Plan<'a> {
    /// Shell commands to run before the hub.
    pub setup: &'a str,
    pub hub: &'a [&'a str],
    pub registrar: &'a [&'a str],
    /// The port on which the hub listens, and the port to which the registrar connects.
    pub ports: Option<(u16, u16)>,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self { setup: "true", hub: &[], registrar: &[], ports: None }
    }
}

impl Team {
    pub async fn start() -> Self {
        Self::of(Plan::default()).await
    }

    /// Starts a team whose hub is started by a shell that runs `setup` first.
    pub async fn start_after(setup: &str) -> Self {
        Self::of(Plan { setup, ..Plan::default() }).await
    }

    pub async fn of(plan: Plan<'_>) -> Self {
        let (backend, home) = (FakeBackend::start(), Home::new());
        let free = free_port();
        let (port, target) = plan.ports.unwrap_or((free, free));
        let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
        home.credentials(&format!("http://127.0.0.1:{target}/"), ADMIN);
        home.providers(&json!([
            { "name": "local", "type": "openai", "model": "fake-model", "url": backend.url(), "publish": true, "poolName": "team" }
        ]));
        let hub = launch_hub(plan.setup, &home, port, plan.hub);
        hub.logs("listens on").await;
        let registrar = start_registrar_with(&home, plan.registrar);
        registrar.logs("control channel open").await;
        Self { backend, home, port, hub, registrar, http }
    }

    pub async fn row(&self) -> Value {
        self.http.get("/api/v1/llms/local").await.json()
    }

    pub async fn chat(&self, streaming: bool) -> Answer {
        let body = json!({ "model": "local", "stream": streaming, "messages": [{ "role": "user", "content": "hi" }] });
        self.http.post("/v1/chat/completions", &body).await
    }
}
