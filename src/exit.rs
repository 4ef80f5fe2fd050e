//! Results of commands: an exit code, and a text on standard error.

use std::{fmt, io, process::ExitCode};

/// Result of a command.
pub(crate) type Outcome = Result<(), Failure>;

/// The exit codes of SPEC.md section 2, apart from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Failure at run time, a second instance, or a second signal.
    Failed = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// Refusal by the hub at start.
    Refused = 3,
    /// Ctrl-C before the start was complete.
    Interrupted = 130,
}

/// Failure of a command.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// `None` prints nothing: the user caused it (Ctrl-C, a closed pipe).
    text: Option<String>,
}

impl Failure {
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self::new(Code::Failed, text)
    }

    /// Failure for a wrong command line, file or variable.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Code::Usage, text)
    }

    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self::new(Code::Refused, text)
    }

    /// Failure without a text.
    pub(crate) fn silent(code: Code) -> Self {
        Self { code: code as u8, text: None }
    }

    /// Failure with the exit code of a program that was run, which has printed what went wrong.
    pub(crate) fn of_child(code: u8) -> Self {
        Self { code, text: None }
    }

    fn new(code: Code, text: impl fmt::Display) -> Self {
        Self { code: code as u8, text: Some(text.to_string()) }
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// Errors of writes to standard output. A closed pipe (`… | head -1`) is not a failure: the exit code is 0.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self { code: 0, text: None }
        } else {
            Self::failed(format!("cannot write to standard output: {error}"))
        }
    }
}
