//! The registrar of virtual-llm as a library: supervised actors that publish local LLMs to a hub.

pub mod backend;
pub mod backoff;
mod changes;
mod failed;
mod failpoint;
pub mod heartbeat;
pub mod http;
pub mod hub_client;
mod news;
pub mod options;
pub mod outbox;
pub mod provider;
pub mod registrar;
mod root;
pub mod session;
pub mod status;
pub mod stream;
pub mod supervise;
#[cfg(test)]
mod test_hub;
#[cfg(test)]
mod test_log;
pub mod uplink;
pub mod wake;

pub use ::backend::Secret;
pub use options::{AgentConfig, Credentials, CredentialsFile, Options, ProviderConfig, Timings};
pub use registrar::{Ended, Registrar, StartError};
pub use supervise::install_panic_hook;
