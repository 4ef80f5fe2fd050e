//! Why a hub does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::auth::NotAToken;
use crate::store::{StoreError, plain};

/// Each text says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Another program listens there.
    #[error(
        "cannot listen on {0}: the port is in use; stop the other program, or choose another with --listen"
    )]
    PortInUse(SocketAddr),
    /// Any other reason not to listen.
    #[error("cannot listen on {0}: {cause}", cause = plain(.1))]
    Listen(SocketAddr, #[source] io::Error),
    /// The directory or the store in it cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The environment's admin token is none.
    #[error("VIRTUAL_LLM_ADMIN_TOKEN is not a token: {0}; set another, or unset it and the hub makes one")]
    AdminToken(#[from] NotAToken),
    /// A bug of ours.
    #[error("the hub cannot start: {0}")]
    Internal(String),
    /// Certificate or key cannot be used.
    #[error("cannot use the TLS file {file}: {cause}", file = .0.display(), cause = .1)]
    Tls(PathBuf, String),
}
