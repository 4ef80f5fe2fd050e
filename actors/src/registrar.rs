//! The library's face: start a registrar inside an actix system, and steer it.

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::watch;
use wire::texts;

use crate::backend::Client;
use crate::http;
use crate::hub_client::HubClient;
use crate::options::{AgentConfig, Options, ProviderConfig};
use crate::root::messages::{Down, GetStatus, PauseTasks, Reload, ResumeTasks, Stop, Up};
use crate::root::{RootActor, Start};
use crate::session;
use crate::session::file::{Locked, SessionLock};
use crate::status::RegistrarStatus;

/// A running registrar. Clones steer the same one; dropping all of them leaves it running.
#[derive(Debug, Clone)]
pub struct Registrar {
    root: Addr<RootActor>,
    is_open: watch::Receiver<bool>,
    end: watch::Receiver<Option<Ended>>,
}

/// Why a registrar did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No provider to publish.
    #[error("nothing to publish")]
    NothingToPublish,
    /// No hub and token.
    #[error("no credentials: there is no hub to publish to")]
    NoCredentials,
    /// The hub's URL, the token or the CA file cannot be used.
    #[error("{0}")]
    HubApi(String),
    /// Another registrar holds the session file.
    #[error("another registrar is running: it holds the lock {}", file.display())]
    Locked {
        /// The lock file.
        file: PathBuf,
    },
}

impl StartError {
    /// The program's exit code for it (SPEC.md section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingToPublish => 0,
            Self::Locked { .. } => 1,
            Self::NoCredentials | Self::HubApi(_) => 2,
        }
    }
}

/// Why a registrar ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The hub refused at start, with this reason.
    Refused(String),
    /// An actor crashed too often to go on.
    Failed(String),
}

impl Ended {
    /// The program's exit code for it (SPEC.md section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Refused(_) => 3,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "it was stopped",
            Self::Refused(reason) | Self::Failed(reason) => reason,
        })
    }
}

impl Registrar {
    /// Starts a registrar on the current arbiter. Nothing is sent before this returns.
    ///
    /// Reads files: the session file, its lock, the system's certificates.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let Options { credentials, session_file, providers, agents, timings } = options;
        if providers.is_empty() {
            return Err(StartError::NothingToPublish);
        }
        let credentials = credentials.ok_or(StartError::NoCredentials)?;
        let client = HubClient::new(&credentials).map_err(|error| StartError::HubApi(error.to_string()))?;
        let backends = backend_client();
        let (lock, session) = match &session_file {
            Some(path) => {
                let lock = SessionLock::take(path).map_err(|Locked { file }| StartError::Locked { file })?;
                (lock, session::file::load(path))
            }
            None => (None, None),
        };
        let (opened, is_open) = watch::channel(false);
        let (ended, end) = watch::channel(None);
        let root = RootActor::launch(Start {
            wall_clock: jiff::Timestamp::now,
            hub: Rc::new(client.clone()),
            hub_url: client.url().to_owned(),
            uplink: Rc::new(client),
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

    /// Starts a registrar if there is something to publish and a hub to publish to; else logs a warning. Never
    /// fails its host.
    pub fn maybe_start(options: Options) -> Option<Self> {
        match Self::start(options) {
            Ok(registrar) => Some(registrar),
            Err(error) => {
                log::warn!("no registrar: {error}");
                None
            }
        }
    }

    /// Stops in order: new and queued tasks are refused, those that run have the drain timeout, their results are
    /// delivered. [`wait`](Self::wait) tells the end.
    pub fn stop(&self) {
        self.root.do_send(Stop::Drain);
    }

    /// Stops at once: what runs is dropped.
    pub fn stop_now(&self) {
        self.root.do_send(Stop::Now);
    }

    /// Replaces what is published. Tasks run to their end on the settings they started with.
    pub fn reload(&self, providers: Vec<ProviderConfig>, agents: Vec<AgentConfig>) {
        self.root.do_send(Reload { providers, agents });
    }

    /// A snapshot; `None` after the end.
    pub async fn status(&self) -> Option<RegistrarStatus> {
        self.root.send(GetStatus).await.ok()
    }

    /// Takes no new task for this long, or until [`resume`](Self::resume). A hub with the `status` feature answers
    /// callers 503; tasks that come all the same wait.
    pub fn pause(&self, limit: Option<Duration>) {
        self.root.do_send(PauseTasks { limit });
    }

    /// Takes tasks again.
    pub fn resume(&self) {
        self.root.do_send(ResumeTasks);
    }

    /// Runs the wake recipe of the provider with this name (of the configuration or of the wire) now; answers how
    /// long it took, or why it failed.
    pub async fn provider_up(&self, name: &str) -> Result<Duration, String> {
        self.root.send(Up(name.to_owned())).await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned()))
    }

    /// Runs its sleep recipe now.
    pub async fn provider_down(&self, name: &str) -> Result<(), String> {
        self.root.send(Down(name.to_owned())).await.unwrap_or_else(|_| Err(texts::SHUTTING_DOWN.to_owned()))
    }

    /// Resolves when the control channel is open for the first time, or with the end if that comes before.
    pub async fn ready(&self) -> Result<(), Ended> {
        let mut is_open = self.is_open.clone();
        match is_open.wait_for(|open| *open).await {
            Ok(_) => Ok(()),
            Err(_) => Err(self.wait().await),
        }
    }

    /// Resolves when the registrar has ended: all results delivered or given up, nothing left running.
    pub async fn wait(&self) -> Ended {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.map(|ended| ended.clone()) {
            Ok(Some(ended)) => ended,
            _ => Ended::Failed("the root actor crashed".to_owned()),
        }
    }
}

/// One client for all backends. It can do TLS whether one needs it now or not: a reload may bring one that does. The hub's
/// CA file is not for them: who may vouch for the hub may not vouch for whatever gets a backend's key.
fn backend_client() -> Client {
    let warn = |error| log::warn!("backends cannot be called by https: {error}");
    Client::new(http::tls_config(None).map_err(warn).ok())
}
