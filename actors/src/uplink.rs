//! The trait by which the outbox and the providers send results to the hub.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::TaskId;

/// Posts results for the life of a registrar.
pub(crate) trait Uplink {
    /// `POST /_provider-task/{id}/result` with `body`, 30 s.
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted>;

    /// `POST /_provider-task/{id}/stream` (feature `result-stream`) with a body of SSE frames; no time limit. Dropping the
    /// sender ends the body; an `Err` cuts it, so that the hub sees it broken.
    fn upload(
        &self,
        task: &TaskId,
        body: mpsc::Receiver<Result<Bytes, Cut>>,
    ) -> LocalBoxFuture<'static, Posted>;
}

/// Cuts an upload: the hub must see a broken body, not a short one.
#[derive(Debug, thiserror::Error)]
#[error("upload cut")]
pub(crate) struct Cut;

/// The result of a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// 2xx.
    Taken,
    /// 404, 409, 410: the caller has left, or the task has ended.
    Gone,
    /// Another 3xx or 4xx: the hub will never take it.
    Refused { status: u16 },
    /// May succeed later.
    Failed {
        /// `Retry-After` of the hub's answer.
        retry_after: Option<Duration>,
        /// Whether the hub certainly took nothing: there was no connection, or it answered 429 or 5xx.
        nothing_taken: bool,
    },
}
