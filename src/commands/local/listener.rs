//! The port: 127.0.0.1, and `[::1]` where the machine has IPv6.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::exit::Failure;

/// The port of Ollama.
const OLLAMA_PORT: u16 = 11434;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 256;
/// Most tries to find a port that is free on both addresses.
const FREE_PORT_TRIES: u32 = 16;

/// Listening sockets of both loopback addresses: `localhost` resolves to either.
pub(super) struct Listeners {
    v4: TcpListener,
    v6: Option<TcpListener>,
    port: u16,
}

impl Listeners {
    /// Listens on `port`, or on a free one if it is 0.
    pub(super) fn bind(port: u16) -> Result<Self, Failure> {
        // A port that is free on one of the addresses may be in use on the other.
        let tries = if port == 0 { FREE_PORT_TRIES } else { 1 };
        (1..tries).find_map(|_| Self::bind_once(port).ok()).map_or_else(|| Self::bind_once(port), Ok)
    }

    fn bind_once(port: u16) -> Result<Self, Failure> {
        let v4 = listen(Ipv4Addr::LOCALHOST.into(), port).map_err(|error| failure(port, &error))?;
        let port = v4.local_addr().map_err(|error| failure(port, &error))?.port();
        let v6 = match listen(Ipv6Addr::LOCALHOST.into(), port) {
            Ok(listener) => Some(listener),
            // Prompts for `localhost` would reach the program that has it.
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Err(failure(port, &error)),
            // No IPv6 on this machine.
            Err(_) => None,
        };
        Ok(Self { v4, v6, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        let v6 = async {
            match &self.v6 {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let (stream, _) = tokio::select! {
            accepted = self.v4.accept() => accepted?,
            accepted = v6 => accepted?,
        };
        Ok(stream)
    }
}

fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Closed connections of a `local` that has just ended may still occupy the port.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

fn failure(port: u16, error: &io::Error) -> Failure {
    let who = if port == OLLAMA_PORT { ", probably by Ollama" } else { "" };
    Failure::failed(match error.kind() {
        ErrorKind::AddrInUse => {
            format!(
                "cannot listen on 127.0.0.1:{port}: the port is in use{who}; choose another one with --port"
            )
        }
        ErrorKind::PermissionDenied => {
            format!("cannot listen on 127.0.0.1:{port}: only root may; choose a port above 1023 with --port")
        }
        _ => format!("cannot listen on 127.0.0.1:{port}: {}", crate::config::plain(error)),
    })
}
