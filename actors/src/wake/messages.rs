//! Messages to and from the `WakeActor`.

use std::sync::Arc;
use std::time::Duration;

use actix::{Message, Recipient};
use wire::Features;
use wire::task::WakeTask;

use crate::options::ProviderConfig;
use crate::outbox::Ticket;
use crate::status::Pause;

/// Runs a wake task of the hub; the outbox delivers its result. Sent by `StreamActor`.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Wake {
    pub(crate) task: WakeTask,
    pub(crate) ticket: Ticket,
    pub(crate) features: Features,
}

/// Brings a backend up. Sent by `ProviderActor`, and by the root for `provider NAME up`.
///
/// One run serves all requests, and it starts after the pause. Returns how long it took until the backend answered, or an
/// error text of SPEC.md section 3.5.
#[derive(Debug, Message)]
#[rtype(result = "Result<Duration, String>")]
pub(crate) struct EnsureAwake {
    pub(crate) wire_name: String,
    /// Whether the request comes from the owner, by a command on this machine. Then the recipe runs at once.
    pub(crate) by_owner: bool,
}

/// Runs the sleep recipe. Sent by `ProviderActor` after `idleSeconds`, and by the root for `provider NAME down`.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct PutToSleep {
    pub(crate) wire_name: String,
}

/// Pauses the wake tasks of the hub, or resumes them. The owner's `provider NAME up` and running tasks still wake a
/// backend. Sent by the root.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct SetWakePaused(pub(crate) Option<Pause>);

/// Replaces the providers whose recipes may run. Sent by the root.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct SetProviders {
    pub(crate) providers: Vec<ManagedProvider>,
}

/// A provider whose recipes the `WakeActor` runs.
#[derive(Debug, Clone)]
pub(crate) struct ManagedProvider {
    pub(crate) config: Arc<ProviderConfig>,
    pub(crate) power_changed: Recipient<PowerChanged>,
}

/// A backend came up, or was put to sleep. Sent to its `ProviderActor`; if it is lost, the next health check finds out.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct PowerChanged {
    pub(crate) awake: bool,
}

/// Kills the process groups of all runs, and answers each request with `publisher shutting down`. Sent by the root.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct Shutdown;
