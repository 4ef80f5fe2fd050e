//! Bodies of relayed requests and answers. Both are streams without a buffer: a slow reader slows the sender down.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{task::spawn_local, time::timeout};

use super::{Connection, Idle, MAX_IDLE};

/// Longest time for which the rest of a refused request is read. A caller that writes its request before it reads would
/// otherwise find its connection reset, and not the answer.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Body of a caller's request. The rest of a body that the hub did not want is read and discarded.
pub(crate) struct RequestBody(Option<Incoming>);

impl RequestBody {
    pub(crate) fn new(body: Incoming) -> Self {
        Self(Some(body))
    }

    /// Whether the request has a body.
    pub(super) fn is_expected(&self) -> bool {
        self.0.as_ref().is_some_and(|body| !body.is_end_stream())
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.0 else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        !self.is_expected()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut rest) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        spawn_local(async move {
            let drain = async { while let Some(Ok(_)) = rest.frame().await {} };
            // A caller that takes longer finds its connection closed.
            let _ = timeout(DRAIN_TIME, drain).await;
        });
    }
}

/// Body of the hub's answer. Dropping it before its end closes the connection, which cancels the request.
pub(crate) struct HubBody {
    body: Incoming,
    connection: Option<Connection>,
    /// The pool to which the connection returns, if it may be used again.
    pool: Option<Rc<Idle>>,
}

impl HubBody {
    pub(super) fn new(body: Incoming, connection: Connection, pool: Option<Rc<Idle>>) -> Self {
        Self { body, connection: Some(connection), pool }
    }

    fn give_back(&mut self) {
        let (Some(connection), Some(pool)) = (self.connection.take(), &self.pool) else { return };
        let mut idle = pool.borrow_mut();
        idle.push((SystemTime::now(), connection));
        if idle.len() > MAX_IDLE {
            // The oldest.
            idle.remove(0);
        }
    }
}

impl Body for HubBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Err(_))) => self.connection = None,
            _ => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for HubBody {
    fn drop(&mut self) {
        // The end of a body with a length is not polled for.
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
