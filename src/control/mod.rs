//! How the commands of a person steer the registrar on the same machine: a Unix socket, one JSON line each way.

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

pub(crate) use client::{ask, is_answered};
pub(crate) use server::Server;

/// Whether somebody listens at `path`. Does not wait: one that takes no connections is somebody, too.
fn is_heard(path: &Path) -> bool {
    let try_it = || -> nix::Result<()> {
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
    };
    matches!(try_it(), Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS))
}

/// Whether the other end is ours, or root's. The file's mode keeps others out; this does where a file system ignores modes,
/// and where others could put a socket of theirs.
fn is_ours(stream: &UnixStream) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == ours || peer.uid() == 0)
}

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase")]
pub(crate) enum Request {
    /// How is it going?
    Status,
    /// Take no tasks, for so many seconds or until `Resume`.
    Pause {
        /// `None`: until told otherwise.
        seconds: Option<f64>,
    },
    /// Take tasks again.
    Resume,
    /// Read the configuration again.
    Reload,
    /// Run a provider's wake recipe.
    Up {
        /// Its name, local or published.
        provider: String,
    },
    /// Run its sleep recipe.
    Down {
        /// Its name, local or published.
        provider: String,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reply {
    /// Done; with the status, or how long it took.
    Ok(serde_json::Value),
    /// Not done, and why.
    Error(String),
}
