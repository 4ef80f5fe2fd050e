//! How a command ends: an exit code, and one sentence on standard error.

use std::{fmt, io, process::ExitCode};

/// What every command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// The exit codes of SPEC.md section 2, apart from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Failed at run time, a second instance, a second signal.
    Failed = 1,
    /// Bad usage or configuration.
    Usage = 2,
    /// The hub refused at start.
    Refused = 3,
    /// Ctrl-C before it was up.
    Interrupted = 130,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    /// `None` says nothing: the cause is known to whoever reads (Ctrl-C, a pipe closed by its reader).
    text: Option<String>,
}

impl Failure {
    /// It failed at run time.
    pub(crate) fn failed(text: impl fmt::Display) -> Self {
        Self::new(Code::Failed, text)
    }

    /// The command line, a file or a variable is wrong.
    pub(crate) fn usage(text: impl fmt::Display) -> Self {
        Self::new(Code::Usage, text)
    }

    /// The hub says no.
    pub(crate) fn refused(text: impl fmt::Display) -> Self {
        Self::new(Code::Refused, text)
    }

    /// Ends with this code and says nothing.
    pub(crate) fn silent(code: Code) -> Self {
        Self { code: code as u8, text: None }
    }

    /// Whoever read the output has had enough (`… | head -1`): that is no failure.
    pub(crate) fn reader_left() -> Self {
        Self { code: 0, text: None }
    }

    fn new(code: Code, text: impl fmt::Display) -> Self {
        Self { code: code as u8, text: Some(text.to_string()) }
    }

    /// The process's exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The sentence for standard error, if there is one.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}

/// For writes to standard output: a reader who left ends the command quietly.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::reader_left()
        } else {
            Self::failed(format!("cannot write to standard output: {error}"))
        }
    }
}
