//! `ProviderActor`: one published LLM.

pub mod links;
pub mod messages;

use actix::Recipient;

use crate::outbox::Outbox;
use crate::wake::messages::{EnsureAwake, PutToSleep};
use messages::ProviderReport;

/// What a provider talks to.
#[derive(Clone)]
pub struct Links {
    /// Where answers go.
    pub outbox: Outbox,
    /// For its backend, from `crate::http::client`.
    pub http: awc::Client,
    /// The `WakeActor`.
    pub wake: Recipient<EnsureAwake>,
    /// The `WakeActor` again.
    pub sleep: Recipient<PutToSleep>,
    /// Told when status, running or waiting tasks change, at most ten times a second.
    pub listener: Recipient<ProviderReport>,
}
mod stub;

pub use stub::ProviderActor;
