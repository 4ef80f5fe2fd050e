//! One HTTP/1.1 connection to the hub.

use std::io::{self, ErrorKind};

use actix_web::error::ParseError;
use actors::http::Stream;
use awc::error::SendRequestError;
use backend::http::Transport;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{JoinHandle, spawn_local},
};

use super::RequestBody;

/// Size of a read, and of the longest head, in bytes.
const MAX_BUFFERED: usize = 64 << 10;

/// An open connection. Dropping it closes the socket.
pub(super) struct Connection {
    sender: http1::SendRequest<RequestBody>,
    task: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Starts HTTP on a connected stream.
    pub(super) async fn open(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> hyper::Result<Self> {
        let io = TokioIo::new(stream);
        let (sender, driver) = http1::Builder::new().max_buf_size(MAX_BUFFERED).handshake(io).await?;
        // Its error is that of the request, too.
        let task = spawn_local(async move { drop(driver.await) });
        Ok(Self { sender, task })
    }

    /// Waits until a request can be sent. `false` if the connection has ended.
    pub(super) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request. An error returns the request if nothing of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (hyper::Error, Option<Request<RequestBody>>)> {
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message();
            (error.into_error(), unsent)
        })
    }
}

/// The error of awc that has the same cause.
pub(super) fn reason(error: &hyper::Error) -> SendRequestError {
    if error.is_parse() {
        return SendRequestError::Response(ParseError::Header);
    }
    let ended = io::Error::new(ErrorKind::UnexpectedEof, "the connection ended before the answer");
    SendRequestError::Send(ended)
}

/// Has the system end a connection whose peer has vanished without a word, as behind a laptop that has slept.
#[cfg(target_os = "linux")]
pub(super) fn detect_dead_peer(stream: &Stream) {
    use nix::sys::socket::{
        setsockopt,
        sockopt::{KeepAlive, TcpKeepCount, TcpKeepIdle, TcpKeepInterval},
    };

    let socket = Transport::socket(stream);
    // Best effort: without the options a caller waits until it gives up. In seconds, then a number of probes.
    let _ = setsockopt(socket, KeepAlive, &true);
    let _ = setsockopt(socket, TcpKeepIdle, &20);
    let _ = setsockopt(socket, TcpKeepInterval, &10);
    let _ = setsockopt(socket, TcpKeepCount, &3);
}

/// The options have other names elsewhere.
#[cfg(not(target_os = "linux"))]
pub(super) fn detect_dead_peer(stream: &Stream) {
    use nix::sys::socket::{setsockopt, sockopt::KeepAlive};

    let _ = setsockopt(Transport::socket(stream), KeepAlive, &true);
}
