//! A hub, and a registrar that publishes the built-in mock.

use awc::http::Method;
use serde_json::{Value, json};
use testkit::free_port;
use testkit::http::Http;
use testkit::process::{Home, Process};
use testkit::team::{ADMIN, start_hub, start_registrar_with};
use testkit::wait::eventually;

use crate::meter::Meter;

pub struct Rig {
    pub hub: Process,
    pub registrar: Process,
    pub port: u16,
    _home: Home,
}

impl Rig {
    pub async fn start() -> Self {
        let (home, port) = (Home::new(), free_port());
        home.credentials(&format!("http://127.0.0.1:{port}"), ADMIN);
        home.providers(&json!([
            { "name": "mock", "type": "mock", "model": "m", "publish": true, "visibility": "public", "tokens": 4 }
        ]));
        let hub = start_hub(&home, port);
        hub.logs("listens on").await;
        let registrar = start_registrar_with(&home, &["--heartbeat-interval", "10m"]);
        registrar.logs("control channel open").await;
        let rig = Self { hub, registrar, port, _home: home };
        let admin = rig.as_user(ADMIN);
        eventually("the mock's row is active", async || {
            admin.get("/api/v1/llms/mock").await.json()["status"] == "active"
        })
        .await;
        rig
    }

    pub fn as_user(&self, token: &str) -> Http {
        Http::new(&format!("http://127.0.0.1:{}", self.port), token)
    }

    /// Creates a token for a new member, and returns a client with this token.
    pub async fn new_member(&self, user: &str) -> Http {
        let made = self.as_user(ADMIN).post("/api/v1/tokens", &json!({ "user": user })).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.as_user(made.json()["token"].as_str().unwrap())
    }

    pub fn meters(&self) -> [Meter; 2] {
        [Meter(self.hub.pid()), Meter(self.registrar.pid())]
    }

    /// CPU time that one call costs the hub and the registrar, in seconds, and the status of the answer.
    pub async fn cost(
        &self,
        caller: &Http,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> ([f64; 2], u16) {
        let [hub, registrar] = self.meters();
        let before = (hub.times_at_rest().await, registrar.times_at_rest().await);
        let answer = caller.send(method, path, body).await;
        ([hub.since(&before.0).await, registrar.since(&before.1).await], answer.status)
    }
}

/// One entry of a register call.
pub fn provider(name: &str) -> Value {
    json!({ "name": name, "type": "openai", "model": "Qwen/Qwen2.5-7B-Instruct" })
}
