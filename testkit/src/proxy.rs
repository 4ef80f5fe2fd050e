//! A TCP proxy that does what networks do: it is put between two real programs, and told at run time what to be.

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

/// What the network does to every connection, open or new, until it is told to do something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing: bytes pass as they come.
    Passes,
    /// Each read is passed on so much later.
    Lags(Duration),
    /// So many bytes a second in each direction.
    Trickles(u32),
    /// One byte a packet.
    Slices,
    /// So many bytes in either direction from now on, then both ends read the end.
    CutsAfter(u64),
    /// Nothing passes, everything stays open; what was written meanwhile comes when it passes again.
    BlackHole,
    /// Open connections are reset, new ones at their first sight.
    Resets,
    /// The client reads the end and nothing more; what it writes still arrives.
    HalfCloses,
}

/// A running proxy; it ends with this, and its connections with it.
pub struct Proxy {
    network: watch::Sender<Network>,
    open: Rc<Cell<usize>>,
    accepted: Rc<Cell<usize>>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and connects to `target` there for each client.
    pub async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (network, told) = watch::channel(Network::Passes);
        let (open, accepted) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let counts = (Rc::clone(&open), Rc::clone(&accepted));
        let accepting = spawn_local(async move {
            loop {
                // Out of descriptors, at worst: others will be given back.
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

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on the network is so, for open connections too.
    pub fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Connections that there ever were.
    pub fn accepted(&self) -> usize {
        self.accepted.get()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The sender goes too: that ends the connections.
        self.accepting.abort();
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// Why a direction has nothing more to do.
enum End {
    /// Its source ended, and so did its sink: the other direction goes on.
    Fin,
    /// Both directions are over, in order.
    Cut,
    /// Both directions are over, by a reset.
    Reset,
}

async fn relay(mut client: TcpStream, target: u16, told: watch::Receiver<Network>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else {
        // As if nobody had listened here.
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

/// Makes the close that follows a reset.
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
    /// Bytes since the network changed.
    passed: u64,
    /// Closed for good: what comes is thrown away.
    deaf: bool,
}

/// A trickle's pieces: twenty a second.
const DRIP: Duration = Duration::from_millis(50);

impl Sink<'_> {
    /// What the network does without a byte to pass.
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

    /// Passes bytes on, as the network lets it.
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
                    self.rest(DRIP).await?;
                    (rate as usize / 20).max(1)
                }
                _ => bytes.len(),
            };
            let piece = &bytes[..most.min(bytes.len())];
            let written = tokio::select! {
                written = self.to.write(piece) => written,
                // The peer may not read: what the network does next is not to wait for that.
                changed = self.told.changed() => match changed {
                    Ok(()) => { self.passed = 0; continue }
                    Err(_) => return Err(End::Cut),
                },
            };
            let written = written.map_err(|_: io::Error| End::Reset)?;
            self.passed += written as u64;
            bytes = &bytes[written..];
            if network == Network::Slices {
                // Lets who reads on this thread see it before the next.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Passes the end on: through a black hole it comes later.
    async fn finish(&mut self) -> Result<(), End> {
        while *self.told.borrow() == Network::BlackHole {
            self.changed().await?;
        }
        self.obey().await?;
        self.to.shutdown().await.map_err(|_| End::Reset)
    }

    /// Waits until the network is told something else.
    async fn changed(&mut self) -> Result<(), End> {
        self.passed = 0;
        self.told.changed().await.map_err(|_| End::Cut)
    }

    /// Waits so long, or until the network is told something else; whether it was the time.
    async fn rest(&mut self, time: Duration) -> Result<bool, End> {
        tokio::select! {
            () = sleep(time) => Ok(true),
            changed = self.told.changed() => changed.map(|()| false).map_err(|_| End::Cut),
        }
    }
}
