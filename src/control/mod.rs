//! The control socket, by which commands reach the registrar of this machine: one JSON line for request and reply each.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::{os::fd::AsRawFd as _, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

pub(crate) use client::{ask, has_registrar};
pub(crate) use server::Server;

/// Whether a process listens at `path`. Does not wait: a full queue of connections counts as listening.
fn is_open(path: &Path) -> bool {
    let try_connect = || -> nix::Result<()> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
    };
    matches!(try_connect(), Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS))
}

/// Whether the peer is a process of this user or of root. Needed where the file system ignores modes, and where others can
/// create sockets.
fn is_own_peer(stream: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub(crate) enum Request {
    Status,
    /// Accept no tasks for a number of seconds, or until `Resume`.
    Pause {
        seconds: Option<f64>,
    },
    Resume,
    /// Read the configuration again.
    Reload,
    /// Run the wake recipe of a provider, given by its local or published name.
    Up {
        provider: String,
    },
    /// Run the sleep recipe of a provider, given by its local or published name.
    Down {
        provider: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Success, with the status or the duration.
    Ok(serde_json::Value),
    /// Failure, with the reason.
    Error(String),
}
