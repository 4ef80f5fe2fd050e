//! The trait by which the outbox sends results to the hub. The hub client implements it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

/// Sends results to the hub.
pub(crate) trait Uplink {
    /// `POST /_provider-task/{id}/result` with `body`. Limit: 30 s.
    fn post_result<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Posted>;

    /// `POST /_provider-task/{id}/stream` (feature `result-stream`) with a body of SSE frames. No time limit. Dropping the
    /// sender ends the body. Dropping the future cuts it: the hub sees a broken body.
    fn upload<'a>(&'a self, task: &'a TaskId, body: mpsc::Receiver<Bytes>) -> LocalBoxFuture<'a, Posted>;
}

/// The result of a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// 2xx.
    Taken,
    /// 404, 409, 410: the caller has left, or the task has ended.
    Gone,
    /// Another 3xx or 4xx: a later try cannot succeed.
    Refused { status: u16 },
    /// The POST failed; a later try may succeed.
    Failed {
        /// `Retry-After` of the hub's answer.
        retry_after: Option<Duration>,
        /// Whether the hub certainly did not accept the POST: there was no connection, or it answered 429 or 5xx.
        nothing_taken: bool,
    },
}
