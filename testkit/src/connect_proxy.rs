//! An HTTP proxy for `CONNECT`, told at run time what to answer. It knows every host name, as this machine.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificate;
use crate::connection::{Connection, Request};
use crate::peer::Peer;

/// The answer to a `CONNECT`.
#[derive(Debug, Clone, Default)]
pub enum Answer {
    /// A tunnel to the port that the request names, of this machine.
    #[default]
    Tunnel,
    /// A tunnel to requests that have this `Proxy-Authorization`, and 407 to others.
    TunnelFor(String),
    /// These bytes, and the end of the connection.
    Bytes(String),
    /// The end of the connection.
    Closed,
    /// None.
    Silence,
}

/// A running proxy. When it is dropped, its tunnels end.
pub struct ConnectProxy {
    peer: Peer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    answer: Answer,
    requests: Vec<Request>,
}

impl ConnectProxy {
    pub fn start() -> Self {
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        let peer = Peer::start(async move |connection| {
            connection.while_plugged(async |connection| serve(connection, &shared).await).await
        });
        Self { peer, state }
    }

    /// Changes the answer to later requests.
    pub fn answers(&self, answer: Answer) {
        self.state.lock().answer = answer;
    }

    pub fn port(&self) -> u16 {
        self.peer.port()
    }

    /// Returns `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.peer.url()
    }

    /// Listens for TLS on a further port of 127.0.0.1, and returns it.
    pub fn behind_tls(&self, certificate: &Certificate) -> u16 {
        let acceptor = TlsAcceptor::from(Arc::new(certificate.server()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (port, plain) = (listener.local_addr().unwrap().port(), self.port());
        let listener = TcpListener::from_std(listener).unwrap();
        spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                spawn_local(async move {
                    let mut client = acceptor.accept(socket).await?;
                    let mut proxy = TcpStream::connect(("127.0.0.1", plain)).await?;
                    copy_bidirectional(&mut client, &mut proxy).await
                });
            }
        });
        port
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }
}

async fn serve(connection: &mut Connection, state: &Mutex<State>) -> io::Result<()> {
    let request = connection.head().await?;
    let authorization = request.header("proxy-authorization").map(str::to_owned);
    let port = request.target.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let is_connect = request.method == "CONNECT";
    let answer = {
        let mut state = state.lock();
        state.requests.push(request);
        state.answer.clone()
    };
    match answer {
        _ if !is_connect => connection.write(crate::connection::answer(405, "", "")).await,
        Answer::TunnelFor(expected) if authorization.as_ref() != Some(&expected) => {
            let offer = "proxy-authenticate: Basic realm=\"office\"\r\nconnection: close\r\n";
            connection.write(crate::connection::answer(407, offer, "who are you?")).await
        }
        Answer::Tunnel | Answer::TunnelFor(_) => tunnel(connection, port.unwrap_or_default()).await,
        Answer::Bytes(bytes) => connection.write(bytes).await,
        Answer::Closed => Ok(()),
        Answer::Silence => {
            connection.closed().await;
            Ok(())
        }
    }
}

async fn tunnel(connection: &mut Connection, port: u16) -> io::Result<()> {
    let Ok(mut target) = TcpStream::connect(("127.0.0.1", port)).await else {
        return connection.write(crate::connection::answer(502, "", "")).await;
    };
    target.set_nodelay(true)?;
    connection.write("HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let ((mut from_client, mut to_client), (mut from_hub, mut to_hub)) =
        (connection.halves(), target.split());
    // The end of either direction ends both, as with most proxies.
    tokio::select! {
        copied = copy(&mut from_client, &mut to_hub) => copied.map(|_| ()),
        copied = copy(&mut from_hub, &mut to_client) => copied.map(|_| ()),
    }
}
