//! The library's face: start a registrar inside an actix system, and steer it.

use std::path::PathBuf;
use std::time::Duration;

use crate::options::{AgentConfig, Options, ProviderConfig};
use crate::status::RegistrarStatus;

/// A running registrar. Clones steer the same one; dropping all of them leaves it running.
#[derive(Debug, Clone)]
pub struct Registrar {}

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
    Hub(String),
    /// Another registrar holds the session file.
    #[error("another registrar is running: it holds the lock {}", file.display())]
    Locked {
        /// The lock file.
        file: PathBuf,
    },
}

impl StartError {
    /// The program's exit code for it (SPEC section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingToPublish => 0,
            Self::Locked { .. } => 1,
            Self::NoCredentials | Self::Hub(_) => 2,
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
    /// The program's exit code for it (SPEC section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Refused(_) => 3,
            Self::Failed(_) => 1,
        }
    }
}

impl Registrar {
    /// Starts a registrar on the current arbiter. Nothing is sent before this returns.
    pub fn start(_options: Options) -> Result<Self, StartError> {
        Err(StartError::NothingToPublish)
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
    pub fn stop(&self) {}

    /// Stops at once: what runs is dropped.
    pub fn stop_now(&self) {}

    /// Replaces what is published. Tasks run to their end on the settings they started with.
    pub fn reload(&self, _providers: Vec<ProviderConfig>, _agents: Vec<AgentConfig>) {}

    /// A snapshot; `None` after the end.
    pub async fn status(&self) -> Option<RegistrarStatus> {
        None
    }

    /// Takes no new task for this long, or until [`resume`](Self::resume); those that come wait.
    pub fn pause(&self, _limit: Option<Duration>) {}

    /// Takes tasks again.
    pub fn resume(&self) {}

    /// Runs the wake recipe of the provider with this name (of the configuration or of the wire) now; answers how
    /// long it took, or why it failed.
    pub async fn provider_up(&self, _name: &str) -> Result<Duration, String> {
        Err(String::new())
    }

    /// Runs its sleep recipe now.
    pub async fn provider_down(&self, _name: &str) -> Result<(), String> {
        Err(String::new())
    }

    /// Resolves when the control channel is open for the first time, or with the end if that comes before.
    pub async fn ready(&self) -> Result<(), Ended> {
        Err(Ended::Stopped)
    }

    /// Resolves when the registrar has ended: all results delivered or given up, nothing left running.
    pub async fn wait(&self) -> Ended {
        Ended::Stopped
    }
}
