//! An HTTP/1.1 connection that is driven by its user.

use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper::ext::on_informational;
use hyper::rt::{Read, Write};
use hyper::{Request, Response};

use super::early::{EarlyAnswer, PeekSocket, UnreadBytes, Watch};

/// What a connection needs of a socket: hyper's `Read` and `Write`, and our look at unread bytes.
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
    /// Whether something came that answers nothing.
    spoke_unasked: bool,
    /// Whether its write buffer holds as much as a large request: such a buffer is not kept for the next request.
    is_large: bool,
}

/// Bytes of a request whose buffer is not kept: prompts are smaller, images are not.
const LARGE: u64 = 1 << 20;

/// Bytes that are read at once, and of a head. All of them are decoded before anybody else has a turn; servers take no head of
/// more than 16 to 64 KiB, and send none.
const MAX_BUFFERED: usize = 64 << 10;

type Driver = Pin<Box<http1::Connection<EarlyAnswer<Box<dyn Socket>>, Full<Bytes>>>>;

impl Connection {
    /// Starts HTTP on an open socket.
    pub(super) async fn start(socket: Box<dyn Socket>) -> Result<Self, hyper::Error> {
        let (socket, watch) = EarlyAnswer::new(socket);
        // Head and body in one buffer: a fifth less CPU for a small call, through all of its parts.
        let mut http = http1::Builder::new();
        http.writev(false).max_buf_size(MAX_BUFFERED);
        let (sender, driver) = http.handshake(socket).await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), watch, spoke_unasked: false, is_large: false })
    }

    /// Moves bytes as far as they go without waiting, then registers `cx` for more.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = driver.as_mut().poll(cx)
        {
            // Its error reaches the request or the body that is under way; one of what came unasked reaches nobody else.
            self.spoke_unasked |= ended.is_err_and(|error| is_unasked(&error));
            self.driver = None;
        }
    }

    /// Moves bytes as far as they go without waiting, and registers no waker.
    pub(super) fn drive_now(&mut self) {
        self.drive(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the last answer was read to its end, and the connection can be kept for another request.
    pub(super) fn is_done(&mut self) -> bool {
        self.drive_now();
        self.driver.is_some() && self.sender.is_ready() && !self.is_large && !self.watch.is_refused()
    }

    /// Whether a request may be sent now: nothing came behind the last answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.watch.unread() == UnreadBytes::Nothing && self.is_done()
    }

    /// Whether the server has said something that nobody asked for, now or before. That it closes is no such thing. No
    /// request is under way.
    pub(super) fn has_spoken_unasked(&mut self) -> bool {
        self.drive_now();
        // What came a moment ago tokio does not know of yet.
        self.spoke_unasked |= self.watch.unread() == UnreadBytes::Words;
        self.spoke_unasked
    }

    /// Whether nothing more can come.
    pub(super) fn is_over(&self) -> bool {
        self.driver.is_none()
    }

    /// Sends `request` and waits for the head of its final answer. The request comes back if none of it was sent.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>> {
        self.is_large |= request.body().size_hint().lower() > LARGE;
        let interim = self.watch.interim();
        on_informational(&mut request, move |_| interim.count());
        let mut answer = pin!(self.sender.try_send_request(request));
        let (driver, spoke_unasked) = (&mut self.driver, &mut self.spoke_unasked);
        poll_fn(move |cx| {
            loop {
                if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                    return Poll::Ready(answer);
                }
                // An ended driver has answered: the next round sees it.
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

/// Whether hyper ended a connection since bytes came while no request was under way: it has no name for that, and it is the
/// one error without a cause that is none of the others.
fn is_unasked(error: &hyper::Error) -> bool {
    let is_other = error.is_parse()
        || error.is_user()
        || error.is_canceled()
        || error.is_closed()
        || error.is_incomplete_message()
        || error.is_timeout();
    !is_other && error.source().is_none()
}
