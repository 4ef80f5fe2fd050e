//! The HTTP server: accepts connections, and ends them.

use std::{convert::Infallible, pin::pin, rc::Rc, time::Duration};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet, spawn_local},
    time::{sleep, timeout},
};

use super::{handler::Handler, listener::Listeners};

/// Most open connections. Further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 512;
/// Most connections of other users of this machine, which are told so. Further ones are closed at once.
const MAX_STRANGERS: usize = 16;
/// Time that such a connection has.
pub(super) const STRANGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Time that a connection may be idle, and in which the head of a request has to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Size of a read, and of the longest head, in bytes.
const MAX_BUFFERED: usize = 64 << 10;
/// Time that running answers have when the command ends.
const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept: no descriptor was free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running server.
pub(super) struct Server {
    stopping: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) fn start(listeners: Listeners, handler: Handler) -> Self {
        let (stopping, stopped) = watch::channel(false);
        Self { stopping, task: spawn_local(accept(listeners, Rc::new(handler), stopped)) }
    }

    /// Stops accepting, and waits a moment for running answers.
    pub(super) async fn stop(self) {
        self.stopping.send_replace(true);
        let _ = timeout(GRACE, self.task).await;
    }
}

/// Serves connections until `stopped`, then until all have ended.
async fn accept(listeners: Listeners, handler: Rc<Handler>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let strangers = Rc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        tokio::select! {
            accepted = listeners.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok(stream) => {
                    let (handler, strangers) = (Rc::clone(&handler), Rc::clone(&strangers));
                    connections.spawn_local(serve(stream, handler, strangers, stopped.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listeners);
    while connections.join_next().await.is_some() {}
}

/// Serves one connection. When the caller leaves, the running request is dropped.
async fn serve(
    stream: TcpStream,
    handler: Rc<Handler>,
    strangers: Rc<Semaphore>,
    mut stopped: watch::Receiver<bool>,
) {
    // Nagle's algorithm would delay small writes by up to 40 ms.
    let _ = stream.set_nodelay(true);
    let is_admitted = handler.admits(&stream).await;
    let stranger = if is_admitted { None } else { Some(strangers.try_acquire()) };
    if matches!(stranger, Some(Err(_))) {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Rc::clone(&handler);
        async move { Ok::<_, Infallible>(handler.answer(request, is_admitted).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .keep_alive(is_admitted)
            .max_buf_size(MAX_BUFFERED)
            .serve_connection(TokioIo::new(stream), service)
    );
    // An error is that of the connection, which has ended.
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(STRANGER_TIMEOUT), if !is_admitted => return,
        _ = stopped.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
