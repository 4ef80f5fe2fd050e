//! Servers of NATS for tests.

use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;

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
    /// A folder with its configuration.
    config: Option<TempDir>,
    process: Option<Child>,
}

impl NatsServer {
    /// Starts a server; `None` if there is no `nats-server`, which is reported as a skipped test.
    pub fn start() -> Option<Self> {
        Self::of(None)
    }

    /// As [`start`](Self::start), a server that demands credentials. Also returns those of a user, as a `.creds` file has them.
    pub fn with_users() -> Option<(Self, String)> {
        let users = Users::new();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("nats.conf"), users.configuration()).unwrap();
        Some((Self::of(Some(folder))?, users.credentials()))
    }

    fn of(config: Option<TempDir>) -> Option<Self> {
        let mut server = Self { port: free_port(), config, process: None };
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
        if let Some(folder) = &self.config {
            command.arg("-c").arg(folder.path().join("nats.conf"));
        }
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

/// The keys of an operator, its account and a user.
pub struct Users {
    operator: KeyPair,
    account: KeyPair,
    user: KeyPair,
}

impl Users {
    #[expect(clippy::new_without_default, reason = "each call makes others")]
    pub fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), user: KeyPair::new_user() }
    }

    /// A server's configuration that accepts users of the account alone.
    fn configuration(&self) -> String {
        let operator = signed(&self.operator, &self.operator, &json!({ "type": "operator" }));
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
            "conn": -1, "leaf": -1 });
        let account = signed(&self.operator, &self.account, &json!({ "type": "account", "limits": limits }));
        let name = self.account.public_key();
        format!("operator: {operator}\nresolver: MEMORY\nresolver_preload: {{ {name}: {account} }}\n")
    }

    /// The user's `.creds` file.
    pub fn credentials(&self) -> String {
        let user = json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 });
        let (jwt, seed) = (signed(&self.account, &self.user, &user), self.user.seed().unwrap());
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }
}

/// A JWT about `subject`, signed by `issuer`.
fn signed(issuer: &KeyPair, subject: &KeyPair, claims: &Value) -> String {
    let mut nats = claims.clone();
    nats["version"] = 2.into();
    let body = json!({ "jti": subject.public_key(), "iat": 1, "iss": issuer.public_key(), "name": "test",
        "sub": subject.public_key(), "nats": nats });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(&body));
    let signature = issuer.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
