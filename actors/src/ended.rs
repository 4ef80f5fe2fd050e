//! Why a registrar ended.

use std::fmt;

/// Why a registrar ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// [`Registrar::stop`](crate::Registrar::stop) or [`stop_now`](crate::Registrar::stop_now) was called.
    Stopped,
    /// The hub refused at start, with this reason.
    Refused(String),
    /// An actor crashed too often.
    Failed(String),
}

impl Ended {
    /// The exit code of the program (SPEC.md section 2).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Refused(_) => 3,
            Self::Failed(_) => 1,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "it was stopped",
            Self::Refused(reason) | Self::Failed(reason) => reason,
        })
    }
}
