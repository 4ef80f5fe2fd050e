//! What runs a model, over HTTP: one client, the dialects of backends, and the translation between them.
//!
//! The registrar's providers and http recipes, the hub's public rows, and the binary's `check`, `up` and `add` all call
//! backends through this crate. It knows neither a hub nor an actor.

mod anthropic;
mod budget;
mod chat_fallback;
mod config;
mod fair_semaphore;
mod health;
pub mod http;
mod mock;
mod models;
mod offload;
mod openai;
mod redact;
#[cfg(test)]
mod scripted;
mod secret;
mod stream_events;
pub mod translate;

pub use anthropic::AnthropicBackend;
pub use budget::{AnswerBudget, ByteBudget};
pub use config::{Availability, HttpBackend, MockConfig};
pub use fair_semaphore::{FairPermit, FairSemaphore};
pub use health::BackendHealth;
pub use mock::MockBackend;
pub use models::{ListError, models};
pub use openai::OpenAiBackend;
pub use secret::Secret;
pub use stream_events::{offload_stream_events, stream_events};

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use wire::openai::error_message;
use wire::task::Endpoint;

/// Something that answers requests. A library user can write one: see `examples/custom_backend.rs`.
///
/// A backend is made anew after a crash. Dropping the future or the stream that it returned must stop the work.
pub trait Backend {
    /// Answers `request`, a JSON object whose `model` and `stream` are already set.
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>>;

    /// Whether it could answer now; asked before the first task and while it wakes.
    fn available(&self) -> LocalBoxFuture<'static, bool>;

    /// What a health check finds. Unless written otherwise, a backend that is not available is away.
    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let available = self.available();
        async move { if available.await { BackendHealth::Up } else { BackendHealth::Away("it does not answer") } }.boxed_local()
    }
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
    /// Who asks, as far as that is known: users who have large bodies translated take turns. Nobody in particular where it
    /// is empty.
    pub user: String,
    /// Headers of the caller that the endpoint's API knows (`anthropic-beta`), by lower-case name.
    pub headers: Vec<(String, String)>,
    /// Where what is held of its answer is counted while it is read. What is whole stays counted when it is handed over.
    pub budget: AnswerBudget,
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
    /// It refused the request, with a status and a reason of its own.
    #[error("backend answered {}: {}", .0.status, error_message(&.0.body).unwrap_or_default())]
    Refused(Box<Refusal>),
    /// It broke off, was silent too long, or answered what cannot be understood.
    #[error("{0}")]
    Failed(String),
    /// Whoever asks has no room for the answer (see [`ByteBudget`]).
    #[error("there is no room for the backend's answer")]
    BudgetExceeded,
}

/// What a backend says to a request that it does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// JSON object, without key, host and port.
    pub body: String,
    /// The wait that it asked for.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// The wait in whole seconds, rounded up.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let wait = self.retry_after?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}
