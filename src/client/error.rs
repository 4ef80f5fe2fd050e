//! Errors of calls to a hub, as texts for the user.

use std::io;

use actix_web::http::StatusCode;
use actors::http::{Proxy, proxy};
use awc::error::{ConnectError, SendRequestError};

use super::status_text;
use crate::{exit::Failure, output::printable};

/// Longest text of a hub in an error, in characters.
const MAX_QUOTE: usize = 300;

#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct CallError {
    /// Status of the answer, if there was one.
    pub(crate) status: Option<StatusCode>,
    /// Reason in the answer, if it had one.
    pub(crate) reason: Option<String>,
    text: String,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::failed(error)
    }
}

impl CallError {
    /// Whether the hub answered with this status.
    pub(crate) fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// Error without an answer. `proxy` is on the way.
    pub(super) fn unreachable(url: &str, proxy: Option<&Proxy>, error: &SendRequestError) -> Self {
        let is_proxys = matches!(error, SendRequestError::Connect(ConnectError::Io(error))
            if proxy::inside(error).is_some());
        // An error of the proxy names it.
        let way = proxy.filter(|_| !is_proxys);
        let text = match error {
            SendRequestError::Connect(error) => connect_reason(url, error),
            SendRequestError::Timeout => "it did not answer in time".to_owned(),
            SendRequestError::Response(_) => "its answer is not HTTP; is it an https:// address?".to_owned(),
            SendRequestError::Send(error) => crate::config::plain(error),
            other => printable(&other.to_string()).into_owned(),
        };
        Self {
            status: None,
            reason: None,
            text: format!("cannot reach the hub at {url}{}: {text}", through(way)),
        }
    }

    /// Error for an answer with a status other than 2xx.
    pub(super) fn answered(url: &str, status: StatusCode, body: &[u8]) -> Self {
        let reason = reason(body);
        let said = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = match status {
            StatusCode::UNAUTHORIZED => {
                format!(
                    "the hub at {url} does not accept the token; `virtual-llm login {url}` writes a new one"
                )
            }
            _ if status.is_redirection() => format!(
                "the hub at {url} points elsewhere ({}), which is not followed; give its own address",
                status_text(status)
            ),
            _ => format!("the hub at {url} answered {}{said}", status_text(status)),
        };
        Self { status: Some(status), reason, text }
    }

    /// Error for an incomplete answer.
    pub(super) fn broke_off(url: &str, how: &str) -> Self {
        Self { status: None, reason: None, text: format!("the answer of the hub at {url} broke off: {how}") }
    }

    /// Error for an answer that no hub gives.
    pub(super) fn not_a_hub(url: &str, why: &str) -> Self {
        Self { status: None, reason: None, text: format!("{url} does not seem to be a hub: {why}") }
    }
}

fn through(proxy: Option<&Proxy>) -> String {
    proxy.map(|proxy| format!(" through the proxy {}", proxy.address())).unwrap_or_default()
}

fn connect_reason(url: &str, error: &ConnectError) -> String {
    match error {
        ConnectError::Timeout => "the connection timed out".to_owned(),
        ConnectError::Resolver(_) | ConnectError::NoRecords => "its host name is not known".to_owned(),
        ConnectError::Io(error) => io_reason(error),
        ConnectError::SslIsNotSupported => format!("no TLS for {url}"),
        other => printable(&other.to_string()).into_owned(),
    }
}

fn io_reason(error: &io::Error) -> String {
    match tls_reason(error) {
        Some(reason) => reason,
        None if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused; is it running there?".to_owned()
        }
        // The text of an error of the proxy is complete.
        None => crate::config::plain(error),
    }
}

fn tls_reason(error: &io::Error) -> Option<String> {
    use rustls::{CertificateError, Error};
    let source = error.get_ref()?;
    let tls = source.downcast_ref::<Error>().or_else(|| source.source()?.downcast_ref::<Error>())?;
    Some(match tls {
        Error::InvalidMessage(_) => "it does not speak TLS; is it an http:// address?".to_owned(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired: whoever runs the hub must renew it (or this machine's clock is wrong)"
                .to_owned()
        }
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is not from an authority that this system trusts; give --ca-file FILE with its \
             authority, or with that of a proxy which opens TLS".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name".to_owned(),
        // rustls has no readable text for the others.
        Error::InvalidCertificate(_) => {
            "its certificate is not accepted; if it is the hub's own, give it with --ca-file FILE".to_owned()
        }
        other => format!("TLS: {other}"),
    })
}

/// Text of an error body: the message of any known form of JSON, else the body itself.
pub(crate) fn reason(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    if text.trim_start().starts_with('<') {
        return Some("a web page answers there; is that the hub's own address?".to_owned());
    }
    let text = wire::openai::error_message(&text).unwrap_or_else(|| text.trim().to_owned());
    let short: String = text.chars().take(MAX_QUOTE).collect();
    (!short.is_empty()).then(|| printable(&short).into_owned())
}
