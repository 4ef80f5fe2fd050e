//! Whose a connection is. On Linux the system's table of connections tells the user of each socket of this machine.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use actix_rt::task::spawn_blocking;
use nix::unistd::geteuid;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::spawn_local,
};

/// Reads of the table until a connection counts as missing: lines move while it is read.
const TRIES: u32 = 3;
/// The tables of connections, over IPv4 and over IPv6.
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Whose connections are served.
pub(super) struct PeerUsers {
    /// To the task that reads the table. `None` if all users are served.
    asked: Option<mpsc::UnboundedSender<Question>>,
}

/// Asks for the user of a connection.
struct Question {
    peer: Peer,
    is_stranger: oneshot::Sender<bool>,
}

/// The addresses of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Peer {
    client: SocketAddr,
    server: SocketAddr,
}

impl PeerUsers {
    /// All users of this machine.
    pub(super) fn all() -> Self {
        Self { asked: None }
    }

    /// This program's user and root; all users where the system does not tell whose a connection is.
    pub(super) fn own() -> Self {
        if !is_told() {
            return Self::all();
        }
        let (asked, questions) = mpsc::unbounded_channel();
        spawn_local(answer(questions, read_tables));
        Self { asked: Some(asked) }
    }

    /// Nobody, as if the table showed no connection.
    #[cfg(test)]
    pub(super) fn nobody() -> Self {
        let (asked, questions) = mpsc::unbounded_channel();
        spawn_local(answer(questions, || Ok(Default::default())));
        Self { asked: Some(asked) }
    }

    /// Whether a connection is one of a user who is not served. What the table does not show is.
    pub(super) async fn is_stranger(&self, stream: &TcpStream) -> bool {
        let Some(asked) = &self.asked else { return false };
        let (Ok(client), Ok(server)) = (stream.peer_addr(), stream.local_addr()) else { return true };
        let (is_stranger, told) = oneshot::channel();
        let _ = asked.send(Question { peer: Peer { client, server }, is_stranger });
        told.await.unwrap_or(true)
    }
}

/// Whether the system shows the user of a connection of this program.
fn is_told() -> bool {
    let user_of_own = || -> io::Result<Option<Owner>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let client = std::net::TcpStream::connect(listener.local_addr()?)?;
        let peer = Peer { client: client.local_addr()?, server: client.peer_addr()? };
        Ok(find(&[peer], read_tables)?.remove(&peer))
    };
    matches!(user_of_own(), Ok(Some(Owner::User(_))))
}

/// Answers questions, all that wait after one reading: a long table is read in some milliseconds.
async fn answer(
    mut questions: mpsc::UnboundedReceiver<Question>,
    read: impl Fn() -> io::Result<[String; 2]> + Clone + Send + 'static,
) {
    let mut asked = Vec::new();
    while questions.recv_many(&mut asked, usize::MAX).await > 0 {
        let peers: Vec<Peer> = asked.iter().map(|question| question.peer).collect();
        let read = read.clone();
        let looking = spawn_blocking(move || find(&peers, read).unwrap_or_default());
        let owners = looking.await.unwrap_or_default();
        for Question { peer, is_stranger } in asked.drain(..) {
            let is_own = matches!(owners.get(&peer), Some(Owner::User(uid)) if *uid == 0 || *uid == geteuid().as_raw());
            let _ = is_stranger.send(!is_own);
        }
    }
}

/// Whose a socket is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    User(u32),
    /// Its program has closed it.
    Gone,
}

/// Reads the tables. Without IPv6 there is one.
fn read_tables() -> io::Result<[String; 2]> {
    let [v4, v6] = TABLES.map(fs::read_to_string);
    let v6 = match v6 {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        v6 => v6?,
    };
    Ok([v4?, v6])
}

/// Finds the clients' sockets.
fn find(peers: &[Peer], read: impl Fn() -> io::Result<[String; 2]>) -> io::Result<HashMap<Peer, Owner>> {
    let mut found = HashMap::new();
    for _ in 0..TRIES {
        let missing: Vec<Peer> = peers.iter().filter(|peer| !found.contains_key(*peer)).copied().collect();
        if missing.is_empty() {
            break;
        }
        let [v4, v6] = read()?;
        // A socket of IPv6 may be connected to an address of IPv4.
        for (table, is_v6) in [(v4, false), (v6, true)] {
            found.extend(owners(&table, &missing, is_v6));
        }
    }
    Ok(found)
}

/// Reads users from a table of proc(5): `sl local remote state queues timer retransmits uid timeout inode …`.
fn owners(table: &str, peers: &[Peer], is_v6: bool) -> Vec<(Peer, Owner)> {
    let wanted = peers.iter().filter(|peer| is_v6 || peer.client.is_ipv4());
    let wanted: HashMap<String, Peer> = wanted.map(|peer| (peer.key(is_v6), *peer)).collect();
    let owner = |line: &str| {
        let line = line.split_once(": ")?.1;
        let end = line.match_indices(' ').nth(1)?.0;
        let peer = wanted.get(&line[..end])?;
        let mut words = line[end..].split_whitespace().skip(4);
        let uid = words.next()?.parse().ok()?;
        // A socket without a program has inode 0, and user 0.
        let has_program = words.nth(1).is_some_and(|inode| inode != "0");
        Some((*peer, if has_program { Owner::User(uid) } else { Owner::Gone }))
    };
    table.lines().filter_map(owner).collect()
}

impl Peer {
    /// The two addresses of the client's socket as the table has them.
    fn key(&self, is_v6: bool) -> String {
        format!("{} {}", key(self.client, is_v6), key(self.server, is_v6))
    }
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
    use std::{
        net::{Ipv6Addr, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    #[test]
    fn the_system_tells_the_user_of_a_connection() {
        let Ok(v4) = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) else { return };
        let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok();
        for listener in [Some(v4), v6].iter().flatten() {
            let connecting = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, client) = listener.accept().unwrap();
            let peer = Peer { client, server: accepted.local_addr().unwrap() };
            let found = || find(&[peer], read_tables).unwrap().remove(&peer);
            assert_eq!(found(), Some(Owner::User(geteuid().as_raw())));
            drop(connecting);
            assert_eq!(found(), Some(Owner::Gone), "a socket without a program");
        }
        assert!(is_told());
    }

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 71 1 0 100\n   \
        1: 0100007F:D431 0100007F:2CAA 01 00000000:00000000 00:00000000 00000000  1001        0 72 1 0 20\n   \
        2: 0100007F:2CAA 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 73 1 0 20\n   \
        3: 0000000000000000FFFF00000100007F:D432 0000000000000000FFFF00000100007F:2CAA 01 00000000:00000000 \
        02:00000000 00000000  1002        0 74 2 0 20\n";

    fn peer(port: u16) -> Peer {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Peer { client: at(port), server: at(0x2CAA) }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_of_the_table_is_found_by_both_addresses() {
        let owners = |port, is_v6| owners(TABLE, &[peer(port)], is_v6);
        assert_eq!(owners(0xD431, false), [(peer(0xD431), Owner::User(1001))]);
        assert_eq!(owners(0xD432, true), [(peer(0xD432), Owner::User(1002))]);
        assert_eq!(owners(0xD433, false), []);
    }

    /// One reading answers all that wait, and whom no reading shows is a stranger.
    #[actix_rt::test]
    #[cfg(target_endian = "little")]
    async fn those_that_wait_are_told_after_one_reading() {
        let reads = Arc::new(AtomicUsize::new(0));
        let own = TABLE.replace("  1001  ", &format!("  {}  ", geteuid()));
        for (table, missing, expected) in [(Some(own), 0, 1), (Some(TABLE.to_owned()), 1, 3), (None, 1, 1)] {
            reads.store(0, Ordering::Relaxed);
            let (asked, questions) = mpsc::unbounded_channel();
            let told: Vec<_> = (0..300)
                .map(|number| {
                    let (is_stranger, told) = oneshot::channel();
                    let peer = peer(0xD431 + if number % 2 == 1 { 2 * missing } else { 0 });
                    assert!(asked.send(Question { peer, is_stranger }).is_ok());
                    told
                })
                .collect();
            let counted = reads.clone();
            let is_own = missing == 0;
            spawn_local(answer(questions, move || {
                counted.fetch_add(1, Ordering::Relaxed);
                let table = table.clone().ok_or(io::ErrorKind::Other)?;
                Ok([table, String::new()])
            }));
            for told in told {
                assert_eq!(told.await, Ok(!is_own));
            }
            assert_eq!(reads.load(Ordering::Relaxed), expected);
        }
    }
}
