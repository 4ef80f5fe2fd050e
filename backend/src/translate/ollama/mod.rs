//! Translates Ollama's API: requests to chat completions, completions and embeddings, and the answers back.
//!
//! Source of the shapes: `docs/api.md` and `api/types.go` of Ollama. [`translate`] reads a request, [`OllamaAnswer`] writes the
//! answer, whole or as the lines of an [`OllamaStream`].

mod answer;
mod embeddings;
mod images;
mod messages;
mod open_calls;
mod options;
mod request;
mod stream;

use std::time::Duration;

use wire::task::Endpoint;

pub use answer::OllamaAnswer;
pub use request::translate;
pub use stream::OllamaStream;

/// A path of Ollama's API that a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OllamaApi {
    /// `/api/chat`.
    Chat,
    /// `/api/generate`.
    Generate,
    /// `/api/embed`.
    Embed,
    /// `/api/embeddings`, the older form of `/api/embed`.
    Embeddings,
}

/// A translated request.
#[derive(Debug, Clone)]
pub struct OllamaRequest {
    /// The requested model; `None` if it is missing, null or empty.
    pub model: Option<String>,
    /// The call for the model; `None` if the request has no input, with which clients load and unload a model.
    pub call: Option<OpenAiCall>,
    /// Writes the answer.
    pub answer: OllamaAnswer,
}

/// A call of an OpenAI-compatible server.
#[derive(Debug, Clone)]
pub struct OpenAiCall {
    /// Where the body is sent.
    pub endpoint: Endpoint,
    /// The JSON body.
    pub body: String,
}

/// How long an answer took, for the numbers that Ollama's answers end with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Durations {
    /// From the request to the end.
    pub total: Duration,
    /// From the request to the first content; zero if unknown.
    pub prompt: Duration,
    /// From the first content to the end.
    pub eval: Duration,
}
