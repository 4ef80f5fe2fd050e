//! Why a request has no answer.

use super::resolver::{LOOKUP_TIMEOUT, LookupError};

/// Why there is no answer. No text of a library in it: those name host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The URL, or a header, is not one.
    #[error("the request cannot be made: its URL or a header is not valid")]
    Invalid,
    /// The URL is https, and the client was made without TLS.
    #[error("TLS is not set up")]
    NoTls,
    /// The name had no answer in time.
    #[error("the name of that address could not be resolved within {} s", LOOKUP_TIMEOUT.as_secs())]
    Unresolved,
    /// The name is not known, or nobody takes the connection.
    #[error("nobody answers at that address")]
    Unreachable,
    /// The TLS handshake failed: most often its certificate is not trusted.
    #[error("the TLS handshake failed")]
    Tls,
    /// The connection ended before the head of an answer.
    #[error("the connection ended before the answer")]
    Broken,
    /// What came is not an answer of HTTP/1.1.
    #[error("the answer is not HTTP")]
    Malformed,
    /// No head within the given time.
    #[error("no answer in time")]
    Silent,
}

impl From<LookupError> for SendError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Unknown => Self::Unreachable,
            LookupError::TimedOut => Self::Unresolved,
        }
    }
}

/// Whether a connect failed in TLS or before it.
pub(super) fn connect_error(error: &(dyn std::error::Error + 'static)) -> SendError {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return SendError::Tls;
        }
        // An I/O error's source is that of the error within it, not the error itself.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    SendError::Unreachable
}
