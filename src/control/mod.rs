//! How the commands of a person steer the registrar on the same machine: a Unix socket, one JSON line each way.

mod client;
mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use client::{ask, is_answered};
pub(crate) use server::Server;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub(crate) enum Request {
    /// How is it going?
    Status,
    /// Take no tasks, for so many seconds or until `Resume`.
    Pause {
        /// `None`: until told otherwise.
        seconds: Option<f64>,
    },
    /// Take tasks again.
    Resume,
    /// Read the configuration again.
    Reload,
    /// Run a provider's wake recipe.
    Up {
        /// Its name, local or published.
        provider: String,
    },
    /// Run its sleep recipe.
    Down {
        /// Its name, local or published.
        provider: String,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Done; with the status, or how long it took.
    Ok(serde_json::Value),
    /// Not done, and why.
    Error(String),
}
