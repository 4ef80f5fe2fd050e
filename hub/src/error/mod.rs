//! Errors for callers, in the dialect of each API. Internal detail goes to the log, never to a caller.

mod kind;

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use wire::json::JsonError;
use wire::{json, openai};

use crate::news::news;
use crate::registry::Malformed;
use crate::store::StoreError;
use crate::telemetry::Limit;
pub use kind::{Dialect, ErrorKind};

/// Default `Retry-After` of 429 and 503, in seconds (SPEC.md section 3.7).
const DEFAULT_RETRY_AFTER: u32 = 5;

/// An error for a caller: a kind, and one sentence that quotes no secret, prompt or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub kind: ErrorKind,
    /// What failed, and what the caller can do.
    pub message: Cow<'static, str>,
    /// The member of the request that the error is about.
    pub param: Option<String>,
    /// Seconds for `Retry-After`, if not the default.
    pub retry_after: Option<u32>,
    /// The limit that refuses the call, for the metric.
    pub limit: Option<Limit>,
    /// The status of [`ErrorKind::Backend`].
    status: Option<StatusCode>,
    /// The `details` of Anthropic's error object, as JSON: by its `error_code` the SDK tells what it can recover from.
    details: Option<&'static str>,
}

impl ApiError {
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
            retry_after: None,
            limit: Limit::of(kind),
            status: None,
            details: None,
        }
    }

    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// The error for a body that is not the JSON of a request.
    pub fn bad_json(error: JsonError) -> Self {
        let refusal = Self::bad_request(format!("the request's body is {error}"));
        match error {
            JsonError::OddKey(_, key) => refusal.about(key),
            JsonError::TooDeep
            | JsonError::TooManyMembers
            | JsonError::TooManyValues
            | JsonError::TooManyParts => refusal.refused_by(Limit::RequestShape),
            _ => refusal,
        }
    }

    /// The error for a call that continues a conversation which the hub would have to hold. Anthropic's SDK sends the whole
    /// conversation then, if `details` says so (its `lib/threads`).
    pub fn no_thread() -> Self {
        let text = "'thread': this hub stores no conversation; send all of it with each call";
        let details = Some(r#"{"error_code":"thread_not_found"}"#);
        Self { details, ..Self::new(ErrorKind::NothingStored, text).about("thread") }
    }

    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadGateway, message)
    }

    /// The error of a backend, with its own 4xx or 5xx; any other status becomes 502. A status about a key becomes 502 too:
    /// the caller would take it for a refusal of its token.
    pub fn backend(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        if is_about_a_key(status) {
            let text = format!("the publisher answered {status}: {}", message.into());
            return Self::new(ErrorKind::PublisherRefused, text);
        }
        let own = StatusCode::from_u16(status).ok();
        let own = own.filter(|status| status.is_client_error() || status.is_server_error());
        Self { status: own, ..Self::new(ErrorKind::Backend, message) }
    }

    pub fn unauthorized() -> Self {
        Self::new(ErrorKind::Unauthorized, "no valid token: send 'Authorization: Bearer TOKEN'")
    }

    pub fn revoked() -> Self {
        Self::new(ErrorKind::Unauthorized, "the token is not valid any more")
    }

    pub fn hub_stopping() -> Self {
        Self::new(ErrorKind::HubStopping, "the hub is shutting down")
    }

    /// The error for an unknown or hidden `name`. `noun` is what it would name, such as `LLM`.
    pub fn not_found(noun: &str, name: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{noun} '{}' not found", shown(name)))
    }

    /// The error for a model that a body names, and that is unknown, hidden or another user's than when the call came.
    pub fn model_not_found(model: &str) -> Self {
        Self::new(ErrorKind::ModelNotFound, format!("model '{}' not found", shown(model)))
    }

    /// An internal error. `detail` goes to the log only.
    pub fn internal(detail: impl fmt::Display) -> Self {
        news!(error, "internal errors", "the hub", "internal error: {detail}");
        Self::new(ErrorKind::Internal, "internal error")
    }

    /// Replaces the message.
    #[must_use]
    pub fn reword(self, change: impl FnOnce(&str) -> String) -> Self {
        Self { message: change(&self.message).into(), ..self }
    }

    /// Sets the member of the request that the error is about.
    #[must_use]
    pub fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// Sets the limit that refuses the call. The metric counts it when the error is sent.
    #[must_use]
    pub fn refused_by(self, limit: Limit) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Sets `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: Option<u32>) -> Self {
        Self { retry_after: seconds, ..self }
    }

    pub fn status(&self) -> StatusCode {
        let known = self.status.or_else(|| StatusCode::from_u16(self.kind.status()).ok());
        known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether the call may be tried on another member of the pool: not if the request itself was refused.
    pub fn may_fail_over(&self) -> bool {
        let status = self.status();
        !matches!(self.kind, ErrorKind::BadRequest | ErrorKind::Backend)
            || !status.is_client_error()
            || status == StatusCode::TOO_MANY_REQUESTS
    }

    fn types(&self) -> (&'static str, &'static str) {
        self.status.map_or(self.kind, ErrorKind::of).types()
    }

    /// The error object of OpenAI's API.
    pub fn openai(&self) -> String {
        openai::error_about(self.param.as_deref(), &self.message, self.types().0, Some(self.kind.code()))
    }

    /// The error object of Anthropic's API. Its `code` is an extension: the official SDK passes unknown keys on.
    pub fn anthropic(&self) -> String {
        let (code, kind, message) = (self.kind.code(), self.types().1, json::quote(&self.message));
        let details = self.details.map_or_else(String::new, |details| format!(r#","details":{details}"#));
        format!(
            r#"{{"type":"error","error":{{"type":"{kind}","message":{message},"code":"{code}"{details}}}}}"#
        )
    }

    /// The error object of `/api/v1`, and of Ollama's API, whose clients ignore the code.
    pub fn api(&self) -> String {
        format!(r#"{{"error":{},"code":"{}"}}"#, json::quote(&self.message), self.kind.code())
    }

    pub fn body(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Api | Dialect::Ollama => self.api(),
            Dialect::OpenAi => self.openai(),
            Dialect::Anthropic => self.anthropic(),
        }
    }

    /// The HTTP response in a dialect.
    pub fn response(&self, dialect: Dialect) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if self.kind == ErrorKind::Unauthorized {
            response.insert_header((WWW_AUTHENTICATE, r#"Bearer realm="virtual-llm""#));
        }
        if self.kind == ErrorKind::UnsupportedMedia {
            response.insert_header((ACCEPT_ENCODING, "gzip, deflate, zstd"));
        }
        if self.kind == ErrorKind::UpgradeRequired {
            response.insert_header((UPGRADE, "websocket"));
        }
        if let Some(seconds) = retry_after(self.status().as_u16(), self.retry_after) {
            response.insert_header((RETRY_AFTER, seconds));
        }
        let mut response = response.content_type("application/json").body(self.body(dialect));
        // For the log line of the call.
        response.extensions_mut().insert(self.kind);
        if let Some(limit) = self.limit {
            // For the metric.
            response.extensions_mut().insert(limit);
        }
        response
    }

    /// The error for a bare status of the framework.
    pub fn of_status(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("error").to_lowercase();
        Self::new(ErrorKind::of(status), reason)
    }
}

/// Whether a status is about the key or the rights of the client.
pub fn is_about_a_key(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

/// Longest `Retry-After`, in seconds: a day. Publishers and backends may send any number.
pub const LONGEST_RETRY_AFTER: u32 = 86_400;

/// The `Retry-After` of a response in seconds: the given one, at most a day, or else the default of 429 and 503.
pub fn retry_after(status: u16, given: Option<u32>) -> Option<u32> {
    given
        .map(|seconds| seconds.min(LONGEST_RETRY_AFTER))
        .or_else(|| matches!(status, 429 | 503).then_some(DEFAULT_RETRY_AFTER))
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// Renders in the dialect of `/api`. The guard around all routes renders it again for the others.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response(Dialect::Api)
    }
}

impl From<Malformed> for ApiError {
    fn from(Malformed { text, limit }: Malformed) -> Self {
        Self { limit, ..Self::bad_request(text) }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        news!(error, "calls without the store", "the hub", "{error}");
        Self::new(ErrorKind::StoreUnavailable, "the hub cannot write to its store now: try again later")
    }
}

/// A caller's name in the text of an error: its first 200 characters.
fn shown(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests;
