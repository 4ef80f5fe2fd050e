//! An HTTP/1.1 connection that the code which uses it polls, instead of a background task.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::ext::on_informational;
use hyper::rt::{Read, Write};
use hyper::{Request, Response};

use super::early::{EarlyAnswer, PeekSocket, UnreadBytes, Watch};

/// The traits that a connection needs of its socket: hyper's `Read` and `Write`, and a peek at unread bytes.
pub(super) trait Socket: Read + Write + PeekSocket + Send + Unpin {}

impl<T: Read + Write + PeekSocket + Send + Unpin> Socket for T {}

impl PeekSocket for Box<dyn Socket> {
    fn unread(&self) -> UnreadBytes {
        (**self).unread()
    }
}

/// One connection of HTTP/1.1.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Hyper's side of the connection; `None` once it has ended.
    driver: Option<Driver>,
    watch: Watch<Box<dyn Socket>>,
    /// Whether unsolicited bytes came.
    spoke_unasked: bool,
    writing: Writing,
}

/// How a connection writes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// From one buffer for head and body, which lives as long as the connection: for small bodies it takes a fifth less CPU.
    Joined,
    /// From the body itself, which is dropped when it is written: an answer can take an hour.
    Apart,
}

impl Writing {
    /// Returns how to write a body of `size` bytes.
    pub(super) fn of(size: usize) -> Self {
        if size > MAX_JOINED { Self::Apart } else { Self::Joined }
    }
}

/// Maximum size of a body, in bytes, that is copied behind its head.
const MAX_JOINED: usize = 16 << 10;

/// Most bytes of one read, and of a head. They are decoded without yielding. Servers neither accept nor send heads above 16 to
/// 64 KiB.
const MAX_BUFFERED: usize = 64 << 10;

type Driver = Pin<Box<http1::Connection<EarlyAnswer<Box<dyn Socket>>, Full<Bytes>>>>;

impl Connection {
    /// Starts HTTP on an open socket.
    pub(super) async fn start(socket: Box<dyn Socket>, writing: Writing) -> Result<Self, hyper::Error> {
        let (socket, watch) = EarlyAnswer::new(socket);
        let mut http = http1::Builder::new();
        http.writev(writing == Writing::Apart).max_buf_size(MAX_BUFFERED);
        let (sender, driver) = http.handshake(socket).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), watch, spoke_unasked: false, writing })
    }

    /// Whether the connection can write a body that is to be written so. A small body can be written either way.
    pub(super) fn writes(&self, body: Writing) -> bool {
        self.writing == Writing::Apart || body == Writing::Joined
    }

    /// Reads and writes as much as possible without waiting, then registers `cx` for more.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            // hyper also reports its error to the request or body under way, except an error about unsolicited bytes.
            self.spoke_unasked |= ended.is_err_and(|error| is_unasked(&error));
            self.driver = None;
        }
    }

    /// Reads and writes as much as possible without waiting, and registers no waker.
    pub(super) fn drive_now(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the last answer was read to its end, so that the connection can be used again.
    pub(super) fn is_done(&mut self) -> bool {
        self.drive_now();
        self.driver.is_some() && self.sender.is_ready() && !self.watch.is_refused()
    }

    /// Whether a request may be sent now: the connection is open, and no bytes came after the last answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.watch.unread() == UnreadBytes::Nothing && self.is_done()
    }

    /// Whether the server has sent unsolicited bytes, now or before. Closing the connection does not count. Call this only when no
    /// request is under way.
    pub(super) fn has_spoken_unasked(&mut self) -> bool {
        self.drive_now();
        // tokio may not know yet of bytes that have just arrived, so the kernel is asked.
        self.spoke_unasked |= self.watch.unread() == UnreadBytes::Words;
        self.spoke_unasked
    }

    /// Whether the connection has ended.
    pub(super) fn is_over(&self) -> bool {
        self.driver.is_none()
    }

    /// Sends `request` and waits for the head of its final answer. The error has the request if no byte of it was sent.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        let interim = self.watch.interim();
        on_informational(&mut request, move |_| interim.count());
        let mut answer = pin!(self.sender.try_send_request(request));
        let (driver, spoke_unasked) = (&mut self.driver, &mut self.spoke_unasked);
        poll_fn(move |cx| {
            loop {
                if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                // A driver that has ended has delivered the answer, which the next poll returns.
                let Some(running) = driver else { return Poll::Pending };
                if let Poll::Ready(ended) = running.as_mut().poll(cx) {
                    *spoke_unasked |= ended.is_err_and(|error| is_unasked(&error));
                    *driver = None;
                } else {
                    return answer.as_mut().poll(cx);
                }
            }
        })
        .await
    }
}

/// Whether hyper ended a connection because of bytes that came while no request was under way. hyper has no predicate for this
/// error; it is the only one without a source that matches no other predicate.
fn is_unasked(error: &hyper::Error) -> bool {
    let is_other = error.is_parse()
        || error.is_user()
        || error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || error.is_timeout();
    !is_other && error.source().is_none()
}
