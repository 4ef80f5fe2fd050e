//! Settings of backends, already validated.

use crate::Secret;

/// Connection settings of an HTTP backend. URL and key never appear in messages, log lines or error texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpBackend {
    /// Base URL up to and with `/v1`, no trailing slash.
    pub url: Secret,
    /// Sent as `Authorization: Bearer` (OpenAI) or `x-api-key` (Anthropic).
    pub api_key: Option<Secret>,
}

/// The program behind OpenAI's API, which decides where it is asked what its model can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerKind {
    /// Not known, or a program that tells all in its list of models, such as vLLM.
    #[default]
    Unknown,
    /// llama.cpp's server.
    LlamaCpp,
    /// LM Studio.
    LmStudio,
    /// Ollama.
    Ollama,
}

/// A custom health check.
#[derive(Debug, Clone)]
pub struct Availability {
    /// URL to GET, within 2 s.
    pub url: Secret,
    /// JSON pointer into the answer (RFC 6901).
    pub json_pointer: String,
    /// The value expected there.
    pub equals: serde_json::Value,
}

/// The built-in backend: echoes the last user text, cut or repeated to `tokens` words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MockConfig {
    /// Number of words of an answer; `None` for as many as the text has.
    pub tokens: Option<usize>,
    /// Words per second of a streamed answer; `None` for no limit.
    pub tokens_per_second: Option<f64>,
    /// Every n-th request fails.
    pub fail_every: Option<u64>,
    /// Every n-th request panics.
    pub panic_every: Option<u64>,
}
