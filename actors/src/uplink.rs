//! The way results take to the hub: what the outbox needs of the hub client, and no more, so that a test can stand in.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use tokio::sync::mpsc;
use wire::{Features, TaskId};

/// Posts results. One for the life of a registrar.
pub trait Uplink {
    /// `POST /_provider-task/{id}/result` with `body`, 30 s.
    fn post_result(&self, task: &TaskId, body: Bytes) -> LocalBoxFuture<'static, Posted>;

    /// `POST /_provider-task/{id}/stream` (feature `result-stream`) with a body of SSE frames; no deadline. The body ends
    /// when the sender is dropped; it is cut, not ended, when an `Err` is sent.
    fn upload(
        &self,
        task: &TaskId,
        body: mpsc::Receiver<Result<Bytes, Cut>>,
    ) -> LocalBoxFuture<'static, Posted>;
}

/// The upload stops in the middle: the hub must see a broken body, not a short one.
#[derive(Debug, thiserror::Error)]
#[error("upload cut")]
pub struct Cut;

/// What became of a POST.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// 2xx.
    Taken,
    /// 404, 409, 410: the caller has gone, or the task has ended.
    Gone,
    /// Another 3xx or 4xx: the hub will never take it.
    Refused {
        /// HTTP status.
        status: u16,
    },
    /// Worth another try.
    Failed {
        /// What the hub asked for, from `Retry-After`.
        retry_after: Option<Duration>,
        /// Whether it is certain that the hub took nothing: no connection, or answered 429 or 5xx.
        nothing_taken: bool,
    },
}

/// What was agreed with the hub on the channel that a task came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Agreed {
    /// The features that are on.
    pub features: Features,
}
