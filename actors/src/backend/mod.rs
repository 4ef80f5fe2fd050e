//! What runs a model.

mod anthropic;
mod availability;
mod make;
mod mock;
mod openai;
mod redact;
#[cfg(test)]
mod scripted;

pub use anthropic::AnthropicBackend;
pub use make::make;
pub use mock::MockBackend;
pub use openai::OpenAiBackend;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use wire::task::Endpoint;

/// Something that answers requests. A library user can write one: see `examples/custom_backend.rs`.
///
/// A backend is made anew after a crash. Dropping the future or the stream that it returned must stop the work.
pub trait Backend {
    /// Answers `request`, a JSON object whose `model` and `stream` are already set.
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>>;

    /// Whether it could answer now; asked before the first task, for heartbeats, and while it wakes.
    fn available(&self) -> LocalBoxFuture<'static, bool>;
}

/// One request.
#[derive(Debug, Clone)]
pub struct BackendRequest {
    /// Which of the API's paths.
    pub endpoint: Endpoint,
    /// Whether chunks are wanted.
    pub streaming: bool,
    /// The JSON body.
    pub body: Bytes,
}

/// An answer.
pub enum Reply {
    /// One JSON body, complete, with its HTTP status.
    Whole {
        /// HTTP status.
        status: u16,
        /// JSON text.
        body: String,
    },
    /// The data of each event as it comes, JSON text, without the end mark; an `Err` is the last item. The backend
    /// checks that the end mark came: a stream that ends without an `Err` was complete.
    Stream(LocalBoxStream<'static, Result<String, BackendError>>),
}

/// Why there is no answer. The text goes to the caller: no URL, key, host or port in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It cannot be reached: a recipe may help.
    #[error("backend not available")]
    Unavailable,
    /// It refused the publisher's key.
    #[error("the backend refused the publisher's key")]
    KeyRefused,
    /// It broke off, was silent too long, or answered what cannot be understood.
    #[error("{0}")]
    Failed(String),
}
