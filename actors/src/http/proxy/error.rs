//! Errors of proxies, which say the step and what to change. None contains a proxy's credentials.

use super::Proxy;

/// A proxy's URL that cannot be used. The text does not quote it: it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy in {source_of} cannot be used: {expected}")]
pub struct InvalidProxy {
    /// The setting.
    pub(super) source_of: String,
    pub(super) expected: &'static str,
}

impl InvalidProxy {
    /// What was expected, without the setting.
    pub fn reason(&self) -> &'static str {
        self.expected
    }
}

/// A connection that a proxy did not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ProxyError {
    /// `HOST:PORT` of the proxy.
    pub proxy: String,
    /// The setting that the proxy comes from.
    pub setting: String,
    /// Whether the setting says `https://`.
    pub is_tls: bool,
    /// `HOST:PORT` of the hub or the backend.
    pub target: String,
    /// What went wrong.
    pub fault: ProxyFault,
}

/// The step at which a proxy failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyFault {
    /// There is no connection to the proxy.
    Unconnected {
        /// The reason.
        reason: String,
    },
    /// The proxy did not answer `CONNECT` within this many seconds.
    Silent {
        /// Seconds.
        seconds: u64,
    },
    /// The proxy closed the connection before its answer.
    Closed,
    /// The proxy answered something else than HTTP.
    NotHttp,
    /// The proxy answered 407.
    Unauthorized {
        /// Whether the setting of the proxy has a user name.
        has_user: bool,
        /// Whether the proxy offers Basic, or does not say.
        accepts_basic: bool,
    },
    /// The proxy answered another status than 2xx.
    Status {
        /// The status.
        status: u16,
    },
}

impl ProxyError {
    pub(super) fn new(proxy: &Proxy, target: &str, fault: ProxyFault) -> Self {
        let proxys_tls = proxy.is_tls();
        let (proxy, setting) = (proxy.address(), proxy.source().to_owned());
        Self { proxy, setting, is_tls: proxys_tls, target: target.to_owned(), fault }
    }

    /// Whether a later try fails until a person has changed something.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.fault,
            ProxyFault::Unauthorized { .. } | ProxyFault::Status { status: 400 | 401 | 403 | 405 | 501 }
        )
    }

    fn text(&self) -> String {
        let Self { proxy, setting, is_tls, target, fault } = self;
        let scheme = if *is_tls { "https" } else { "http" };
        match fault {
            ProxyFault::Unconnected { reason } => {
                format!("cannot connect to the proxy {proxy} (of {setting}): {reason}")
            }
            ProxyFault::Silent { seconds } => {
                format!("the proxy {proxy} did not answer CONNECT {target} within {seconds} s")
            }
            ProxyFault::Closed => {
                format!("the proxy {proxy} closed the connection before it answered CONNECT {target}")
            }
            ProxyFault::NotHttp => {
                let hint = if *is_tls {
                    "is it an HTTP proxy?"
                } else {
                    "is it an HTTP proxy, or one with https://?"
                };
                format!("the answer of the proxy {proxy} (of {setting}) is not HTTP; {hint}")
            }
            ProxyFault::Unauthorized { accepts_basic: false, .. } => format!(
                "the proxy {proxy} wants credentials (407), but does not accept user and password (Basic), \
                 the only way that is supported"
            ),
            ProxyFault::Unauthorized { has_user: true, .. } => {
                format!("the proxy {proxy} does not accept the user and password in {setting} (407)")
            }
            ProxyFault::Unauthorized { has_user: false, .. } => format!(
                "the proxy {proxy} wants a user and a password (407): \
                 give {scheme}://USER:PASSWORD@{proxy} in {setting}"
            ),
            ProxyFault::Status { status: status @ (403 | 405) } => format!(
                "the proxy {proxy} answered {status} to CONNECT {target}: it does not allow this host or this port \
                 (many proxies allow port 443 only)"
            ),
            ProxyFault::Status { status: status @ (500 | 502..=504) } => format!(
                "the proxy {proxy} answered {status} to CONNECT {target}: it cannot reach that host, or does not know its name"
            ),
            ProxyFault::Status { status } => {
                format!("the proxy {proxy} answered {status} to CONNECT {target}")
            }
        }
    }
}

impl From<ProxyError> for std::io::Error {
    fn from(error: ProxyError) -> Self {
        Self::other(error)
    }
}

/// Returns the [`ProxyError`] inside `error`.
pub fn inside(error: &std::io::Error) -> Option<&ProxyError> {
    error.get_ref()?.downcast_ref()
}
