//! Starts a hub in the test process, and sends common requests to it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use testkit::certificate::Certificate;
use tokio::time::Instant;

pub(crate) use testkit::wait::eventually;

use super::http::{Ask, ask};
use crate::cluster::Cluster;
use crate::hub::Phase;
use crate::model::{Caller, Role};
use crate::options::{DataDir, HubOptions, HubTimings, Limits, MachineOptions, PoolPolicy, TlsFiles};
use crate::origins::Origins;
use crate::server::Opened;
use crate::store::Store;
use crate::{Hub, HubHandle};

pub(crate) const ADMIN: &str = "admin-token-of-the-test";
/// The path of durable tasks.
pub(crate) const TASKS: &str = "/api/v1/inference-tasks";

/// A running hub that listens on port 0 of 127.0.0.1.
pub(crate) struct TestHub {
    pub(crate) addr: SocketAddr,
    handle: HubHandle,
}

pub(crate) fn options() -> HubOptions {
    HubOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        public_url: None,
        data: DataDir::Memory,
        cluster: None,
        admin_token: Some(ADMIN.into()),
        tls: None,
        pools: PoolPolicy::Members,
        cors_origins: Origins::default(),
        limits: Limits::default(),
        machine: MachineOptions::default(),
        timings: HubTimings::default(),
    }
}

pub(crate) async fn hub() -> TestHub {
    hub_with(|_| ()).await
}

pub(crate) async fn hub_with(change: impl FnOnce(&mut HubOptions)) -> TestHub {
    let mut options = options();
    change(&mut options);
    let handle = Hub::start(options).await.unwrap();
    TestHub { addr: handle.addr(), handle }
}

/// Starts a hub on the store `store`.
pub(crate) async fn hub_on(store: Arc<dyn Store>) -> TestHub {
    hub_in(Cluster::Alone, store).await
}

/// Starts a hub on the store `store` that is `cluster`.
pub(crate) async fn hub_in(cluster: Cluster, store: Arc<dyn Store>) -> TestHub {
    let mut opened = Opened::alone(None, store);
    opened.cluster = cluster;
    let handle = Hub::start_on(options(), opened, None).await.unwrap();
    TestHub { addr: handle.addr(), handle }
}

impl TestHub {
    pub(crate) fn core(&self) -> &Arc<Hub> {
        self.handle.core()
    }

    /// Builds a request with the admin's token.
    pub(crate) fn ask(&self, method: &'static str, path: impl Into<String>) -> Ask {
        ask(self.addr, method, path).token(ADMIN)
    }

    /// Builds a request with `token`.
    pub(crate) fn ask_as(&self, token: &str, method: &'static str, path: impl Into<String>) -> Ask {
        ask(self.addr, method, path).token(token)
    }

    /// Sends a register call. Returns the status and the body of the answer.
    pub(crate) async fn register(&self, token: &str, body: &Value) -> (u16, Value) {
        self.ask_as(token, "POST", "/api/v1/llms/_provider-register").body(body.to_string()).json().await
    }

    /// Creates a durable task. Returns its id.
    pub(crate) async fn enqueue(&self, token: &str, llm: &str, streaming: bool) -> String {
        let body = json!({ "llm": llm, "streaming": streaming, "request": { "messages": [] } });
        let (status, task) = self.ask_as(token, "POST", TASKS).body(body.to_string()).json().await;
        assert_eq!(status, 202, "{task}");
        task["id"].as_str().unwrap().to_owned()
    }

    /// Reads a durable task as the admin.
    pub(crate) async fn durable_task(&self, id: &str) -> Value {
        self.ask("GET", format!("{TASKS}/{id}")).json().await.1
    }

    /// Waits until the field `key` of the durable task with the id of `task` is `value`. Returns the task.
    pub(crate) async fn until_task(&self, task: &Value, key: &str, value: &str) -> Value {
        let id = task["id"].as_str().unwrap();
        eventually(&format!("{key} of {id} is {value}"), async || self.durable_task(id).await[key] == value)
            .await;
        self.durable_task(id).await
    }

    /// Creates an agent.
    pub(crate) async fn create_agent(&self, token: &str, agent: &Value) {
        let (status, answer) =
            self.ask_as(token, "POST", "/api/v1/agents").body(agent.to_string()).send().await;
        assert_eq!(status, 201, "{answer}");
    }

    /// Creates a token of the member `user`. Returns its secret.
    pub(crate) async fn member(&self, user: &str) -> String {
        self.handle.mint_token(user, Role::Member).await.unwrap()
    }

    /// Reads the row `name` as the admin.
    pub(crate) async fn row(&self, name: &str) -> Value {
        self.ask("GET", format!("/api/v1/llms/{name}")).json().await.1
    }

    /// Waits until the row has this status.
    pub(crate) async fn until_status(&self, name: &str, status: &str) {
        eventually(&format!("{name} is {status}"), async || self.row(name).await["status"] == status).await;
    }

    /// Waits until the row is `owner`'s and has this status.
    pub(crate) async fn until_owned(&self, name: &str, owner: &str, status: &str) {
        eventually(&format!("{name} is {status}, and {owner}'s"), async || {
            let row = self.row(name).await;
            row["ownerId"] == owner && row["status"] == status
        })
        .await;
    }

    /// Revokes every token of a user.
    pub(crate) async fn revoke(&self, user: &str) {
        let tokens = &self.handle.core().tokens;
        for token in tokens.list().into_iter().filter(|token| token.user == user) {
            tokens.revoke(&token.id).await.unwrap();
        }
    }

    /// Whether a wake task of the row is under way.
    pub(crate) fn is_waking(&self, row: &str) -> bool {
        let core = self.handle.core();
        let admin = Caller {
            user: "admin".into(),
            role: Role::Admin,
            token_id: "test".into(),
            models: crate::model::AllowedModels::default(),
            secret: None,
        };
        let session = core.registry.lock().llm(&admin, row).and_then(|llm| llm.session.clone());
        core.wakes.lock().is_waking(row, session.as_deref())
    }

    /// Drops a session's channel while its row still counts as connected, as after an unnoticed loss of the connection.
    pub(crate) fn drop_channel(&self, session: &str) {
        self.handle.core().channels.drop_session(session);
    }

    /// Resolves to the time, by this thread's clock, at which the hub stops waiting for running answers.
    pub(crate) fn end_of_grace(&self) -> tokio::task::JoinHandle<Instant> {
        let mut phase = self.handle.core().phase.subscribe();
        actix_rt::spawn(async move {
            phase.wait_for(|phase| *phase == Phase::Stopping).await.unwrap();
            Instant::now()
        })
    }

    pub(crate) async fn stop(self) {
        self.handle.stop().await;
    }
}

/// Writes a certificate and its key to `folder`, for a hub.
pub(crate) fn tls_files(certificate: &Certificate, folder: &Path) -> TlsFiles {
    let (cert, key) = certificate.write_to(folder, "localhost");
    TlsFiles { cert, key }
}
