//! Servers of NATS for tests.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::free_port;

/// The address of the server at `VIRTUAL_LLM_TEST_NATS`, or at the usual port of this machine. `None` if there is none, which is
/// reported as a skipped test.
pub async fn shared() -> Option<String> {
    let server = std::env::var("VIRTUAL_LLM_TEST_NATS").unwrap_or_else(|_| "127.0.0.1:4222".into());
    match tokio::net::TcpStream::connect(server.trim_start_matches("nats://")).await {
        Ok(_) => Some(server),
        Err(error) => {
            crate::skipped(&format!("no NATS at {server} ({error})"));
            None
        }
    }
}

/// A server of a test's own, which it may stop and kill.
pub struct NatsServer {
    port: u16,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts a server; `None` if there is no `nats-server`, which is reported as a skipped test.
    pub fn start() -> Option<Self> {
        let mut server = Self { port: free_port(), process: None };
        server.run();
        if server.process.is_none() {
            crate::skipped("no nats-server in PATH");
            return None;
        }
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server at its port, after it was killed.
    pub fn run(&mut self) {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        self.process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok();
    }

    /// Kills the server. What it had not sent yet is lost.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn signal(&self, signal: Signal) {
        let id = self.process.as_ref().unwrap().id();
        kill(Pid::from_raw(id.try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}
