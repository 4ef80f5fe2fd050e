//! Recipes, which wake a backend or put it to sleep.

use std::time::Duration;

use crate::Secret;

/// Brings a backend up.
#[derive(Debug, Clone)]
pub struct WakeRecipe {
    /// The action.
    pub action: Action,
    /// Limit for the backend to come up, and for a command.
    pub max_wait: Duration,
}

/// Puts a backend to sleep.
#[derive(Debug, Clone)]
pub struct SleepRecipe {
    /// The action: `Http` or `Command`.
    pub action: Action,
    /// Limit for a command.
    pub max_wait: Duration,
    /// Runs the recipe after this long without a task; `None` only on request.
    pub idle: Option<Duration>,
}

/// The action of a recipe.
#[derive(Debug, Clone)]
pub enum Action {
    /// An HTTP call, with a limit of 30 s. Any 2xx is success.
    Http {
        /// Its URL.
        url: Secret,
        /// Its method.
        method: String,
        /// Its headers.
        headers: Vec<(String, Secret)>,
        /// Its body.
        body: Option<Secret>,
    },
    /// A command, without a shell. Exit code 0 is success.
    Command {
        /// The program, looked up in `PATH`.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Variables removed from its environment: hub tokens and every `apiKeyEnv`.
        scrub_env: Vec<String>,
    },
    /// A Wake-on-LAN packet.
    WakeOnLan {
        /// The MAC address of the machine.
        mac: [u8; 6],
        /// The address to send to, usually 255.255.255.255.
        broadcast: String,
        /// The UDP port, usually 9.
        port: u16,
    },
}
