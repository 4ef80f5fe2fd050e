//! The hub as a process of the release build with a store on disk, and a registrar where one is needed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::Killed;
use testkit::procfs;

use crate::http::Http;

pub const ADMIN: &str = "benchmark-admin-token-0123456789abcdef";

pub struct Hub {
    process: Killed,
    pub port: u16,
    _home: TempDir,
}

impl Hub {
    pub fn start() -> Self {
        // One thread each for thousands of callers.
        let most = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap().1;
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, most, most).unwrap();
        let home = tempfile::tempdir().unwrap();
        let mut command = program(&home);
        command.args(["hub", "--listen", "127.0.0.1:0", "--data-dir"]).arg(home.path().join("data"));
        let mut process = Killed::spawn(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let port = log
            .by_ref()
            .find_map(|line| line.unwrap().split("listens on http://127.0.0.1:").nth(1)?.trim().parse().ok())
            .expect("the hub says where it listens");
        // Nobody reads what it says from now on, and it must not wait for that.
        spawn(move || log.for_each(drop));
        Self { process, port, _home: home }
    }

    pub fn pid(&self) -> i32 {
        self.process.pid()
    }

    pub fn admin(&self) -> Http {
        Http::new(self.port, ADMIN)
    }

    /// A new member's token.
    pub fn member(&self, user: &str) -> String {
        let (status, answer) =
            self.admin().call("POST", "/api/v1/tokens", &json!({ "user": user }).to_string());
        assert_eq!(status, 201, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// Registers `providers`; the session's id.
    pub fn register(&self, token: &str, providers: &[Value]) -> String {
        let body = json!({ "providers": providers }).to_string();
        let (status, answer) =
            Http::new(self.port, token).call("POST", "/api/v1/llms/_provider-register", &body);
        assert_eq!(status, 201, "{answer}");
        serde_json::from_str::<Value>(&answer).unwrap()["providerSessionId"].as_str().unwrap().to_owned()
    }

    /// A registrar that publishes the built-in mock as `name`.
    pub fn publish_mock(&self, name: &str) -> Registrar {
        self.publish(name, json!({ "type": "mock" }))
    }

    /// A registrar that publishes the model server on `port` as `name`.
    pub fn publish_server(&self, name: &str, port: u16) -> Registrar {
        self.publish_slots(name, port, 64)
    }

    /// The same, with so many calls at a time.
    pub fn publish_slots(&self, name: &str, port: u16, slots: usize) -> Registrar {
        let url = format!("http://127.0.0.1:{port}/v1");
        self.publish(name, json!({ "type": "openai", "url": url, "maxConcurrency": slots, "maxQueue": 64 }))
    }

    /// A registrar that publishes `provider` as `name`, once it answers.
    fn publish(&self, name: &str, mut provider: Value) -> Registrar {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".mcpctl");
        std::fs::create_dir(&folder).unwrap();
        for (key, value) in [
            ("name", name.into()),
            ("model", "m".into()),
            ("publish", true.into()),
            ("visibility", "public".into()),
        ] {
            provider[key] = value;
        }
        std::fs::write(folder.join("config.json"), json!({ "llm": { "providers": [provider] } }).to_string())
            .unwrap();
        let credentials = json!({ "mcpdUrl": format!("http://127.0.0.1:{}", self.port), "token": ADMIN });
        std::fs::write(folder.join("credentials"), credentials.to_string()).unwrap();
        let process = Killed::spawn(program(&home).arg("publish").stderr(Stdio::null()));
        let messages = json!([{ "role": "user", "content": "hi" }]);
        let body = json!({ "model": name, "messages": messages, "stream": true }).to_string();
        while self.admin().call("POST", "/v1/chat/completions", &body).0 != 200 {
            sleep(Duration::from_millis(20));
        }
        Registrar { _process: process, _home: home }
    }

    /// User and system time so far.
    pub fn cpu(&self) -> Duration {
        procfs::cpu(self.process.pid())
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        procfs::resident(self.process.pid())
    }

    /// Reads and discards events until the hub ends.
    pub fn watch(&self) {
        let mut http = self.admin();
        spawn(move || {
            http.send("GET", "/api/v1/events", "", b"");
            http.lines(|_| true);
        });
    }
}

pub struct Registrar {
    _process: Killed,
    _home: TempDir,
}

pub fn provider(name: &str) -> Value {
    json!({ "name": name, "type": "openai", "model": "Qwen/Qwen2.5-7B-Instruct", "visibility": "public",
        "initialStatus": "active" })
}

fn program(home: &TempDir) -> Command {
    let program =
        std::env::var_os("BENCH_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_virtual-llm").into());
    let mut command = Command::new(program);
    command.env("HOME", home.path()).env("VIRTUAL_LLM_ADMIN_TOKEN", ADMIN);
    command.stdout(Stdio::null());
    command
}
