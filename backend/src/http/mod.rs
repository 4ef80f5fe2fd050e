//! The HTTP client for backends: HTTP/1.1 over hyper, no redirects, no compression asked for, Nagle's algorithm off.
//!
//! A connection is polled by the request that uses it, not by a background task: a token costs no task switch, and dropping an
//! answer closes its socket at once, which cancels the generation. A connection is used again only after exactly one final
//! answer to its request was read to the end (RFC 9112, section 9.3). It is not used again after a refused request with a body,
//! because hand-written servers leave that body unread.

mod body;
mod certificate;
mod client;
mod connection;
mod decode;
mod dial;
mod early;
mod loopback;
mod pinned;
mod resolver;
mod retry_after;
mod send_error;
mod slice;
mod tls;

#[cfg(test)]
mod tests;

pub(crate) use body::read_reserved;
pub use body::{Body, BodyError, read_body};
pub use certificate::{CertificateInfo, SeenCertificate};
pub use client::{CONNECT_TIMEOUT, Client, KEEP_ALIVE};
pub use decode::{DecodeError, decode};
pub use dial::{Dial, Transport};
pub use loopback::is_loopback;
pub(crate) use resolver::LookupUser;
pub use retry_after::retry_after;
pub use send_error::SendError;
pub use tls::{TlsError, noting_tls_config, tls_config};

/// Value of the `User-Agent` header.
pub const USER_AGENT: &str = concat!("virtual-llm/", env!("CARGO_PKG_VERSION"));
