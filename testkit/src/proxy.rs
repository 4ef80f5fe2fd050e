//! A TCP proxy that simulates network faults between two programs. The test changes the fault at run time.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

/// A fault that applies to all connections, open and new, until the test sets another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// No fault: bytes are relayed at once.
    Passes,
    /// Bytes are relayed after this delay.
    Lags(Duration),
    /// Relays this many bytes a second in each direction.
    Trickles(u32),
    /// Each packet has one byte.
    Slices,
    /// After this many further bytes in either direction, both sides see the end of the connection.
    CutsAfter(u64),
    /// No bytes are relayed and all connections stay open. Bytes written meanwhile arrive when the fault ends.
    BlackHole,
    /// Open and new connections are reset.
    Resets,
    /// The client sees the end of the connection, and the bytes it writes still arrive.
    HalfCloses,
}

/// A running proxy. Dropping it closes its connections.
pub struct Proxy {
    network: watch::Sender<Network>,
    open: Rc<Cell<usize>>,
    accepted: Rc<Cell<usize>>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts a proxy on a free port of 127.0.0.1 to the port `target`.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, told) = watch::channel(Network::Passes);
        let (open, accepted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counts = (Rc::clone(&open), Rc::clone(&accepted));
        let accepting = spawn_local(async move {
            loop {
                // `accept` fails when no descriptor is free, which is temporary.
                let Ok((client, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(10)).await;
                    continue;
                };
                counts.1.set(counts.1.get() + 1);
                counts.0.set(counts.0.get() + 1);
                let (told, open) = (told.clone(), Rc::clone(&counts.0));
                spawn_local(async move {
                    relay(client, target, told).await;
                    open.set(open.get() - 1);
                });
            }
        });
        Self { network, open, accepted, port, accepting }
    }

    /// The port for clients.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault for all connections, open and new.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Number of open connections.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Number of connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.get()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The drop of `told`'s sender, which follows, ends the connections.
        self.accepting.abort();
    }
}

/// The direction of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Why relaying in one direction ended.
enum End {
    /// The source ended, and the end was relayed. The other direction continues.
    Fin,
    /// Both directions end with an orderly close.
    Cut,
    /// Both directions end with a reset.
    Reset,
}

async fn relay(mut client: TcpStream, target: u16, told: watch::Receiver<Network>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else {
        // A reset is the closest to a refused connection.
        return reset(&client);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let end = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = pin!(pump(from_client, to_server, Way::ToServer, told.clone()));
        let down = pin!(pump(from_server, to_client, Way::ToClient, told));
        match select(up, down).await {
            Either::Left((End::Fin, other)) | Either::Right((End::Fin, other)) => other.await,
            Either::Left((end, _)) | Either::Right((end, _)) => end,
        }
    };
    match end {
        End::Reset => {
            reset(&client);
            reset(&server);
        }
        End::Fin | End::Cut => {
            let _ = (client.shutdown().await, server.shutdown().await);
            // A socket that is closed with unread bytes sends a reset instead of the end.
            drain(&client);
            drain(&server);
        }
    }
}

/// Configures the socket so that closing it resets the connection.
fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

fn drain(socket: &TcpStream) {
    let mut rest = [0; 4096];
    while socket.try_read(&mut rest).is_ok_and(|read| read > 0) {}
}

async fn pump(mut from: ReadHalf<'_>, to: WriteHalf<'_>, way: Way, told: watch::Receiver<Network>) -> End {
    let mut sink = Sink { to, way, told, passed: 0, deaf: false };
    let mut buffer = vec![0; 16 << 10];
    loop {
        if let Err(end) = sink.obey().await {
            return end;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = sink.told.changed() => match changed {
                Ok(()) => { sink.passed = 0; continue }
                Err(_) => return End::Cut,
            },
        };
        match read {
            Ok(0) => match sink.finish().await {
                Ok(()) => return End::Fin,
                Err(end) => return end,
            },
            Ok(read) => {
                if let Err(end) = sink.pass(&buffer[..read]).await {
                    return end;
                }
            }
            Err(_) => return End::Reset,
        }
    }
}

/// The writing half of one direction.
struct Sink<'a> {
    to: WriteHalf<'a>,
    way: Way,
    told: watch::Receiver<Network>,
    /// Bytes relayed since the last change of the fault.
    passed: u64,
    /// Whether the sink is closed, so that further bytes are discarded.
    deaf: bool,
}

impl Sink<'_> {
    /// Applies a new fault while there are no bytes to relay.
    async fn obey(&mut self) -> Result<(), End> {
        let network = *self.told.borrow();
        match network {
            Network::Resets => Err(End::Reset),
            Network::HalfCloses if self.way == Way::ToClient && !self.deaf => {
                self.deaf = true;
                self.to.shutdown().await.map_err(|_| End::Reset)
            }
            _ => Ok(()),
        }
    }

    /// Relays bytes under the current fault.
    async fn pass(&mut self, mut bytes: &[u8]) -> Result<(), End> {
        let mut waited = false;
        while !bytes.is_empty() {
            self.obey().await?;
            if self.deaf {
                return Ok(());
            }
            let network = *self.told.borrow();
            let most = match network {
                Network::BlackHole => {
                    self.changed().await?;
                    continue;
                }
                Network::Lags(time) if !waited => {
                    waited = self.rest(time).await?;
                    continue;
                }
                Network::CutsAfter(limit) => {
                    let left = usize::try_from(limit.saturating_sub(self.passed)).unwrap_or(usize::MAX);
                    if left == 0 {
                        return Err(End::Cut);
                    }
                    left
                }
                Network::Slices => 1,
                Network::Trickles(rate) => {
                    // The largest pieces come every 50 ms.
                    let most = (rate as usize / 20).max(1);
                    let piece = u64::try_from(most.min(bytes.len())).unwrap_or(u64::MAX);
                    self.rest(Duration::from_micros(piece * 1_000_000 / u64::from(rate.max(1)))).await?;
                    most
                }
                _ => bytes.len(),
            };
            let piece = &bytes[..most.min(bytes.len())];
            let written = tokio::select! {
                written = self.to.write(piece) => written,
                // A peer that does not read must not delay the next fault.
                changed = self.told.changed() => match changed {
                    Ok(()) => { self.passed = 0; continue }
                    Err(_) => return Err(End::Cut),
                },
            };
            let written = written.map_err(|_: io::Error| End::Reset)?;
            self.passed += written as u64;
            bytes = &bytes[written..];
            if network == Network::Slices {
                // A reader on this thread must get this byte before the next one is written.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Relays the end of the source. In a black hole it waits for the end of the fault.
    async fn finish(&mut self) -> Result<(), End> {
        while *self.told.borrow() == Network::BlackHole {
            self.changed().await?;
        }
        self.obey().await?;
        self.to.shutdown().await.map_err(|_| End::Reset)
    }

    /// Waits until the test sets another fault.
    async fn changed(&mut self) -> Result<(), End> {
        self.passed = 0;
        self.told.changed().await.map_err(|_| End::Cut)
    }

    /// Waits for `time`, or until the test sets another fault. Returns whether the time has passed.
    async fn rest(&mut self, time: Duration) -> Result<bool, End> {
        tokio::select! {
            () = sleep(time) => Ok(true),
            changed = self.told.changed() => changed.map(|()| false).map_err(|_| End::Cut),
        }
    }
}
