//! `local` between a caller and a scripted hub, both on raw TCP.

mod bodies;
mod edges;

use std::path::PathBuf;

use actors::{Credentials, Secret};
use futures_util::future::join_all;
use hub::Origins;
use testkit::{client::Answer, connection::Connection, peer::Peer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use super::{
    handler::Handler,
    listener::Listeners,
    outage::Outage,
    peer_user::PeerUsers,
    server::{STRANGER_TIMEOUT, Server},
    token::Token,
};
use crate::{cli::Global, client::HubRelay, config::Paths};

/// A hub, and `local` before it.
struct Scene {
    port: u16,
    server: Server,
    hub: Peer,
}

impl Scene {
    fn start(hub: impl AsyncFn(Connection) -> std::io::Result<()> + 'static) -> Self {
        Self::start_for(PeerUsers::own(), hub)
    }

    fn start_for(users: PeerUsers, hub: impl AsyncFn(Connection) -> std::io::Result<()> + 'static) -> Self {
        let hub = Peer::start(hub);
        let credentials = Credentials::new(hub.url(), Secret::new("tok"));
        let file = |name: &str| PathBuf::from("/nonexistent").join(name);
        let paths = Paths {
            home: file(""),
            config: file("config.json"),
            credentials: file("credentials"),
            session_file: file("provider-session"),
            socket: None,
        };
        let handler = Handler {
            relay: HubRelay::new(&credentials).unwrap(),
            token: Token::new(Global::default(), paths, &credentials),
            origins: Origins::default(),
            outage: Outage::default(),
            users,
        };
        let listeners = Listeners::bind(0).unwrap();
        Self { port: listeners.port(), server: Server::start(listeners, handler), hub }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends `head`, whose lines end with CRLF, and what follows it. The host is added.
    async fn send(&self, head: &str, rest: &[u8]) -> TcpStream {
        let mut socket = self.connect().await;
        let (line, headers) = head.split_once("\r\n").unwrap();
        let text = format!("{line}\r\nhost: localhost:{}\r\n{headers}\r\n", self.port);
        socket.write_all(text.as_bytes()).await.unwrap();
        // A refused request may end the connection.
        let _ = socket.write_all(rest).await;
        socket
    }

    async fn ask(&self, head: &str, rest: &[u8]) -> Answer {
        Answer::read(self.send(head, rest).await).await.unwrap()
    }
}

/// Of the connections of other users some are told why, in two seconds; the others end at once.
#[actix_rt::test]
async fn few_connections_of_other_users_are_held() {
    let scene = Scene::start_for(PeerUsers::nobody(), async |_| Ok(()));
    let lasted = async || {
        let start = Instant::now();
        let mut socket = scene.connect().await;
        // A reset ends it as well.
        let _ = socket.read(&mut [0]).await;
        start.elapsed()
    };
    let mut lasted = join_all((0..40).map(|_| lasted())).await;
    lasted.sort();
    assert!(lasted[10] < STRANGER_TIMEOUT && lasted[39] >= STRANGER_TIMEOUT, "{lasted:?}");
}
