//! The hub of virtual-llm: keeps the table of LLMs, relays inference to their publishers, and offers OpenAI's API.

mod address;
pub mod agents;
pub mod auth;
pub mod channels;
pub mod clock;
mod connections;
pub mod dispatch;
pub mod error;
pub mod heavy;
mod http;
pub mod hub;
pub mod model;
mod news;
pub mod options;
pub mod origins;
pub mod quota;
pub mod random;
pub mod registry;
mod server;
pub mod store;
pub mod tasks;
pub mod telemetry;
mod trace;

pub use crate::hub::Hub;
pub use options::HubOptions;
pub use server::{HubError, HubHandle, Pulse};

#[cfg(test)]
mod tests;
