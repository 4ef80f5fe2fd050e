//! Reasons why the hub closes a connection, and what the client is told.

use super::limits::ConnectionLimits;
use crate::error::{ApiError, Dialect, ErrorKind};

/// The reason why the hub closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseReason {
    /// The address has too many connections without a valid token.
    Address,
    /// The hub has too many connections, or too many without a valid token.
    Hub,
    /// A connection without a valid token was idle, or not read from, for too long.
    Idle,
    /// The request's head is large, and the budget of large heads is exhausted.
    Head,
}

impl CloseReason {
    /// The label of the metric.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Hub => "hub",
            Self::Idle => "idle",
            Self::Head => "head",
        }
    }

    /// The HTTP response before the end; `None` for an idle connection, which has no request to answer.
    pub(super) fn response(self, limits: &ConnectionLimits) -> Option<String> {
        let error = match self {
            Self::Address => ApiError::new(
                ErrorKind::Busy,
                format!(
                    "your address has {} connections without a valid token: send one, or close some",
                    limits.per_address.unwrap_or(usize::MAX)
                ),
            ),
            Self::Hub => ApiError::new(
                ErrorKind::HubBusy,
                format!("the hub has {} connections: try again later, and send a token", limits.total),
            ),
            Self::Head => ApiError::new(
                ErrorKind::HubBusy,
                "the hub has too many large heads of requests: try again later, with fewer or shorter headers",
            ),
            Self::Idle => return None,
        };
        let body = error.body(Dialect::Api);
        Some(format!(
            "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: 5\r\n\
             connection: close\r\n\r\n{body}",
            error.status(),
            body.len()
        ))
    }
}
