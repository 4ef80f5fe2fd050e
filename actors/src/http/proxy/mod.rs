//! The HTTP proxy between this machine and the hub, or between it and the backend of a provider that names one.
//!
//! Every connection through a proxy is a tunnel (`CONNECT`), also to a server at plain http: a proxy that handles requests
//! one by one may buffer a stream. Loopback hosts are always connected to directly.

mod dialer;
mod error;
mod no_proxy;
mod settings;
mod tunnel;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use backend::Secret;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::percent_decode_str;

use crate::http::is_loopback;

pub(crate) use dialer::Dialer;
pub use error::{InvalidProxy, ProxyError, ProxyFault, inside};
pub use settings::{explicit, from_environment, is_remote};

/// Port of an `http://` proxy whose URL names none, as curl has it.
const HTTP_PORT: u16 = 1080;
/// Port of an `https://` proxy whose URL names none.
const HTTPS_PORT: u16 = 443;

/// An HTTP proxy. `Debug` does not show its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    is_tls: bool,
    /// An IPv6 address has no brackets.
    host: String,
    port: u16,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
    /// The setting that the proxy comes from: an environment variable, an option or a key of a file.
    source: String,
}

impl Proxy {
    /// Parses `[http[s]://][USER[:PASSWORD]@]HOST[:PORT][/…]`. User and password are percent-encoded. No error quotes `text`,
    /// which may contain a password.
    pub fn parse(text: &str, source: &str) -> Result<Self, InvalidProxy> {
        let invalid = |expected| InvalidProxy { source_of: source.to_owned(), expected };
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let is_tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "socks" | "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err(invalid(
                    "a SOCKS proxy is not supported; expected an HTTP proxy: http://HOST:PORT",
                ));
            }
            _ => return Err(invalid("expected http:// or https:// in front of the proxy's host")),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('@') {
            return Err(invalid(
                "expected '/', '?' and '#' of user and password percent-encoded: %2F, %3F, %23",
            ));
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        let (host, port) = host_and_port(address).ok_or_else(|| invalid("expected http://HOST:PORT"))?;
        Ok(Self {
            is_tls,
            host,
            port: port.unwrap_or(if is_tls { HTTPS_PORT } else { HTTP_PORT }),
            authorization: user.map(basic),
            source: source.to_owned(),
        })
    }

    /// Whether the connection to the proxy itself is TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Whether the setting has a user.
    pub fn has_user(&self) -> bool {
        self.authorization.is_some()
    }

    /// `HOST:PORT`, for people.
    pub fn address(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The setting that the proxy comes from.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// Splits `HOST[:PORT]`; `None` unless both are well formed. Brackets of an IPv6 address are removed.
fn host_and_port(address: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    if host.is_empty() || !host.chars().all(is_host_char) {
        return None;
    }
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(port.parse().ok().filter(|&port| port != 0)?)
        }
        Some(_) => return None,
        None => None,
    };
    Some((host.to_owned(), port))
}

/// The value of `Proxy-Authorization` for the percent-encoded `USER[:PASSWORD]`.
fn basic(user: &str) -> Secret {
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let mut plain: Vec<u8> = percent_decode_str(user).collect();
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    Secret::new(format!("Basic {}", BASE64_STANDARD.encode(plain)))
}

/// `HOST:PORT`, with an IPv6 address in brackets.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Removes the brackets of an IPv6 address.
pub(super) fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether no proxy is used for `host`: it is loopback, an unspecified address or a name under `localhost`.
pub(crate) fn is_exempt(host: &str) -> bool {
    let bare = unbracketed(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return is_loopback(host) || ip.to_canonical().is_unspecified();
    }
    let name = bare.strip_suffix('.').unwrap_or(bare);
    is_loopback(name.rsplit('.').next().unwrap_or_default())
}
