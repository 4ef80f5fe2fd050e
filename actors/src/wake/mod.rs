//! `WakeActor`: executes recipes.

pub mod links;
pub mod messages;

use actix::Recipient;

use crate::heartbeat::messages::Beat;
use crate::outbox::Outbox;

/// What the `WakeActor` talks to.
#[derive(Clone)]
pub struct Links {
    /// Where results of wake tasks go.
    pub outbox: Outbox,
    /// For recipes and availability, from `crate::http::client`.
    pub http: awc::Client,
    /// The `HeartbeatActor`.
    pub heartbeat: Recipient<Beat>,
}
mod stub;

pub use stub::WakeActor;
