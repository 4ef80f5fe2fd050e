//! Hub and registrar as two processes, with a fake backend behind them.

use serde_json::{Value, json};

use super::backend::FakeBackend;
use super::http::{Answer, Http};
use super::process::{Home, Process};

pub const ADMIN: &str = "admin-token-of-a-test-0123456789abcdef";

/// A hub, a registrar and a backend, each in its own process or thread.
pub struct Team {
    pub backend: FakeBackend,
    pub home: Home,
    pub port: u16,
    pub hub: Process,
    pub registrar: Process,
    pub http: Http,
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub fn start_hub(home: &Home, port: u16) -> Process {
    start_hub_after("true", home, port)
}

/// As `start_hub`, by a shell that does `setup` first.
pub fn start_hub_after(setup: &str, home: &Home, port: u16) -> Process {
    let data = home.path().join("hub");
    let mut command = home.command_after(
        setup,
        &[
            "hub",
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--data-dir",
            data.to_str().unwrap(),
            "--reattach-grace",
            "2s",
        ],
    );
    command.env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN);
    Process::new(command.spawn().unwrap())
}

pub fn start_registrar(home: &Home) -> Process {
    home.start(&[
        "publish",
        "--heartbeat-interval",
        "500ms",
        "--reconnect-base",
        "50ms",
        "--reconnect-max",
        "200ms",
    ])
}

impl Team {
    pub async fn start() -> Self {
        Self::start_after("true").await
    }

    /// A team whose hub is started by a shell that does `setup` first.
    pub async fn start_after(setup: &str) -> Self {
        let (backend, home, port) = (FakeBackend::start(), Home::new(), free_port());
        let http = Http::new(&format!("http://127.0.0.1:{port}"), ADMIN);
        home.credentials(&format!("http://127.0.0.1:{port}/"), ADMIN);
        home.providers(&json!([
            { "name": "local", "type": "openai", "model": "fake-model", "url": backend.url(), "publish": true, "poolName": "team" }
        ]));
        let hub = start_hub_after(setup, &home, port);
        hub.logs("listens on").await;
        let registrar = start_registrar(&home);
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
