//! The HTTP client for backends: HTTP/1.1 over hyper, no redirects, no compression asked for, Nagle's algorithm off.
//!
//! A connection is driven by the request that uses it, not by a task of its own: a token costs no switch between tasks,
//! and a dropped answer closes its socket at once, which is how a generation is cancelled. It is used again only after
//! one request and exactly its one final answer were read to the end (RFC 9112, section 9.3), and a request with a body
//! was not refused: hand-written servers leave the body of such a one unread.

mod body;
mod client;
mod connection;
mod decode;
mod early;
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
pub use client::{CONNECT_TIMEOUT, Client, KEEP_ALIVE};
pub use decode::{DecodeError, decode};
pub(crate) use resolver::LookupUser;
pub use retry_after::retry_after;
pub use send_error::SendError;
pub use tls::{TlsError, tls_config};

/// Value of the `User-Agent` header.
pub const USER_AGENT: &str = concat!("virtual-llm/", env!("CARGO_PKG_VERSION"));
