//! Reasons why a hub does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth::NotAToken;
use crate::store::{StoreError, plain};

/// The reason why a hub does not start. Each text says what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Another program listens on the port.
    #[error(
        "cannot listen on {0}: the port is in use; stop the other program, or choose another with --listen"
    )]
    PortInUse(SocketAddr),
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {0}: {cause}", cause = plain(.1))]
    Listen(SocketAddr, #[source] io::Error),
    /// The data directory or the store in it cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `VIRTUAL_LLM_ADMIN_TOKEN` is not a token.
    #[error("VIRTUAL_LLM_ADMIN_TOKEN is not a token: {0}; set another, or unset it and the hub makes one")]
    AdminToken(#[from] NotAToken),
    /// A bug.
    #[error("the hub cannot start: {0}")]
    Internal(String),
    /// The certificate or the key cannot be used.
    #[error("cannot use the TLS file {file}: {cause}", file = .0.display(), cause = .1)]
    Tls(PathBuf, String),
}
