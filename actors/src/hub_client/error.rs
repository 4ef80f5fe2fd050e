//! What can go wrong with the hub, and what to do about it.

use std::time::Duration;

use actix_http::error::ParseError;
use awc::error::{ConnectError, SendRequestError};
use awc::http::Uri;
use awc::http::header::{HeaderMap, LOCATION};
use serde::Deserialize;

use super::tls_reason::connect_reason;

/// A call to the hub that failed. The text is for people: no token, no line break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubError {
    /// The hub was not reached, or did not answer.
    #[error("{call}: {reason}")]
    Unreachable {
        /// The call.
        call: &'static str,
        /// Why.
        reason: String,
        /// Whether it is certain that the hub took nothing: there was no connection.
        nothing_taken: bool,
    },
    /// Another status than the call's success.
    #[error("{call} HTTP {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The call.
        call: &'static str,
        /// The status.
        status: u16,
        /// What the hub said.
        message: String,
        /// What the hub asked for.
        retry_after: Option<Duration>,
    },
    /// A success that is none.
    #[error("{call}: {reason}")]
    Odd {
        /// The call.
        call: &'static str,
        /// What was wrong with it.
        reason: String,
    },
}

/// What to do about a [`HubError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubErrorKind {
    /// Try again.
    Retry,
    /// The hub does not know the session (or the task) any more: 404, 410.
    Gone,
    /// 409.
    Conflict,
    /// Any other 3xx or 4xx: as long as nobody changes something, the answer stays.
    Refused,
}

impl HubError {
    /// What to do about it.
    pub fn kind(&self) -> HubErrorKind {
        match self {
            Self::Status { status: 404 | 410, .. } => HubErrorKind::Gone,
            Self::Status { status: 409, .. } => HubErrorKind::Conflict,
            Self::Status { status: 408 | 425 | 429, .. } => HubErrorKind::Retry,
            Self::Status { status: 300..=499, .. } => HubErrorKind::Refused,
            Self::Unreachable { .. } | Self::Status { .. } | Self::Odd { .. } => HubErrorKind::Retry,
        }
    }

    /// What the hub asked for with `Retry-After`.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether it is certain that the hub took nothing of the call (SPEC.md section 4, `chunk-seq`).
    pub fn nothing_taken(&self) -> bool {
        match self {
            Self::Unreachable { nothing_taken, .. } => *nothing_taken,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Odd { .. } => false,
        }
    }

    pub(super) fn silent(call: &'static str) -> Self {
        Self::Unreachable { call, reason: "the hub did not answer in time".to_owned(), nothing_taken: false }
    }

    pub(super) fn broken(call: &'static str) -> Self {
        let reason = "the connection broke before the hub answered".to_owned();
        Self::Unreachable { call, reason, nothing_taken: false }
    }

    pub(super) fn unconnected(call: &'static str, error: &std::io::Error) -> Self {
        let reason = one_line(&format!("the hub cannot be reached: {}", connect_reason(error)));
        Self::Unreachable { call, reason, nothing_taken: true }
    }

    pub(super) fn unsent(call: &'static str, error: &SendRequestError) -> Self {
        // `Disconnected` is awc's word for a connection that ended before the answer, long after the connect.
        let connecting =
            matches!(error, SendRequestError::Connect(error) if !matches!(error, ConnectError::Disconnected));
        let reason = match error {
            // A reset is an error of reading, not one of what was read.
            SendRequestError::Connect(ConnectError::Disconnected)
            | SendRequestError::Send(_)
            | SendRequestError::Response(ParseError::Io(_) | ParseError::Incomplete) => {
                "the connection broke before the hub answered".to_owned()
            }
            SendRequestError::Connect(ConnectError::Timeout) => {
                "the hub cannot be reached: timeout".to_owned()
            }
            SendRequestError::Connect(ConnectError::Io(error)) => {
                format!("the hub cannot be reached: {}", connect_reason(error))
            }
            SendRequestError::Connect(error) => format!("the hub cannot be reached: {error}"),
            SendRequestError::Timeout => "the hub did not answer in time".to_owned(),
            SendRequestError::Response(_) => {
                "the hub's answer is not HTTP; is it an https:// address?".to_owned()
            }
            error => error.to_string(),
        };
        let nothing_taken = connecting || matches!(error, SendRequestError::Url(_));
        Self::Unreachable { call, reason: one_line(&reason), nothing_taken }
    }
}

/// Longest quote of a hub's refusal: enough for a sentence and a few names, short enough for a log line.
const MAX_MESSAGE: usize = 2 << 10;

/// What a hub says in the body of a refusal: the text of `error`, `error.message` or `message`, else the body. `redact` is
/// asked before it is cut short: half a token is found by nobody.
pub(super) fn message(body: &[u8], redact: impl FnOnce(String) -> String) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: Option<serde_json::Value>,
        message: Option<String>,
    }
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return "a web page answers there; is that the hub's own address?".to_owned();
    }
    let said = serde_json::from_slice::<Body>(body).ok().and_then(|body| match body.error {
        Some(serde_json::Value::String(error)) => Some(error),
        Some(serde_json::Value::Object(error)) => {
            error.get("message").and_then(|message| message.as_str().map(str::to_owned))
        }
        _ => body.message,
    });
    short(&redact(said.unwrap_or_else(|| text.into_owned())))
}

/// Whether a refusal has a reason of its own: servers that redirect send a page, or nothing.
pub(super) fn says_something(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    !body.is_empty() && !body.starts_with(b"<")
}

/// A text of the hub's, in one line of a sane length.
pub(super) fn short(text: &str) -> String {
    let mut message = one_line(text);
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Scheme, host and port of a redirect's target, if it names one.
pub(super) fn place(headers: &HeaderMap) -> Option<String> {
    let target: Uri = headers.get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let authority = target.authority()?;
    let host_and_port = authority.as_str().rsplit('@').next()?;
    Some(format!("{}://{host_and_port}", target.scheme_str()?))
}

/// A peer's text may hold line breaks and terminal codes; a log line and a terminal get neither.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.trim_end().len());
    line
}
