//! What the root is told and asked, by the handle of the library's user.

use std::time::Duration;

use actix::Message;

use crate::options::{AgentConfig, ProviderConfig};
use crate::status::RegistrarStatus;

/// Stop in order, or at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum Stop {
    /// Tasks that run have the drain timeout.
    Drain,
    /// Tasks that run are dropped.
    Now,
}

/// Publish this from now on.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Reload {
    pub(crate) providers: Vec<ProviderConfig>,
    pub(crate) agents: Vec<AgentConfig>,
}

/// Take no new task, for so long or until told otherwise.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PauseTasks {
    pub(crate) limit: Option<Duration>,
}

/// Take tasks again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct ResumeTasks;

/// How is it all?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "RegistrarStatus")]
pub(crate) struct GetStatus;

/// Run the wake recipe of the provider with this name.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, String>")]
pub(crate) struct Up(pub(crate) String);

/// Run its sleep recipe.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Down(pub(crate) String);
