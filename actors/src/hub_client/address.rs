//! The URL of the hub, checked once.

use awc::http::Uri;

use crate::http::{TlsError, is_loopback};

/// Why credentials are not usable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InvalidHub {
    #[error("the hub's URL {url:?} is not usable: {expected}")]
    Url {
        /// Without user and password.
        url: String,
        expected: &'static str,
    },
    /// The token would be sent without encryption.
    #[error(
        "the token is not sent to {host} over plain http: use https, or allow it with --allow-insecure \
         (MCPD_ALLOW_INSECURE=1, \"allowInsecure\": true)"
    )]
    Insecure { host: String },
    /// The token is not a header value.
    #[error("the hub's token holds characters that no token has: expected visible ASCII without spaces")]
    Token,
    #[error(transparent)]
    Tls(#[from] TlsError),
}

#[derive(Debug)]
pub(crate) struct HubAddress {
    base: String,
    https: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl HubAddress {
    /// Checks `url`. Plain http is allowed to loopback only, unless `allow_insecure`.
    pub(crate) fn parse(url: &str, allow_insecure: bool) -> Result<Self, InvalidHub> {
        let invalid = |expected| InvalidHub::Url { url: without_user(url), expected };
        let uri: Uri = url.trim().parse().map_err(|_| invalid("expected http:// or https:// and a host"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(invalid("expected http:// or https:// in front")),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| invalid("expected a host"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(invalid("expected no user and password in it"));
        }
        if uri.query().is_some() {
            return Err(invalid("expected no query in it"));
        }
        if url.contains('#') {
            return Err(invalid("expected no '#' in it"));
        }
        if !https && !allow_insecure && !is_loopback(host) {
            return Err(InvalidHub::Insecure { host: host.to_owned() });
        }
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        Ok(Self {
            base: url.trim().trim_end_matches('/').to_owned(),
            https,
            host: literal.unwrap_or(host).to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.https
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.base
    }

    /// The host to connect to. An IPv6 address has no brackets.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn path_of(&self, path: &str) -> String {
        format!("{}/api/v1/llms/{path}", self.path)
    }

    pub(super) fn route(&self, path: &str) -> String {
        format!("{}/api/v1/llms/{path}", self.base)
    }
}

fn without_user(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}***{}", &url[..scheme + 3], &url[at..]),
        _ => url.to_owned(),
    }
}
