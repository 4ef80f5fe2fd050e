//! The table of error kinds: HTTP status, code, and types of the dialects.

use actix_web::http::StatusCode;

/// An API, with its own shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/api/v1`: `{"error": "…", "code": "…"}`.
    Api,
    /// `/v1`: `{"error": {"message", "type", "param", "code"}}`.
    OpenAi,
    /// `/v1/messages`: `{"type": "error", "error": {"type", "message", "code"}}`.
    Anthropic,
    /// `/api` without `/api/v1`, which is Ollama's: `{"error": "…", "code": "…"}`.
    Ollama,
}

impl Dialect {
    /// The dialect of a request path.
    pub fn of(path: &str) -> Self {
        if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else if path.starts_with("/v1/") || path == "/v1" {
            Self::OpenAi
        } else if path.starts_with("/api/") && !path.starts_with("/api/v1/") && path != "/api/v1" {
            Self::Ollama
        } else {
            Self::Api
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident: $status:literal, $code:literal, $openai:literal, $anthropic:literal;)+) => {
        /// The kind of an error: the closed list of SPEC.md section 5.1.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[doc = $doc])+ $kind),+ }

        impl ErrorKind {
            /// All kinds, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            pub const fn status(self) -> u16 {
                match self { $(Self::$kind => $status),+ }
            }

            /// The `code` in every dialect, in the audit and in the log.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$kind => $code),+ }
            }

            /// The `type` of OpenAI's dialect, and of Anthropic's.
            pub const fn types(self) -> (&'static str, &'static str) {
                match self { $(Self::$kind => ($openai, $anthropic)),+ }
            }

            /// The meaning in the table of SPEC.md.
            pub fn meaning(self) -> String {
                match self { $(Self::$kind => concat!($($doc),+).trim().to_owned()),+ }
            }
        }
    };
}

// The first kind of a status also stands for a status without a kind.
kinds! {
    /// The request is invalid, or asks for something that is not offered.
    BadRequest: 400, "invalid_request", "invalid_request_error", "invalid_request_error";
    /// No token, or an invalid one.
    Unauthorized: 401, "invalid_api_key", "invalid_request_error", "authentication_error";
    /// Only admins, or the owner of an object that the caller sees, may do this.
    Forbidden: 403, "forbidden", "permission_error", "permission_error";
    /// Unknown, or not visible to the caller.
    NotFound: 404, "not_found", "invalid_request_error", "not_found_error";
    /// The model that a body names is unknown, or not visible to the caller.
    ModelNotFound: 404, "model_not_found", "invalid_request_error", "not_found_error";
    /// The path is that of a stored object, and the hub stores none.
    NothingStored: 404, "nothing_stored", "invalid_request_error", "not_found_error";
    /// The path does not support the method.
    Method: 405, "method_not_allowed", "invalid_request_error", "invalid_request_error";
    /// The request's body did not arrive in time.
    SlowRequest: 408, "request_timeout", "invalid_request_error", "invalid_request_error";
    /// A name is taken, or a state does not allow it.
    Conflict: 409, "conflict", "invalid_request_error", "invalid_request_error";
    /// The object existed and has ended.
    Gone: 410, "gone", "invalid_request_error", "invalid_request_error";
    /// The request's body is over its limit.
    TooLarge: 413, "request_too_large", "invalid_request_error", "request_too_large";
    /// The request's path is over its limit.
    LongPath: 414, "path_too_long", "invalid_request_error", "invalid_request_error";
    /// The request's body has an unsupported encoding.
    UnsupportedMedia: 415, "unsupported_media_type", "invalid_request_error", "invalid_request_error";
    /// The path is that of a WebSocket, and the request asks for none.
    UpgradeRequired: 426, "upgrade_required", "invalid_request_error", "invalid_request_error";
    /// The user or the address exceeds a limit.
    Busy: 429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error";
    /// The call was in line for as long as a call may wait, or the publisher's queue is full.
    QueueFull: 429, "queue_full", "rate_limit_error", "rate_limit_error";
    /// The request's head is over its limit.
    LargeHead: 431, "headers_too_large", "invalid_request_error", "invalid_request_error";
    /// The caller left before its answer was complete; only in the audit and in the log.
    CallerLeft: 499, "caller_left", "invalid_request_error", "invalid_request_error";
    /// An error of the hub itself.
    Internal: 500, "internal_error", "server_error", "api_error";
    /// The publisher or upstream of the LLM failed.
    BadGateway: 502, "upstream_error", "server_error", "api_error";
    /// The backend's own 4xx or 5xx, passed on with its status.
    Backend: 502, "backend_error", "server_error", "api_error";
    /// The backend refused the key of its publisher, or of the hub.
    BackendKey: 502, "backend_key_refused", "server_error", "api_error";
    /// The publisher answered 401, 403 or 407, which concerns its own key and not the caller's token.
    PublisherRefused: 502, "publisher_refused", "server_error", "api_error";
    /// The publisher no longer has the LLM that it registered.
    NotPublished: 502, "not_published", "server_error", "api_error";
    /// The publisher was lost after its answer had begun.
    Interrupted: 502, "interrupted", "server_error", "api_error";
    /// Temporarily unavailable; the message says why.
    Unavailable: 503, "unavailable", "server_error", "overloaded_error";
    /// No publisher of the LLM is connected.
    PublisherAway: 503, "publisher_away", "server_error", "overloaded_error";
    /// The publisher was lost before it answered.
    PublisherLost: 503, "publisher_lost", "server_error", "overloaded_error";
    /// The publisher is shutting down.
    PublisherStopping: 503, "publisher_stopping", "server_error", "overloaded_error";
    /// The publisher's owner has paused it; the message says until when.
    Paused: 503, "paused", "server_error", "overloaded_error";
    /// The publisher is connected and its backend is unavailable.
    BackendUnavailable: 503, "backend_unavailable", "server_error", "overloaded_error";
    /// No publisher had a free slot within the caller's wait time.
    NoRoom: 503, "queue_full", "server_error", "overloaded_error";
    /// The backend is being woken and is not available yet.
    Waking: 503, "waking", "server_error", "overloaded_error";
    /// The backend is asleep and could not be woken.
    WakeFailed: 503, "wake_failed", "server_error", "overloaded_error";
    /// The hub is shutting down.
    HubStopping: 503, "hub_stopping", "server_error", "overloaded_error";
    /// The hub has too many calls or connections, or its memory or the caller's share of a channel is full.
    HubBusy: 503, "hub_busy", "server_error", "overloaded_error";
    /// The hub cannot write to its store.
    StoreUnavailable: 503, "store_unavailable", "server_error", "overloaded_error";
    /// No answer arrived in time.
    Timeout: 504, "timeout", "server_error", "timeout_error";
    /// The answer had begun and was silent for too long.
    StreamIdle: 504, "stream_idle", "server_error", "timeout_error";
}

impl ErrorKind {
    /// The first kind of a status.
    pub(super) fn of(status: StatusCode) -> Self {
        let known = Self::ALL.iter().copied().find(|kind| kind.status() == status.as_u16());
        known.unwrap_or(if status.is_client_error() { Self::BadRequest } else { Self::Internal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_spec_md_has_all_error_kinds() {
        let text = include_str!("../../../SPEC.md");
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
}
