//! The one table of errors that callers see: status, code and type in each dialect. Internal detail goes to the log.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use wire::{json, openai};

use crate::news::news;
use crate::store::StoreError;

/// How long a caller is asked to wait after a 429 or 503 (SPEC.md section 3.7), in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Which API a path belongs to: each has its own shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/api/v1`: `{"error": "…", "code": "…"}`.
    Api,
    /// `/v1`: `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `/v1/messages`: `{"type": "error", "error": {"type", "message", "code"}}`.
    Anthropic,
}

impl Dialect {
    /// The dialect of a request path.
    pub fn of(path: &str) -> Self {
        if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else if path.starts_with("/v1/") || path == "/v1" {
            Self::OpenAi
        } else {
            Self::Api
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident: $status:literal, $code:literal, $openai:literal, $anthropic:literal;)+) => {
        /// What went wrong, as far as a caller may care: the closed list of SPEC.md section 5.1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[doc = $doc])+ $kind),+ }

        impl ErrorKind {
            /// All of them, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status),+ }
            }

            /// The word for programs: the `code` of every dialect, of the audit and of the log.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),+ }
            }

            /// `OpenAI`'s `type`, and Anthropic's.
            pub const fn types(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($openai, $anthropic)),+ }
            }

            /// One line about it, for the table.
            #[cfg(test)]
            pub fn meaning(self) -> String {
                match self { $(Self::$kind => concat!($($doc),+).trim().to_owned()),+ }
            }
        }
    };
}

// Of several kinds of one status the first is what a bare status stands for.
kinds! {
    /// The request cannot be understood, or asks for what is not offered.
    BadRequest: 400, "invalid_request", "invalid_request_error", "invalid_request_error";
    /// No token, or one that is not valid.
    Unauthorized: 401, "invalid_api_key", "invalid_request_error", "authentication_error";
    /// For admins, or for the owner of a thing that the caller may see.
    Forbidden: 403, "forbidden", "permission_error", "permission_error";
    /// Unknown, or not visible to the caller.
    NotFound: 404, "not_found", "invalid_request_error", "not_found_error";
    /// The model that a body names is unknown, or not visible to the caller.
    ModelNotFound: 404, "model_not_found", "invalid_request_error", "not_found_error";
    /// The path knows no such method.
    Method: 405, "method_not_allowed", "invalid_request_error", "invalid_request_error";
    /// The request's body did not come in time.
    SlowRequest: 408, "request_timeout", "invalid_request_error", "invalid_request_error";
    /// A name is taken, or a state does not allow it.
    Conflict: 409, "conflict", "invalid_request_error", "invalid_request_error";
    /// It was there, and is over.
    Gone: 410, "gone", "invalid_request_error", "invalid_request_error";
    /// The request's body is over its limit.
    TooLarge: 413, "request_too_large", "invalid_request_error", "request_too_large";
    /// The request's path is over its limit.
    LongPath: 414, "path_too_long", "invalid_request_error", "invalid_request_error";
    /// The request's body is coded in a way that is not understood.
    UnsupportedMedia: 415, "unsupported_media_type", "invalid_request_error", "invalid_request_error";
    /// The user, or the address, has too many of something at once.
    Busy: 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error";
    /// The publisher's queue is full.
    QueueFull: 429, "queue_full", "rate_limit_error", "rate_limit_error";
    /// The request's head is over its limit.
    LargeHead: 431, "headers_too_large", "invalid_request_error", "invalid_request_error";
    /// The caller left before its answer was whole; only in the audit and in the log.
    CallerLeft: 499, "caller_left", "invalid_request_error", "invalid_request_error";
    /// A fault of the hub's.
    Internal: 500, "internal_error", "server_error", "api_error";
    /// What answers for the LLM failed.
    BadGateway: 502, "upstream_error", "server_error", "api_error";
    /// The backend's own 4xx or 5xx, passed on with its status.
    Backend: 502, "backend_error", "server_error", "api_error";
    /// The backend refused the key of its publisher, or of the hub.
    BackendKey: 502, "backend_key_refused", "server_error", "api_error";
    /// The publisher answered 401, 403 or 407: it was refused, its caller was not.
    PublisherRefused: 502, "publisher_refused", "server_error", "api_error";
    /// The publisher does not have the LLM that the hub has from it.
    NotPublished: 502, "not_published", "server_error", "api_error";
    /// The answer broke off after it had begun.
    Interrupted: 502, "interrupted", "server_error", "api_error";
    /// Not now; the message says why.
    Unavailable: 503, "unavailable", "server_error", "overloaded_error";
    /// No publisher of the LLM is connected.
    PublisherAway: 503, "publisher_away", "server_error", "overloaded_error";
    /// The publisher was lost before it answered.
    PublisherLost: 503, "publisher_lost", "server_error", "overloaded_error";
    /// The publisher is on its way down.
    PublisherStopping: 503, "publisher_stopping", "server_error", "overloaded_error";
    /// The publisher's owner has paused it; the message says until when.
    Paused: 503, "paused", "server_error", "overloaded_error";
    /// The publisher is there and its backend is not.
    BackendUnavailable: 503, "backend_unavailable", "server_error", "overloaded_error";
    /// Nobody had room for as long as the caller would wait.
    NoRoom: 503, "queue_full", "server_error", "overloaded_error";
    /// The backend is being woken, and is not up yet.
    Waking: 503, "waking", "server_error", "overloaded_error";
    /// The backend sleeps and could not be woken.
    WakeFailed: 503, "wake_failed", "server_error", "overloaded_error";
    /// The hub is on its way down.
    HubStopping: 503, "hub_stopping", "server_error", "overloaded_error";
    /// The hub has too many calls or connections, or its memory or the caller's share of a channel is full.
    HubBusy: 503, "hub_busy", "server_error", "overloaded_error";
    /// The hub cannot write to its store.
    StoreUnavailable: 503, "store_unavailable", "server_error", "overloaded_error";
    /// Nobody answered in time.
    Timeout: 504, "timeout", "server_error", "timeout_error";
    /// The answer had begun, and then nothing came for too long.
    StreamIdle: 504, "stream_idle", "server_error", "timeout_error";
}

impl ErrorKind {
    /// The kind for a status that came without one.
    fn of(status: StatusCode) -> Self {
        let known = Self::ALL.iter().copied().find(|kind| kind.status() == status.as_u16());
        known.unwrap_or(if status.is_client_error() { Self::BadRequest } else { Self::Internal })
    }
}

/// An error for a caller: a row of the table and one clear sentence, which quotes no secret, prompt or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The row of the table.
    pub kind: ErrorKind,
    /// What failed, and what to do next.
    pub message: Cow<'static, str>,
    /// The member of the request that it is about, where there is one.
    pub param: Option<String>,
    /// Seconds for `Retry-After`, where something better than the usual number is known.
    pub retry_after: Option<u32>,
    /// The backend's own status, of a [`ErrorKind::Backend`].
    status: Option<StatusCode>,
}

impl ApiError {
    /// An error with a text for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), param: None, retry_after: None, status: None }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// What answers for the LLM failed.
    pub fn bad_gateway(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadGateway, message)
    }

    /// A backend's own 4xx or 5xx, in words; any other status counts as 502. Those that speak of a key speak of somebody
    /// else's: to a caller they would say that the hub refuses its token.
    pub fn backend(status: u16, message: impl Into<Cow<'static, str>>) -> Self {
        if is_about_a_key(status) {
            let text = format!("the publisher answered {status}: {}", message.into());
            return Self::new(ErrorKind::PublisherRefused, text);
        }
        let own = StatusCode::from_u16(status).ok();
        let own = own.filter(|status| status.is_client_error() || status.is_server_error());
        Self { status: own, ..Self::new(ErrorKind::Backend, message) }
    }

    /// No valid token.
    pub fn unauthorized() -> Self {
        Self::new(ErrorKind::Unauthorized, "no valid token: send 'Authorization: Bearer TOKEN'")
    }

    /// The token of a call, or of a task, does not count any more.
    pub fn revoked() -> Self {
        Self::new(ErrorKind::Unauthorized, "the token is not valid any more")
    }

    /// The hub takes no new calls.
    pub fn hub_stopping() -> Self {
        Self::new(ErrorKind::HubStopping, "the hub is shutting down")
    }

    /// Unknown or hidden. `what` is the kind of thing, `name` what the caller asked for.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} '{name}' not found"))
    }

    /// A fault of ours: `detail` goes to the log, the caller learns nothing of it.
    pub fn internal(detail: impl fmt::Display) -> Self {
        news!(error, "internal errors", "the hub", "internal error: {detail}");
        Self::new(ErrorKind::Internal, "internal error")
    }

    /// The same error in other words.
    #[must_use]
    pub fn reword(self, change: impl FnOnce(&str) -> String) -> Self {
        Self { message: change(&self.message).into(), ..self }
    }

    /// The same error, about this member of the request.
    #[must_use]
    pub fn about(self, param: &str) -> Self {
        Self { param: Some(param.to_owned()), ..self }
    }

    /// The same error with another `Retry-After`, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: Option<u32>) -> Self {
        Self { retry_after: seconds, ..self }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        let known = self.status.or_else(|| StatusCode::from_u16(self.kind.status()).ok());
        known.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether another member of the pool may fare better: not where the hub or the backend found fault with the request.
    pub fn may_fail_over(&self) -> bool {
        let status = self.status();
        !matches!(self.kind, ErrorKind::BadRequest | ErrorKind::Backend)
            || !status.is_client_error()
            || status == StatusCode::TOO_MANY_REQUESTS
    }

    /// `OpenAI`'s `type`, and Anthropic's.
    fn types(&self) -> (&'static str, &'static str) {
        self.status.map_or(self.kind, ErrorKind::of).types()
    }

    /// `OpenAI`'s error object with `code` and `type`.
    pub fn openai(&self) -> String {
        openai::error_about(self.param.as_deref(), &self.message, self.types().0, Some(self.kind.code()))
    }

    /// Anthropic's error object. The `code` in it is ours: the official SDK passes unknown keys on.
    pub fn anthropic(&self) -> String {
        let (code, kind, message) = (self.kind.code(), self.types().1, json::quote(&self.message));
        format!(r#"{{"type":"error","error":{{"type":"{kind}","message":{message},"code":"{code}"}}}}"#)
    }

    /// The error object of `/api/v1`.
    pub fn api(&self) -> String {
        format!(r#"{{"error":{},"code":"{}"}}"#, json::quote(&self.message), self.kind.code())
    }

    /// The body in a dialect.
    pub fn body(&self, dialect: Dialect) -> String {
        match dialect {
            Dialect::Api => self.api(),
            Dialect::OpenAi => self.openai(),
            Dialect::Anthropic => self.anthropic(),
        }
    }

    /// The whole answer in a dialect.
    pub fn response(&self, dialect: Dialect) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        if self.kind == ErrorKind::Unauthorized {
            response.insert_header((WWW_AUTHENTICATE, r#"Bearer realm="virtual-llm""#));
        }
        if self.kind == ErrorKind::UnsupportedMedia {
            response.insert_header((ACCEPT_ENCODING, "gzip, deflate, zstd"));
        }
        if let Some(seconds) = retry_after(self.status().as_u16(), self.retry_after) {
            response.insert_header((RETRY_AFTER, seconds));
        }
        let mut response = response.content_type("application/json").body(self.body(dialect));
        // For the log's line about the call.
        response.extensions_mut().insert(self.kind);
        response
    }

    /// The error for a status that a library gave, with no more than the status' own words.
    pub fn of_status(status: StatusCode) -> Self {
        let words = status.canonical_reason().unwrap_or("error").to_lowercase();
        Self::new(ErrorKind::of(status), words)
    }
}

/// Whether an answer of this status is about the key, or the rights, of whoever called.
pub fn is_about_a_key(status: u16) -> bool {
    matches!(status, 401 | 403 | 407)
}

/// Longest `Retry-After`, in seconds: a day. A number that a publisher or a backend made up keeps nobody away for years.
pub const LONGEST_RETRY_AFTER: u32 = 86_400;

/// The seconds of `Retry-After` on an answer of this status: what the backend named, at most a day, else on every 429 and 503 the
/// usual number.
pub fn retry_after(status: u16, named: Option<u32>) -> Option<u32> {
    named
        .map(|seconds| seconds.min(LONGEST_RETRY_AFTER))
        .or_else(|| matches!(status, 429 | 503).then_some(RETRY_AFTER_SECONDS))
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// In `/api`'s dialect; the guard around all routes writes it again where a path speaks another.
impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response(Dialect::Api)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        news!(error, "calls without the store", "the hub", "{error}");
        Self::new(ErrorKind::StoreUnavailable, "the hub cannot write to its store now: try again later")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in SPEC.md is this one, line by line.
    #[test]
    fn the_table_of_the_specification_is_this_one() {
        let text = include_str!("../../SPEC.md");
        let section = text.split("\n### 5.1 Codes\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let written: Vec<_> = section.lines().filter(|line| line.starts_with('|')).skip(2).collect();
        let row = |kind: &ErrorKind| {
            let (openai, anthropic) = kind.types();
            let meaning = kind.meaning();
            let meaning = meaning.trim_end_matches('.');
            format!("| {} | `{}` | `{openai}` | `{anthropic}` | {meaning} |", kind.status(), kind.code())
        };
        let ours: Vec<_> = ErrorKind::ALL.iter().map(row).collect();
        assert_eq!(written, ours);
    }

    #[test]
    fn every_429_and_503_says_when_to_come_again_and_others_only_what_they_were_told() {
        for kind in ErrorKind::ALL {
            let header = |error: &ApiError| {
                let response = error.response(Dialect::Api);
                response.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
            };
            let usual = matches!(kind.status(), 429 | 503).then_some("5");
            assert_eq!(header(&ApiError::new(*kind, "no")).as_deref(), usual, "{kind:?}");
            let told = ApiError::new(*kind, "no").retry_after(Some(77));
            assert_eq!(header(&told).as_deref(), Some("77"), "{kind:?}");
            let told = ApiError::new(*kind, "no").retry_after(Some(u32::MAX));
            assert_eq!(header(&told).as_deref(), Some("86400"), "{kind:?}");
        }
    }

    #[test]
    fn a_backends_own_status_has_the_types_of_that_status() {
        let error = ApiError::backend(404, "no such model");
        assert_eq!(error.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            error.anthropic(),
            r#"{"type":"error","error":{"type":"not_found_error","message":"no such model","code":"backend_error"}}"#
        );
        assert_eq!(ApiError::backend(302, "elsewhere").status(), StatusCode::BAD_GATEWAY);
    }
}
