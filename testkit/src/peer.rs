//! An HTTP server on raw TCP whose behaviour the test defines.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, Request};
use crate::wait::{PATIENCE, port_is_free};

/// A server on a free port of this machine. Dropping it stops accepting; open connections continue.
pub struct Peer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    /// Dropping this sender tells all connections that the server was dropped.
    plug: watch::Sender<()>,
}

impl Peer {
    /// Starts a server that runs `serve` for each connection, on this thread.
    pub fn start(serve: impl AsyncFn(Connection) -> io::Result<()> + 'static) -> Self {
        Self::on("127.0.0.1:0", serve).unwrap()
    }

    /// As [`start`](Self::start), on the given address.
    pub fn on(
        address: impl ToSocketAddrs,
        serve: impl AsyncFn(Connection) -> io::Result<()> + 'static,
    ) -> io::Result<Self> {
        let (peer, accepting) = Self::bind(address)?;
        spawn_local(accepting.run(serve));
        Ok(peer)
    }

    /// As [`start`](Self::start), on a new thread, for a test that blocks its own thread.
    pub fn on_thread(serve: impl AsyncFn(Connection) -> io::Result<()> + Send + 'static) -> Self {
        let (peer, accepting) = Self::bind("127.0.0.1:0").unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, accepting.run(serve));
        });
        peer
    }

    fn bind(address: impl ToSocketAddrs) -> io::Result<(Self, Accepting)> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (plug, plugged) = watch::channel(());
        let (address, accepted) = (listener.local_addr()?, Arc::<AtomicUsize>::default());
        let accepting = Accepting { listener, accepted: Arc::clone(&accepted), plugged };
        Ok((Self { address, accepted, plug }, accepting))
    }

    /// Stops accepting like a drop, and waits until the port is free.
    pub async fn stop(&self) {
        self.plug.send_replace(());
        port_is_free(self.port()).await;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns `http://ADDRESS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Number of accepted connections.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The accepting task of a [`Peer`].
struct Accepting {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    plugged: watch::Receiver<()>,
}

impl Accepting {
    async fn run(self, serve: impl AsyncFn(Connection) -> io::Result<()> + 'static) {
        let listener = tokio::net::TcpListener::from_std(self.listener).unwrap();
        let serve = Rc::new(serve);
        let mut plugged = self.plugged.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = plugged.changed() => return,
            };
            // `accept` fails when no descriptor is free, which is temporary.
            let Ok((socket, _)) = accepted else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let connection = Connection::numbered(socket, number, self.plugged.clone());
            let serve = Rc::clone(&serve);
            // A failed write to a client that has disconnected does not fail the test.
            spawn_local(async move { drop(serve(connection).await) });
        }
    }
}

/// A listener whose connections a test accepts one by one.
pub struct Listener(tokio::net::TcpListener);

impl Listener {
    pub async fn bind() -> Self {
        Self(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub async fn on(port: u16) -> Self {
        Self(tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap())
    }

    /// Returns `http://ADDRESS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }

    pub fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// Accepts the next connection. Panics if none comes within [`PATIENCE`].
    pub async fn accept(&self) -> Connection {
        let (socket, _) = timeout(PATIENCE, self.0.accept()).await.expect("no connection came").unwrap();
        Connection::of(socket)
    }

    /// Whether a connection waits to be accepted.
    pub async fn has_caller(&self) -> bool {
        timeout(Duration::ZERO, self.0.accept()).await.is_ok()
    }
}

/// A step of a [`Script`], run after the request was read.
#[derive(Clone)]
pub enum Step {
    Say(String),
    Bytes(Vec<u8>),
    Pause(Duration),
    /// Resets the connection.
    Reset,
    /// Waits until the client closes the connection.
    UntilClosed,
    /// Waits until the script is dropped.
    UntilUnplugged,
}

/// A server that runs a list of steps on its first connection. Later connections are accepted and get no answer.
pub struct Script {
    /// `http://ADDRESS/v1`.
    pub url: String,
    _peer: Peer,
    state: Rc<Mutex<Played>>,
}

#[derive(Default)]
struct Played {
    requests: Vec<Request>,
    is_closed: bool,
}

impl Script {
    pub fn start(steps: Vec<Step>) -> Self {
        let state = Rc::<Mutex<Played>>::default();
        let played = Rc::clone(&state);
        let peer = Peer::start(async move |mut connection| {
            if connection.number > 0 {
                connection.unplugged().await;
                return Ok(());
            }
            let request = connection.request().await?;
            played.lock().requests.push(request);
            for step in &steps {
                match step {
                    // The client may have closed the connection.
                    Step::Say(text) => drop(connection.write(text).await),
                    Step::Bytes(bytes) => drop(connection.write(bytes).await),
                    Step::Pause(time) => sleep(*time).await,
                    Step::Reset => return connection.reset(),
                    Step::UntilClosed => {
                        connection.closed().await;
                        played.lock().is_closed = true;
                    }
                    Step::UntilUnplugged => connection.unplugged().await,
                }
            }
            Ok(())
        });
        Self { url: format!("{}/v1", peer.url()), _peer: peer, state }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().requests.clone()
    }

    /// Whether a [`Step::UntilClosed`] has seen the client close the connection.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }
}
