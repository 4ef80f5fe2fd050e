//! Clients of model servers: the HTTP client, the OpenAI-compatible and Anthropic dialects, and the translation between them.
//!
//! Used by the registrar's providers and HTTP recipes, the hub's public rows, and the commands `check`, `up` and `add`. Nothing here
//! depends on hub or registrar.

mod abilities;
mod anthropic;
mod attribution;
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
mod secret;
mod stream_events;
pub mod translate;
mod translated_stream;

pub use abilities::{AbilityAnswer, abilities, anthropic_abilities};
pub use anthropic::AnthropicBackend;
pub use budget::{AnswerBudget, ByteBudget};
pub use config::{Availability, HttpBackend, MockConfig, ServerKind};
pub use fair_semaphore::{FairPermit, FairSemaphore};
pub use health::BackendHealth;
pub use mock::MockBackend;
pub use models::{ListError, models};
pub use openai::OpenAiBackend;
pub use secret::Secret;
pub use stream_events::{offload_stream_events, stream_events};

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;
use wire::openai::error_message;
use wire::task::Endpoint;

/// Runs inferences. Library users can implement it: see `examples/custom_backend.rs`.
///
/// A backend is created again after a crash. Dropping a returned future or stream must cancel the inference.
pub trait Backend {
    /// Runs `request`, whose body is a JSON object with `model` and `stream` set.
    fn infer(&self, request: BackendRequest) -> LocalBoxFuture<'static, Result<Reply, BackendError>>;

    /// Whether the backend can run inferences now. Called before the first task and during a wake.
    fn available(&self) -> LocalBoxFuture<'static, bool>;

    /// Runs a health check. The default reports a backend that is not available as [`BackendHealth::Away`].
    fn health(&self) -> LocalBoxFuture<'static, BackendHealth> {
        let available = self.available();
        async move { if available.await { BackendHealth::Up } else { BackendHealth::Away("it does not answer") } }.boxed_local()
    }
}

/// A request to a backend.
#[derive(Debug, Clone)]
pub struct BackendRequest {
    /// The API endpoint.
    pub endpoint: Endpoint,
    /// Whether the answer is to be streamed.
    pub streaming: bool,
    /// The JSON body.
    pub body: Bytes,
    /// The calling user, for fair scheduling of work on large bodies; empty if unknown.
    pub user: String,
    /// Headers of the caller that the endpoint's API defines (`anthropic-beta`), by lower-case name.
    pub headers: Vec<(String, String)>,
    /// The budget for the memory of the answer while it is read. A whole answer stays counted after it is returned.
    pub budget: AnswerBudget,
}

/// The events of a streamed answer.
pub type ReplyStream = LocalBoxStream<'static, Result<String, BackendError>>;

/// The answer of a backend.
pub enum Reply {
    /// One JSON body, complete, with its HTTP status.
    Whole {
        /// HTTP status.
        status: u16,
        /// JSON text.
        body: String,
    },
    /// The data of each event, a JSON text, without the end mark. An `Err` is the last item. The backend checks the end mark, so a
    /// stream that ends without an `Err` is complete.
    Stream(ReplyStream),
}

/// Why there is no answer. The text is sent to the caller, without URL, key, host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// The backend cannot be reached. A wake recipe may start it.
    #[error("backend not available")]
    Unavailable,
    /// The backend's name had no answer in time. A wake recipe may start what knows it.
    #[error("{}", http::SendError::Unresolved)]
    Unresolved,
    /// The backend refused the publisher's key.
    #[error("the backend refused the publisher's key")]
    KeyRefused,
    /// The backend refused the request with a status and a reason.
    #[error("backend answered {}: {}", .0.status, error_message(&.0.body).unwrap_or_default())]
    Refused(Box<Refusal>),
    /// The answer broke off, timed out or was malformed.
    #[error("{0}")]
    Failed(String),
    /// The answer exceeds the [`ByteBudget`].
    #[error("there is no room for the backend's answer")]
    BudgetExceeded,
}

impl BackendError {
    /// Replaces the body of a refusal with the result of `translate`, which gets its status and body.
    pub(crate) fn map_body(self, translate: impl FnOnce(u16, &str) -> String) -> Self {
        match self {
            Self::Refused(refusal) => {
                let body = translate(refusal.status, &refusal.body);
                Self::Refused(Box::new(Refusal { body, ..*refusal }))
            }
            other => other,
        }
    }
}

/// The answer of a backend that refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// A JSON object, without key, host and port.
    pub body: String,
    /// The requested wait.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Returns the wait in whole seconds, rounded up.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        let wait = self.retry_after?;
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Some(u32::try_from(seconds).unwrap_or(u32::MAX))
    }
}

/// Encodes `bytes` in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}
