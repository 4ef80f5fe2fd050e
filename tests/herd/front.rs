//! A TCP proxy before the hub. It records when each connection came, and which register calls failed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use testkit::wait::wait_within;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What the proxy recorded.
#[derive(Default)]
pub struct Seen {
    /// When each connection was accepted.
    pub connects: RefCell<Vec<Instant>>,
    /// When each register call began, and the time until its answer began; `None` unless the answer was a 201.
    pub registers: RefCell<Vec<(Instant, Option<Duration>)>>,
    /// When each control channel was opened, and whether it is a link.
    pub channels: RefCell<Vec<(Instant, bool)>>,
}

impl Seen {
    /// Waits until no connection has come for 1 s. Registrars that started within 20 s send the heartbeats of one interval
    /// within 20 s of 30 s.
    pub async fn wait_until_quiet(&self) {
        wait_within(Duration::from_mins(1), "no connection has come for 1 s", async || {
            let connects = self.connects.borrow();
            connects.last().is_none_or(|last| last.elapsed() > Duration::from_secs(1)).then_some(())
        })
        .await;
    }

    /// Median time from `since` to the opening of a control channel, by links or not.
    pub fn median(&self, since: Instant, links: bool) -> Duration {
        let channels = self.channels.borrow();
        let opened = channels.iter().filter(|(at, is_link)| *at >= since && *is_link == links);
        let mut times: Vec<_> = opened.map(|(at, _)| *at - since).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// Largest number of connections within any one second after `since`.
    pub fn peak(&self, since: Instant) -> usize {
        let connects: Vec<_> = self.connects.borrow().iter().copied().filter(|at| *at >= since).collect();
        let second = Duration::from_secs(1);
        (0..connects.len())
            .map(|first| connects[first..].iter().take_while(|at| **at < connects[first] + second).count())
            .max()
            .unwrap_or(0)
    }
}

/// Starts the proxy to the port `target`, and returns the proxy's port.
pub async fn open(target: u16, seen: Rc<Seen>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    actix_rt::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            seen.connects.borrow_mut().push(Instant::now());
            actix_rt::spawn(relay(client, target, Rc::clone(&seen)));
        }
    });
    port
}

async fn relay(mut client: TcpStream, target: u16, seen: Rc<Seen>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // When the register call began whose answer has not come yet.
    let register_began = Cell::new(None);
    {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let up = pass(from_client, to_server, |bytes| {
            if bytes.starts_with(b"POST /api/v1/llms/_provider-register") {
                register_began.set(Some(Instant::now()));
            }
        });
        let down = pass(from_server, to_client, |bytes| {
            if let Some(start) = register_began.take() {
                let taken = bytes.starts_with(b"HTTP/1.1 201").then(|| start.elapsed());
                seen.registers.borrow_mut().push((start, taken));
            }
            let is_link = bytes.starts_with(b"HTTP/1.1 101");
            if is_link || bytes.starts_with(b"HTTP/1.1 200") && contains(bytes, b"text/event-stream") {
                seen.channels.borrow_mut().push((Instant::now(), is_link));
            }
        });
        // What the hub has sent reaches the client, also if the hub takes no more.
        let up = async {
            up.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = up => (),
            () = down => (),
        }
    }
    if let Some(start) = register_began.take() {
        seen.registers.borrow_mut().push((start, None));
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

/// Copies bytes until either side closes, and shows each piece to `look`.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, look: impl Fn(&[u8])) {
    // A small buffer, because there are thousands of connections.
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        look(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
