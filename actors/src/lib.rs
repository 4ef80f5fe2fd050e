//! The registrar: supervised actors that publish local LLMs to a hub.

pub mod backoff;
pub mod supervise;
