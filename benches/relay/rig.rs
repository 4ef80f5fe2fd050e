//! Hub and registrar as processes of the release build, with tokens, audit and a store on disk.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::caller::{Caller, Target};
use crate::figures::row;

const TOKEN: &str = "benchmark-admin-token-0123456789abcdef";

pub struct Rig {
    pub direct: Target,
    pub relay: Target,
    hub: Child,
    registrar: Child,
    _home: TempDir,
}

impl Rig {
    pub fn start(backend: u16) -> Self {
        let home = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mcpctl = home.path().join(".mcpctl");
        std::fs::create_dir(&mcpctl).unwrap();
        let provider = serde_json::json!({ "llm": { "providers": [{
            "name": "bench", "type": "openai", "model": "m", "url": format!("http://127.0.0.1:{backend}/v1"),
            "publish": true, "visibility": "public", "maxConcurrency": 1024, "maxQueue": 1024 }] } });
        std::fs::write(mcpctl.join("config.json"), provider.to_string()).unwrap();
        let credentials =
            serde_json::json!({ "mcpdUrl": format!("http://127.0.0.1:{port}"), "token": TOKEN });
        std::fs::write(mcpctl.join("credentials"), credentials.to_string()).unwrap();
        let run = |args: &[&str]| {
            Command::new(env!("CARGO_BIN_EXE_virtual-llm"))
                .args(args)
                .env("HOME", home.path())
                .env("VIRTUAL_LLM_ADMIN_TOKEN", TOKEN)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(if std::env::var_os("BENCH_LOGS").is_some() {
                    Stdio::inherit()
                } else {
                    Stdio::null()
                })
                .spawn()
                .unwrap()
        };
        let data = home.path().join("hub");
        let hub =
            run(&["hub", "--listen", &format!("127.0.0.1:{port}"), "--data-dir", data.to_str().unwrap()]);
        let registrar = run(&["publish", "--reconnect-base", "100ms", "--reconnect-max", "200ms"]);
        let target = |port, path| Target { port, path, token: TOKEN.to_owned() };
        let relay = target(port, "/v1/chat/completions");
        Self { direct: target(backend, "/v1/chat/completions"), relay, hub, registrar, _home: home }
    }

    /// Waits until a call through the relay is answered.
    pub async fn ready(&self) {
        for _ in 0..200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let up = tokio::net::TcpStream::connect(("127.0.0.1", self.relay.port)).await.is_ok();
            if up && Caller::new(&self.relay).whole(crate::calls::SMALL).await == 200 {
                return;
            }
        }
        panic!("hub and registrar did not come up");
    }

    /// CPU time that hub and registrar have used so far, in seconds.
    pub fn cpu(&self) -> (f64, f64) {
        (cpu_seconds(self.hub.id()), cpu_seconds(self.registrar.id()))
    }

    /// Resident memory 10 s after start, one call made.
    pub async fn memory(&self) {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let figure = |pid| format!("{:.1} MB", resident(pid) as f64 / 1e6);
        row(
            "resident, 10 s after start",
            &[("hub", figure(self.hub.id())), ("registrar", figure(self.registrar.id()))],
        );
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in [&mut self.registrar, &mut self.hub] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// User and system time, from `/proc/PID/stat` in ticks of 10 ms (proc(5); `USER_HZ` is 100 on every Linux port).
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) as f64 / 100.0
}

fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
