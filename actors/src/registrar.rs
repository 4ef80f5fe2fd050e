//! Starts a registrar inside an actix system, and controls it.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::watch;
use wire::texts;

use crate::backend::Client;
use crate::ended::Ended;
use crate::http::{self, Proxy};
use crate::hub_client::HubClient;
use crate::options::{AgentConfig, Options, ProviderConfig};
use crate::root::messages::{Down, GetStatus, PauseTasks, Reload, ResumeTasks, Stop, Up};
use crate::root::{RootActor, Start};
use crate::session;
use crate::session::file::{Locked, SessionLock};
use crate::status::RegistrarStatus;

/// A handle of a running registrar. Clones control the same registrar; dropping all handles does not stop it.
#[derive(Debug, Clone)]
pub struct Registrar {
    root: Addr<RootActor>,
    is_open: watch::Receiver<bool>,
    end: watch::Receiver<Option<Ended>>,
}

/// Why a registrar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// [`Options::providers`] is empty.
    #[error("nothing to publish")]
    NothingToPublish,
    /// [`Options::credentials`] is `None`.
    #[error("no credentials: there is no hub to publish to")]
    NoCredentials,
    /// The hub's URL, the token or the CA file is not usable.
    #[error("{0}")]
    Unusable(String),
    /// Another registrar holds the session file.
    #[error("another registrar is running: it holds the lock {}", file.display())]
    Locked {
        /// The lock file.
        file: PathBuf,
    },
}

impl StartError {
    /// The exit code of the program (SPEC.md section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingToPublish => 0,
            Self::Locked { .. } => 1,
            Self::NoCredentials | Self::Unusable(_) => 2,
        }
    }
}

impl Registrar {
    /// Starts a registrar on the current arbiter. Nothing is sent before this returns.
    ///
    /// Reads the session file and the system's certificates, and takes the lock of the session file.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { credentials, session_file, providers, agents, timings, transport } = options;
        if providers.is_empty() {
            return Err(StartError::NothingToPublish);
        }
        let credentials = credentials.ok_or(StartError::NoCredentials)?;
        let client = HubClient::new(&credentials).map_err(|error| StartError::Unusable(error.to_string()))?;
        let client = Rc::new(client.with(transport));
        let backends = backend_client();
        let (lock, session) = match &session_file {
            Some(path) => {
                let lock =
                    SessionLock::take(path).map_err(|Locked { lock }| StartError::Locked { file: lock })?;
                (lock, session::file::load(path))
            }
            None => (None, None),
        };
        let (opened, is_open) = watch::channel(false);
        let (ended, end) = watch::channel(None);
        let root = RootActor::launch(Start {
            wall_clock: jiff::Timestamp::now,
            hub: Rc::clone(&client) as _,
            hub_url: client.url().to_owned(),
            proxy: client.proxy().map(Proxy::address),
            uplink: client,
            backends,
            session_file,
            session,
            lock,
            providers,
            agents,
            timings,
            opened,
            ended,
        });
        Ok(Self { root, is_open, end })
    }

    /// Starts a registrar, or logs a warning if it cannot be started.
    pub fn maybe_start(options: Options) -> Option<Self> {
        match Self::start(options) {
            Ok(registrar) => Some(registrar),
            Err(error) => {
                log::warn!("no registrar: {error}");
                None
            }
        }
    }

    /// Stops the registrar: new and queued tasks are refused, running tasks may finish within the drain timeout, and results are
    /// delivered. [`wait`](Self::wait) resolves at the end.
    pub fn stop(&self) {
        self.root.do_send(Stop::Drain);
    }

    /// Stops at once: running tasks are dropped.
    pub fn stop_now(&self) {
        self.root.do_send(Stop::Now);
    }

    /// Replaces the published set. Running tasks keep the settings of their start.
    pub fn reload(&self, providers: Vec<ProviderConfig>, agents: Vec<AgentConfig>) {
        self.root.do_send(Reload { providers, agents });
    }

    /// Returns a snapshot of the status; `None` after the registrar has ended.
    pub async fn status(&self) -> Option<RegistrarStatus> {
        self.root.send(GetStatus).await.ok()
    }

    /// Pauses for `limit`, or until [`resume`](Self::resume). A hub with the feature `status` answers callers 503; tasks of
    /// a classic hub wait. Wake tasks are refused. The pause ends with the process.
    pub fn pause(&self, limit: Option<Duration>) {
        self.root.do_send(PauseTasks { limit });
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.root.do_send(ResumeTasks);
    }

    /// Runs the wake recipe of the provider with this name, in the configuration or at the hub. Returns how long it took.
    pub async fn provider_up(&self, name: &str) -> Result<Duration, String> {
        self.root.send(Up(name.to_owned())).await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned()))
    }

    /// Runs the sleep recipe of the provider with this name.
    pub async fn provider_down(&self, name: &str) -> Result<(), String> {
        self.root.send(Down(name.to_owned())).await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned()))
    }

    /// Resolves when the control channel opens for the first time, or when the registrar ends before that.
    pub async fn ready(&self) -> Result<(), Ended> {
        let mut is_open = self.is_open.clone();
        match is_open.wait_for(|open| *open).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.wait().await),
        }
    }

    /// Resolves when the registrar has ended: results are delivered or given up, and nothing runs.
    pub async fn wait(&self) -> Ended {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some(ended)) => ended,
            _ => Ended::Failed("the root actor crashed".to_owned()),
        }
    }
}

/// The HTTP client of all backends. It has TLS even if no backend needs it yet, because a reload may add one that does. It
/// does not trust the hub's CA file, which must not vouch for a server that gets a backend's key.
fn backend_client() -> Client {
    let warn = |error| log::warn!("backends cannot be called by https: {error}");
    Client::new(http::tls_config(None).map_err(warn).ok())
}
