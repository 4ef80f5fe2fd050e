//! Errors of requests that got no answer.

use super::resolver::{LOOKUP_TIMEOUT, LookupError};

/// Why a request got no answer. The texts are not those of libraries, which contain host and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The URL or a header is invalid.
    #[error("the request cannot be made: its URL or a header is not valid")]
    Invalid,
    /// The URL is https, but the client has no TLS configuration.
    #[error("TLS is not set up")]
    NoTls,
    /// The look-up of the name timed out.
    #[error("the name of that address could not be resolved within {} s", LOOKUP_TIMEOUT.as_secs())]
    Unresolved,
    /// The name is unknown, or the connection failed.
    #[error("nobody answers at that address")]
    Unreachable,
    /// The proxy on the way to the server opened no connection to it.
    #[error("the proxy on the way to it opens no connection")]
    Proxy,
    /// The TLS handshake failed, usually because the certificate is not trusted.
    #[error("the TLS handshake failed")]
    Tls,
    /// The connection ended before the head of an answer.
    #[error("the connection ended before the answer")]
    Broken,
    /// The bytes received are not an HTTP/1.1 answer.
    #[error("the answer is not HTTP")]
    Malformed,
    /// The head of the answer did not come within the given time.
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
        // `source()` of an I/O error skips the error that it wraps, so the wrapped error is taken with `get_ref`.
        let within = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        cause = match within {
            Some(within) => Some(within),
            None => error.source(),
        };
    }
    SendError::Unreachable
}
