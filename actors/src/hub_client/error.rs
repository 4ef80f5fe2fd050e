//! Errors of calls to the hub.

use std::time::Duration;

use actix_http::error::ParseError;
use awc::error::{ConnectError, SendRequestError};
use awc::http::Uri;
use awc::http::header::{HeaderMap, LOCATION};
use serde::Deserialize;

use crate::http::proxy::{self, Proxy, ProxyError};
use crate::tls_reason::connect_reason;

/// A failed call to the hub. Its text contains no token and no line break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HubError {
    /// There was no answer.
    #[error("{call}: {reason}")]
    Unreachable {
        call: &'static str,
        reason: String,
        /// Whether the hub certainly did not receive the call, because there was no connection.
        nothing_taken: bool,
    },
    /// The proxy on the way did not connect to the hub.
    #[error("{call}: {error}")]
    Proxy { call: &'static str, error: ProxyError },
    /// A status other than the expected one.
    #[error("{call} HTTP {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        call: &'static str,
        status: u16,
        /// Error text of the hub.
        message: String,
        retry_after: Option<Duration>,
    },
    /// A success whose content is not valid.
    #[error("{call}: {reason}")]
    Invalid { call: &'static str, reason: String },
}

/// The class of a [`HubError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubErrorKind {
    /// A later try may succeed.
    Retry,
    /// 404, 410: the hub does not know the session or the task.
    Gone,
    /// 409.
    Conflict,
    /// Another 3xx or 4xx, which a later try does not change; or a proxy that refuses.
    Refused,
}

impl HubError {
    pub(crate) fn kind(&self) -> HubErrorKind {
        match self {
            Self::Status { status: 404 | 410, .. } => HubErrorKind::Gone,
            Self::Status { status: 409, .. } => HubErrorKind::Conflict,
            Self::Status { status: 408 | 425 | 429, .. } => HubErrorKind::Retry,
            Self::Status { status: 300..=499, .. } => HubErrorKind::Refused,
            Self::Proxy { error, .. } if error.is_refusal() => HubErrorKind::Refused,
            Self::Unreachable { .. } | Self::Proxy { .. } | Self::Status { .. } | Self::Invalid { .. } => {
                HubErrorKind::Retry
            }
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the hub certainly did not accept the call (SPEC.md section 4, `chunk-seq`).
    pub(crate) fn nothing_taken(&self) -> bool {
        match self {
            Self::Unreachable { nothing_taken, .. } => *nothing_taken,
            Self::Proxy { .. } => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            Self::Invalid { .. } => false,
        }
    }

    /// Names the proxy in the reason of an error between this machine and the hub.
    pub(super) fn through(mut self, proxy: Option<&Proxy>) -> Self {
        if let (Self::Unreachable { reason, .. }, Some(proxy)) = (&mut self, proxy) {
            *reason = format!("{reason} (through the proxy {})", proxy.address());
        }
        self
    }

    pub(super) fn silent(call: &'static str) -> Self {
        Self::Unreachable { call, reason: "the hub did not answer in time".to_owned(), nothing_taken: false }
    }

    pub(super) fn unconnected(call: &'static str, error: &std::io::Error) -> Self {
        if let Some(error) = proxy::inside(error) {
            return Self::Proxy { call, error: error.clone() };
        }
        let reason = one_line(&format!("the hub cannot be reached: {}", connect_reason(error)));
        Self::Unreachable { call, reason, nothing_taken: true }
    }

    pub(super) fn unsent(call: &'static str, error: &SendRequestError) -> Self {
        if let SendRequestError::Connect(ConnectError::Io(error)) = error
            && let Some(error) = proxy::inside(error)
        {
            return Self::Proxy { call, error: error.clone() };
        }
        // awc reports a connection that ended before the answer as `ConnectError::Disconnected`.
        let connecting =
            matches!(error, SendRequestError::Connect(error) if !matches!(error, ConnectError::Disconnected));
        let reason = match error {
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

/// Longest quote of the hub, in bytes: some sentences, and short enough for a log line.
const MAX_MESSAGE: usize = 2 << 10;

/// The error text in a response body: `error`, `error.message` or `message`, else the body. `redact` runs before the text is
/// cut, because half a token would not be found.
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
    let text_in_json = serde_json::from_slice::<Body>(body).ok().and_then(|body| match body.error {
        Some(serde_json::Value::String(error)) => Some(error),
        Some(serde_json::Value::Object(error)) => {
            error.get("message").and_then(|message| message.as_str().map(str::to_owned))
        }
        _ => body.message,
    });
    short(&redact(text_in_json.unwrap_or_else(|| text.into_owned())))
}

/// Whether a body has an error text: servers that redirect send a page, or nothing.
pub(super) fn has_text(body: &[u8]) -> bool {
    let body = body.trim_ascii_start();
    !body.is_empty() && !body.starts_with(b"<")
}

/// Makes a text of the hub one line of at most [`MAX_MESSAGE`] bytes.
pub(super) fn short(text: &str) -> String {
    let mut message = one_line(text);
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|&end| message.is_char_boundary(end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

/// Scheme, host and port of a redirect's target.
pub(super) fn redirect_target(headers: &HeaderMap) -> Option<String> {
    let target: Uri = headers.get(LOCATION)?.to_str().ok()?.parse().ok()?;
    let authority = target.authority()?;
    let host_and_port = authority.as_str().rsplit('@').next()?;
    Some(format!("{}://{host_and_port}", target.scheme_str()?))
}

/// Removes line breaks and terminal codes.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.trim_end().len());
    line
}
