//! Messages from the [`Registrar`](crate::Registrar) to the root.

use std::time::Duration;

use actix::Message;

use crate::options::{AgentConfig, ProviderConfig};
use crate::status::RegistrarStatus;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum Stop {
    /// Running tasks have the drain timeout.
    Drain,
    /// Running tasks are dropped.
    Now,
}

/// Replaces the published set.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reload {
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) agents: Vec<AgentConfig>,
}

/// Pauses all providers, for `limit` or until [`ResumeTasks`].
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PauseTasks {
    pub(crate) limit: Option<Duration>,
}

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct ResumeTasks;

#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "RegistrarStatus")]
pub(crate) struct GetStatus;

/// Runs the wake recipe of the provider with this name.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, String>")]
pub(crate) struct Up(pub(crate) String);

/// Runs the sleep recipe of the provider with this name.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Down(pub(crate) String);
