//! What the `WakeActor` is told and asked.

use std::sync::Arc;

use actix::Message;
use wire::task::WakeTask;

use crate::options::ProviderConfig;
use crate::outbox::Ticket;

/// From `StreamActor`: a wake task of the hub. The result goes to the hub by the outbox.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Wake {
    /// The task.
    pub task: WakeTask,
    /// The duty to end it, from [`Outbox::admit`](crate::outbox::Outbox::admit).
    pub ticket: Ticket,
}

/// From `ProviderActor`, and from the root for `provider NAME up`: bring the backend up. However many ask, the recipe
/// runs once, and after a pause if it ran just now; answered when the backend answers, or with the error text of SPEC.md
/// section 3.5.
#[derive(Debug, Message)]
#[rtype(result = "Result<std::time::Duration, String>")]
pub struct EnsureAwake {
    /// The provider, by wire name.
    pub wire_name: String,
    /// Whether its owner says so, at the machine: then the recipe runs now.
    pub by_owner: bool,
}

/// From `ProviderActor` after `idleSeconds`, and from the root for `provider NAME down`: run the sleep recipe.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub struct PutToSleep {
    /// The provider, by wire name.
    pub wire_name: String,
}

/// From the root at start and on reload: the providers whose recipes may run.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SetProviders {
    /// All published providers.
    pub providers: Vec<Managed>,
}

/// One provider in the care of the `WakeActor`.
#[derive(Debug, Clone)]
pub struct Managed {
    /// Its settings.
    pub config: Arc<ProviderConfig>,
    /// Its `ProviderActor`, which is told what became of its backend.
    pub provider: actix::Recipient<PowerChanged>,
}

/// From `WakeActor` to the provider whose backend came up, or was put to sleep. If lost, the next health check finds out.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct PowerChanged {
    /// Whether it is up.
    pub awake: bool,
}

/// From the root: kill what runs (whole process groups), answer everybody with `publisher shutting down`.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Shutdown;
