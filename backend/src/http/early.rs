//! A socket wrapper for servers that answer before they have read the request, or send unsolicited bytes.

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

/// Reports a refused write as successful, so that hyper still reads the answer that the server has sent.
///
/// A server that refuses an upload answers and closes its side. At the first failed write, hyper would give up and leave the
/// answer unread in the socket.
pub(super) struct EarlyAnswer<T>(Rc<Shared<T>>);

/// State shared by hyper's side of a connection and its owner.
struct Shared<T> {
    socket: RefCell<T>,
    /// Whether a write was refused.
    refused: Cell<bool>,
    interim: Interim,
}

/// Counts interim answers (1xx) to the request under way. hyper reads them in a loop without yielding, so they are limited.
#[derive(Clone, Default)]
pub(super) struct Interim(Arc<AtomicU32>);

/// Most interim answers to one request. Servers send one, or one a second while they work.
const MAX_INTERIM: u32 = 1024;

impl Interim {
    /// Counts one interim answer.
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The owner's view of a socket that hyper reads and writes.
pub(super) struct Watch<T>(Rc<Shared<T>>);

impl<T: PeekSocket> Watch<T> {
    /// Whether unread bytes wait in the socket, and of which kind.
    pub(super) fn unread(&self) -> UnreadBytes {
        self.0.socket.borrow().unread()
    }

    /// Starts a count of interim answers for a new request.
    pub(super) fn interim(&self) -> Interim {
        let Interim(count) = &self.0.interim;
        count.store(0, Ordering::Relaxed);
        self.0.interim.clone()
    }

    /// Whether the server has refused a write.
    pub(super) fn is_refused(&self) -> bool {
        self.0.refused.get()
    }
}

/// A socket that can report unread bytes.
pub(super) trait PeekSocket {
    /// Reports unread bytes. It asks the kernel, because tokio notices them only when its reactor runs, which may be many requests
    /// later.
    fn unread(&self) -> UnreadBytes;
}

/// The unread bytes in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnreadBytes {
    Nothing,
    /// Application data.
    Words,
    /// The end of the connection, or TLS records without application data, such as session tickets.
    Other,
}

/// Reports unread bytes of a socket as application data.
pub(super) fn peek(socket: &TcpStream) -> UnreadBytes {
    match SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
        Ok(1..) => UnreadBytes::Words,
        Err(error) if error.kind() == ErrorKind::WouldBlock => UnreadBytes::Nothing,
        Ok(0) | Err(_) => UnreadBytes::Other,
    }
}

impl PeekSocket for TokioIo<TcpStream> {
    fn unread(&self) -> UnreadBytes {
        peek(self.inner())
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
