//! The one table of errors that callers see: status, code and type in each dialect. Internal detail goes to the log.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use wire::{json, openai};

use crate::store::StoreError;

/// How long a caller is asked to wait after a 503 (SPEC.md section 3.7), in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// Which API a path belongs to: each has its own shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/api/v1`: `{"error": "…"}`.
    Api,
    /// `/v1`: `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `/v1/messages`: `{"type": "error", "error": {"type", "message"}}`.
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
    ($($(#[$doc:meta])* $kind:ident: $status:ident, $code:literal, $openai:literal, $anthropic:literal;)+) => {
        /// What went wrong, as far as a caller may care.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorKind { $($(#[$doc])* $kind),+ }

        impl ErrorKind {
            /// The HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),+ }
            }

            /// `OpenAI`'s `code`, its `type`, and Anthropic's `type`.
            const fn words(self) -> (&'static str, &'static str, &'static str) {
                match self { $(Self::$kind => ($code, $openai, $anthropic)),+ }
            }

            /// The kind for a status that came without one.
            fn of(status: StatusCode) -> Self {
                $(if status == StatusCode::$status { return Self::$kind; })+
                if status.is_client_error() { Self::BadRequest } else { Self::Internal }
            }
        }
    };
}

kinds! {
    /// The request cannot be understood.
    BadRequest: BAD_REQUEST, "invalid_request", "invalid_request_error", "invalid_request_error";
    /// No token, or one that is not valid.
    Unauthorized: UNAUTHORIZED, "invalid_api_key", "invalid_request_error", "authentication_error";
    /// For admins, or for the owner of a thing that the caller may see.
    Forbidden: FORBIDDEN, "forbidden", "permission_error", "permission_error";
    /// Unknown, or not visible to the caller: the same bytes for both.
    NotFound: NOT_FOUND, "not_found", "invalid_request_error", "not_found_error";
    /// As [`ErrorKind::NotFound`], for the model that a body names.
    ModelNotFound: NOT_FOUND, "model_not_found", "invalid_request_error", "not_found_error";
    /// The path knows no such method.
    Method: METHOD_NOT_ALLOWED, "method_not_allowed", "invalid_request_error", "invalid_request_error";
    /// A body that did not come in time.
    SlowRequest: REQUEST_TIMEOUT, "request_timeout", "invalid_request_error", "invalid_request_error";
    /// A name is taken, or a state does not allow it.
    Conflict: CONFLICT, "conflict", "invalid_request_error", "invalid_request_error";
    /// Was there, and is over.
    Gone: GONE, "gone", "invalid_request_error", "invalid_request_error";
    /// A body over its limit.
    TooLarge: PAYLOAD_TOO_LARGE, "request_too_large", "invalid_request_error", "request_too_large";
    /// Too many at once.
    Busy: TOO_MANY_REQUESTS, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error";
    /// A fault of the hub's.
    Internal: INTERNAL_SERVER_ERROR, "internal_error", "server_error", "api_error";
    /// What answers for the LLM failed.
    BadGateway: BAD_GATEWAY, "upstream_error", "server_error", "api_error";
    /// Nobody can answer now.
    Unavailable: SERVICE_UNAVAILABLE, "unavailable", "server_error", "overloaded_error";
    /// Nobody answered in time.
    Timeout: GATEWAY_TIMEOUT, "timeout", "server_error", "timeout_error";
}

/// An error for a caller: a row of the table and one clear sentence, which quotes no secret, prompt or answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The row of the table.
    pub kind: ErrorKind,
    /// What failed, and what to do next.
    pub message: Cow<'static, str>,
}

impl ApiError {
    /// An error with a text for the caller.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The request cannot be understood.
    pub fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, message)
    }

    /// No valid token.
    pub fn unauthorized() -> Self {
        Self::new(ErrorKind::Unauthorized, "no valid token: send 'Authorization: Bearer TOKEN'")
    }

    /// Unknown or hidden. `what` is the kind of thing, `name` what the caller asked for.
    pub fn not_found(what: &str, name: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("{what} '{name}' not found"))
    }

    /// A fault of ours: `detail` goes to the log, the caller learns nothing of it.
    pub fn internal(detail: impl fmt::Display) -> Self {
        log::error!("internal error: {detail}");
        Self::new(ErrorKind::Internal, "internal error")
    }

    /// The body in a dialect.
    pub fn body(&self, dialect: Dialect) -> String {
        let (code, openai_type, anthropic_type) = self.kind.words();
        match dialect {
            Dialect::Api => format!(r#"{{"error":{}}}"#, json::quote(&self.message)),
            Dialect::OpenAi => openai::error_body(&self.message, openai_type, Some(code)),
            Dialect::Anthropic => format!(
                r#"{{"type":"error","error":{{"type":"{anthropic_type}","message":{}}}}}"#,
                json::quote(&self.message)
            ),
        }
    }

    /// The whole answer in a dialect.
    pub fn response(&self, dialect: Dialect) -> HttpResponse {
        let mut response = HttpResponse::build(self.kind.status());
        match self.kind {
            ErrorKind::Unauthorized => {
                response.insert_header((WWW_AUTHENTICATE, r#"Bearer realm="virtual-llm""#));
            }
            ErrorKind::Unavailable => {
                response.insert_header((RETRY_AFTER, RETRY_AFTER_SECONDS));
            }
            _ => (),
        }
        response.content_type("application/json").body(self.body(dialect))
    }

    /// The error for a status that a library gave, with no more than the status' own words.
    pub fn of_status(status: StatusCode) -> Self {
        let words = status.canonical_reason().unwrap_or("error").to_lowercase();
        Self::new(ErrorKind::of(status), words)
    }
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
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        self.response(Dialect::Api)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        log::error!("{error}");
        Self::new(ErrorKind::Unavailable, "the hub cannot write to its store now: try again later")
    }
}
