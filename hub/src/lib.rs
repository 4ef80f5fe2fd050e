//! The hub of virtual-llm: keeps the table of LLMs, relays inference to their publishers, and offers OpenAI's API.

mod address;
pub mod agents;
pub mod auth;
mod budget;
pub mod channels;
pub mod clock;
pub mod core;
mod door;
pub mod error;
pub mod heavy;
pub mod limits;
pub mod memory;
pub mod model;
mod news;
pub mod options;
pub mod origins;
pub mod queue;
pub mod random;
pub mod registry;
pub mod relay;
mod routes;
mod server;
pub mod store;
mod trace;
pub mod watch;

pub use crate::core::Hub;
pub use options::HubOptions;
pub use server::{HubError, HubHandle, Pulse};

#[cfg(test)]
mod tests;
