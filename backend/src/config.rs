//! Settings of a backend: checked values only.

use crate::Secret;

/// A backend behind HTTP. URL and key are secrets: they are in no message, log line or error text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpBackend {
    /// Base URL up to and with `/v1`, no trailing slash.
    pub url: Secret,
    /// Sent as `Authorization: Bearer` (OpenAI) or `x-api-key` (Anthropic).
    pub api_key: Option<Secret>,
}

/// Another way to tell whether a backend is available.
#[derive(Debug, Clone)]
pub struct Availability {
    /// Asked with GET; 2 s.
    pub url: Secret,
    /// Where in the JSON answer to look (RFC 6901).
    pub json_pointer: String,
    /// What must stand there.
    pub equals: serde_json::Value,
}

/// The built-in backend: echoes the last user text, cut or repeated to `tokens` words.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MockConfig {
    /// Words of an answer; `None`: as many as the text has.
    pub tokens: Option<usize>,
    /// Pace of a streamed answer; `None`: as fast as they go.
    pub tokens_per_second: Option<f64>,
    /// Every n-th request fails.
    pub fail_every: Option<u64>,
    /// Every n-th request panics.
    pub panic_every: Option<u64>,
}
