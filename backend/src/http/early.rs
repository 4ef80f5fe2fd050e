//! Socket whose peer may stop reading before it has answered, or speak when it was not asked.

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Reports a write that the peer refused as done, so that the answer it sent instead can still be read.
///
/// A server that refuses an upload answers and closes its side. hyper gives up at the first failed write, with the
/// answer unread in the socket.
pub(super) struct EarlyAnswer<T>(Rc<Shared<T>>);

/// What hyper's side of a connection and its owner both look at.
struct Shared<T> {
    socket: RefCell<T>,
    /// Set once a write was refused.
    refused: Cell<bool>,
    interim: Interim,
}

/// Interim answers (1xx) to the request under way. Hyper reads on for as long as it finds one, before anybody else has a turn.
#[derive(Clone, Default)]
pub(super) struct Interim(Arc<AtomicU32>);

/// Interim answers to one request: servers send one, or one a second while they work.
const MAX_INTERIM: u32 = 1024;

impl Interim {
    /// One more.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Its owner's view of a socket that hyper reads and writes.
pub(super) struct Watch<T>(Rc<Shared<T>>);

impl<T: PeekSocket> Watch<T> {
    /// What the peer has said that was not read.
    pub(super) fn unread(&self) -> UnreadBytes {
        self.0.socket.borrow().unread()
    }

    /// The count of the interim answers to a request that is sent now.
    pub(super) fn interim(&self) -> Interim {
        let Interim(count) = &self.0.interim;
        count.store(0, Ordering::Relaxed);
        self.0.interim.clone()
    }

    /// Whether the peer has refused a write.
    pub(super) fn is_refused(&self) -> bool {
        self.0.refused.get()
    }
}

/// Socket that can be asked what it holds.
pub(super) trait PeekSocket {
    /// What waits unread. Asks the kernel: tokio learns of it only when its reactor turns, which can be many requests later.
    fn unread(&self) -> UnreadBytes;
}

/// What waits unread in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadBytes {
    Nothing,
    /// Bytes of the peer's own.
    Words,
    /// The peer's close, or what is TLS's own: a ticket for the next session comes without a question.
    Other,
}

impl PeekSocket for TokioIo<TcpStream> {
    fn unread(&self) -> UnreadBytes {
        match SockRef::from(self.inner()).peek(&mut [MaybeUninit::uninit()]) {
            Ok(1..) => UnreadBytes::Words,
            Err(error) if error.kind() == ErrorKind::WouldBlock => UnreadBytes::Nothing,
            Ok(0) | Err(_) => UnreadBytes::Other,
        }
    }
}

impl PeekSocket for MaybeHttpsStream<TokioIo<TcpStream>> {
    fn unread(&self) -> UnreadBytes {
        match self {
            Self::Http(socket) => socket.unread(),
            Self::Https(socket) => match socket.inner().get_ref().0.inner().unread() {
                UnreadBytes::Words => UnreadBytes::Other,
                other => other,
            },
        }
    }
}

impl<T> EarlyAnswer<T> {
    /// Wraps `socket`.
    pub(super) fn new(socket: T) -> (Self, Watch<T>) {
        let shared = Rc::new(Shared {
            socket: RefCell::new(socket),
            refused: Cell::new(false),
            interim: Interim::default(),
        });
        (Self(Rc::clone(&shared)), Watch(shared))
    }

    fn written<V>(&self, wrote: io::Result<V>, instead: V) -> io::Result<V> {
        match wrote {
            Err(error) if is_refusal(&error) => {
                self.0.refused.set(true);
                Ok(instead)
            }
            wrote => wrote,
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted)
}

impl<T: Read + Unpin> Read for EarlyAnswer<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if self.0.interim.0.load(Ordering::Relaxed) > MAX_INTERIM {
            return Poll::Ready(Err(ErrorKind::InvalidData.into()));
        }
        Pin::new(&mut *self.0.socket.borrow_mut()).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> Write for EarlyAnswer<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.refused.get() {
            return Poll::Ready(Ok(buf.len()));
        }
        let wrote = Pin::new(&mut *self.0.socket.borrow_mut()).poll_write(cx, buf);
        wrote.map(|wrote| self.written(wrote, buf.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.0.refused.get() {
            return Poll::Ready(Ok(all));
        }
        let wrote = Pin::new(&mut *self.0.socket.borrow_mut()).poll_write_vectored(cx, bufs);
        wrote.map(|wrote| self.written(wrote, all))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.socket.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.0.socket.borrow_mut()).poll_flush(cx);
        flushed.map(|flushed| self.written(flushed, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut *self.0.socket.borrow_mut()).poll_shutdown(cx);
        shut.map(|shut| self.written(shut, ()))
    }
}
