//! The registrar of virtual-llm as a library: supervised actors that publish local LLMs to a hub.
//!
//! Start with [`Registrar`] and [`Options`]. The protocol is in the crate `wire`, the backends are in the crate `backend`.

pub mod backend;
mod backoff;
mod changes;
mod ended;
mod failed;
mod failpoint;
#[cfg(test)]
mod fakes;
mod heartbeat;
pub mod http;
mod hub_client;
mod news;
pub mod options;
mod outbox;
mod provider;
mod registrar;
mod root;
mod session;
pub mod status;
mod stream;
mod supervise;
mod tls_reason;
mod uplink;
mod wake;
pub mod way;

pub use ::backend::Secret;
pub use ended::Ended;
pub use options::{AgentConfig, Credentials, CredentialsFile, Options, ProviderConfig, Timings, Transport};
pub use registrar::{Registrar, StartError};
pub use session::file::load as load_session_id;
pub use supervise::install_panic_hook;
