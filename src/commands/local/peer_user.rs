//! Whose a connection is. On Linux the system's table of connections tells the user of each socket of this machine.

use std::{fmt::Write as _, fs, io, net::SocketAddr, path::Path};

use nix::unistd::geteuid;
use tokio::net::TcpStream;

/// Reads of the table until a connection counts as missing: lines move while it is read.
const TRIES: u32 = 3;

/// Whether a connection is one of another user of this machine than this program's and root. `false` where the system does
/// not tell: it has no table, or the connection is not in it.
pub(super) async fn is_stranger(stream: &TcpStream) -> bool {
    let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return true };
    // A long table is read in some milliseconds.
    let looking = actix_rt::task::spawn_blocking(move || find(client, server));
    match looking.await {
        Ok(Ok(Some(Owner::User(uid)))) => uid != 0 && uid != geteuid().as_raw(),
        Ok(Ok(Some(Owner::Gone))) => true,
        Ok(Ok(None) | Err(_)) | Err(_) => false,
    }
}

/// Whose a socket is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    User(u32),
    /// Its program has closed it.
    Gone,
}

/// Finds the socket of `client` that is connected to `server`.
fn find(client: SocketAddr, server: SocketAddr) -> io::Result<Option<Owner>> {
    // A socket of IPv6 may be connected to an address of IPv4.
    let tables = if client.is_ipv4() { &["tcp", "tcp6"][..] } else { &["tcp6"] };
    for _ in 0..TRIES {
        for table in tables {
            let text = match fs::read_to_string(Path::new("/proc/net").join(table)) {
                Err(error)
                    if *table == "tcp6" && client.is_ipv4() && error.kind() == io::ErrorKind::NotFound =>
                {
                    continue;
                }
                text => text?,
            };
            if let Some(owner) = owner(&text, client, server, *table == "tcp6") {
                return Ok(Some(owner));
            }
        }
    }
    Ok(None)
}

/// Reads the user from a table of proc(5): `sl local remote state queues timer retransmits uid timeout inode …`.
fn owner(table: &str, client: SocketAddr, server: SocketAddr, is_v6: bool) -> Option<Owner> {
    let (client, server) = (key(client, is_v6), key(server, is_v6));
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        if words.next() != Some(client.as_str()) || words.next() != Some(server.as_str()) {
            return None;
        }
        let mut words = words.skip(4);
        let uid = words.next()?.parse().ok()?;
        // A socket without a program has inode 0, and user 0.
        let has_program = words.nth(1).is_some_and(|inode| inode != "0");
        Some(if has_program { Owner::User(uid) } else { Owner::Gone })
    })
}

/// An address in the form of the table: words of the address as numbers of this machine, in hexadecimal, and the port.
fn key(address: SocketAddr, is_v6: bool) -> String {
    let octets = match address {
        SocketAddr::V4(v4) if is_v6 => v4.ip().to_ipv6_mapped().octets().to_vec(),
        SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
        SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
    };
    let mut text = String::new();
    for word in octets.as_chunks::<4>().0 {
        let _ = write!(text, "{:08X}", u32::from_ne_bytes(*word));
    }
    format!("{text}:{:04X}", address.port())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_system_tells_the_user_of_a_connection() {
        let Ok(v4) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { return };
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        for listener in [Some(v4), v6].iter().flatten() {
            let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, client) = listener.accept().unwrap();
            let found = || find(client, accepted.local_addr().unwrap()).unwrap();
            assert_eq!(found(), Some(Owner::User(geteuid().as_raw())));
            drop(connecting);
            assert!(matches!(found(), Some(Owner::Gone)), "a socket without a program");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_found_by_both_addresses() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 71 1 0 100\n   \
            1: 0100007F:D431 0100007F:2CAA 01 00000000:00000000 00:00000000 00000000  1001        0 72 1 0 20\n   \
            2: 0100007F:2CAA 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 73 1 0 20\n   \
            3: 0000000000000000FFFF00000100007F:D432 0000000000000000FFFF00000100007F:2CAA 01 00000000:00000000 \
            02:00000000 00000000  1002        0 74 2 0 20\n";
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let owner = |client, is_v6| owner(table, at(client), at(0x2CAA), is_v6);
        assert_eq!(owner(0xD431, false), Some(Owner::User(1001)));
        assert_eq!(owner(0xD432, true), Some(Owner::User(1002)));
        assert_eq!(owner(0xD433, false), None);
    }
}
