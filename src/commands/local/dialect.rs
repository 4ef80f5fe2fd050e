//! Errors of `local` itself, in the form of the API that was called.

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{ALLOW, HeaderName, HeaderValue},
};
use wire::{json::quote, openai};

use crate::output::printable;

/// An API, with its own form of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// The dialect of a request: its path decides, and for the list of models, which two APIs have, a header.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        let name = path.trim_start_matches('/');
        let name = name.strip_prefix("v1/").unwrap_or(name);
        let is_anthropic = name.starts_with("messages")
            || name.starts_with("models") && headers.contains_key("anthropic-version");
        if is_anthropic {
            Self::Anthropic
        } else if name.is_empty() || name.starts_with("api/") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }
}

/// An error that is answered without the hub, or instead of the hub's answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    /// What is wrong, and what to do.
    message: String,
    /// Methods that the path has.
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }

    pub(super) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Error for a program of another user.
    pub(super) fn stranger() -> Self {
        Self::forbidden("this port serves the programs of the user who started `virtual-llm local` only")
    }

    /// Error for a web page, given its origin.
    pub(super) fn foreign_page(origin: Option<&str>) -> Self {
        let page = match origin {
            Some(origin) => format!("the page {}", printable(origin)),
            None => "a web page".to_owned(),
        };
        let message = format!(
            "{page} is not one of this machine: to let it use your token, start `virtual-llm local` with \
                     --cors-origin and its origin"
        );
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// Error for a registrar with a provider whose backend is this port.
    pub(super) fn circle() -> Self {
        let message =
            "this is `virtual-llm local`: these models are the hub's, and cannot be published to it again";
        Self::new(StatusCode::LOOP_DETECTED, "loop", message)
    }

    /// Error for a path that is not passed on.
    pub(super) fn unknown_path() -> Self {
        let message = "`virtual-llm local` passes on inference and the list of models only, not this path; the rest of \
                       the hub's API is at the hub, with a token";
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// Error for a method that `/` does not have.
    pub(super) fn wrong_method() -> Self {
        let message = "this path takes no other method than GET, HEAD";
        Self {
            allow: Some("GET, HEAD"),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        }
    }

    /// Error for a token that the hub does not accept.
    pub(super) fn token(message: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// Error for a hub that gives no answer.
    pub(super) fn hub(message: String) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "hub_unreachable", message)
    }

    pub(super) fn body(&self, dialect: Dialect) -> String {
        // OpenAI's type, then Anthropic's.
        let (openai_type, anthropic_type) = match self.status {
            StatusCode::UNAUTHORIZED => ("invalid_request_error", "authentication_error"),
            StatusCode::FORBIDDEN => ("permission_error", "permission_error"),
            StatusCode::NOT_FOUND => ("invalid_request_error", "not_found_error"),
            StatusCode::METHOD_NOT_ALLOWED => ("invalid_request_error", "invalid_request_error"),
            _ => ("server_error", "api_error"),
        };
        let (code, message) = (self.code, &self.message);
        match dialect {
            Dialect::OpenAi => openai::error_about(None, message, openai_type, Some(code)),
            Dialect::Anthropic => format!(
                r#"{{"type":"error","error":{{"type":"{anthropic_type}","message":{},"code":"{code}"}}}}"#,
                quote(message)
            ),
            Dialect::Ollama => format!(r#"{{"error":{},"code":"{code}"}}"#, quote(message)),
        }
    }

    pub(super) fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        self.allow.map(|methods| (ALLOW, HeaderValue::from_static(methods)))
    }
}

/// Whether `method` asks for something without changing it.
pub(super) fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_path_decides_on_the_dialect() {
        let (none, mut anthropic) = (HeaderMap::new(), HeaderMap::new());
        anthropic.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/chat/completions", Dialect::OpenAi),
            ("/v1/models", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/messages/count_tokens", Dialect::Anthropic),
            ("/api/chat", Dialect::Ollama),
            ("/api/v1/tokens", Dialect::Ollama),
            ("/", Dialect::Ollama),
        ] {
            assert_eq!(Dialect::of(path, &none), dialect, "{path}");
        }
        assert_eq!(Dialect::of("/v1/models", &anthropic), Dialect::Anthropic);
    }

    #[test]
    fn each_dialect_has_its_form_of_errors() {
        let refusal = Refusal::token("log \"in\"".to_owned());
        let json = |dialect| serde_json::from_str::<Value>(&refusal.body(dialect)).unwrap();
        assert_eq!(json(Dialect::OpenAi)["error"]["message"], "log \"in\"");
        assert_eq!(json(Dialect::OpenAi)["error"]["code"], "invalid_api_key");
        assert_eq!(json(Dialect::Anthropic)["type"], "error");
        assert_eq!(json(Dialect::Anthropic)["error"]["type"], "authentication_error");
        assert_eq!(json(Dialect::Ollama)["error"], "log \"in\"");
    }
}
