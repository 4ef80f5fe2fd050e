//! The trait by which the outbox sends results to the hub. The hub client implements it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

/// Sends results to the hub.
pub(crate) trait Uplink {
    /// Sends the result `body` over the link, or by `POST /_provider-task/{id}/result` if there is none. Limit of the POST:
    /// 30 s.
    fn send_result<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Outcome>;

    /// Posts a chunk of a streamed answer. It is a POST also after a link was opened: there, a task has one body.
    fn post_chunk<'a>(&'a self, task: &'a TaskId, body: Bytes) -> LocalBoxFuture<'a, Outcome> {
        self.send_result(task, body)
    }

    /// Sends a streamed answer, a body of SSE frames, over the link; `None` if there is none. No time limit. Dropping the
    /// sender ends the body. Dropping the future cuts it: the hub sees a body without an end mark.
    fn send_stream<'a>(
        &'a self,
        _task: &'a TaskId,
        _body: mpsc::Receiver<Bytes>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        None
    }
}

/// What the hub did with a result, sent on the link or posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// 2xx.
    Taken,
    /// 404, 409, 410: the caller has left, or the task has ended.
    Gone,
    /// Another 3xx or 4xx: a later try cannot succeed.
    Refused { status: u16 },
    /// It failed; a later try may succeed.
    Failed {
        /// `Retry-After` of the hub's answer.
        retry_after: Option<Duration>,
        /// Whether the hub certainly did not accept the result: there was no connection, or it answered 429 or 5xx.
        nothing_taken: bool,
    },
}
