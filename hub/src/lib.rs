//! The hub of virtual-llm as a library: a table of LLMs, the relay of inference to their publishers, and the HTTP APIs.
//!
//! A program builds [`HubOptions`], calls [`Hub::start`] and keeps the [`HubHandle`]. All modules are private.
#![expect(unreachable_pub, reason = "every module is private: `pub` means visible in the crate")]

mod address;
mod affinity;
mod agents;
mod auth;
mod channels;
mod clock;
mod cluster;
mod connections;
mod dispatch;
mod error;
mod http;
mod hub;
mod limits;
mod links;
mod locks;
mod model;
mod news;
mod offload;
mod options;
mod origins;
mod quota;
mod random;
mod registry;
mod server;
mod store;
mod tasks;
mod telemetry;
mod trace;

pub use address::Proxies;
pub use auth::AdminToken;
pub use cluster::{InvalidCredentials, check_credentials};
pub use http::inference_path;
pub use hub::Hub;
pub use model::Role;
pub use options::{
    ClusterOptions, DataDir, HubOptions, HubTimings, Limits, MachineOptions, NatsOptions, PoolPolicy,
    TlsFiles,
};
pub use origins::Origins;
pub use server::{HubError, HubHandle, Liveness};
pub use store::{StoreError, Transferred, transfer};

#[cfg(test)]
mod tests;
