//! The way to the hub, step by step, for `check`: the proxy, TLS, the upgrade to a WebSocket, and an echo over it
//! (SPEC.md section 4.2). It opens connections as the registrar does, and touches no session.

mod advice;
mod connection;
mod web_socket;

#[cfg(test)]
mod tests;

pub use connection::{backend_proxy, connection};
pub use web_socket::web_socket;

/// What a step found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How the step went.
    pub level: Level,
    /// What was found, in one line.
    pub text: String,
    /// What to change and where, in lines of at most 70 characters.
    pub advice: Vec<String>,
}

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should.
    Ok,
    /// It works, but not as it should.
    Warning,
    /// It does not work.
    Error,
}

impl Finding {
    fn new(level: Level, text: impl Into<String>) -> Self {
        Self { level, text: text.into(), advice: Vec::new() }
    }

    fn ok(text: impl Into<String>) -> Self {
        Self::new(Level::Ok, text)
    }

    fn warning(text: impl Into<String>) -> Self {
        Self::new(Level::Warning, text)
    }

    fn error(text: impl Into<String>) -> Self {
        Self::new(Level::Error, text)
    }

    fn advised(self, advice: Vec<String>) -> Self {
        Self { advice, ..self }
    }
}
