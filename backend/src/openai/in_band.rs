//! Errors that a backend tells of under a status of success. Pure.

use std::borrow::Cow;

use memchr::memmem;
use serde_json::Value;
use wire::json::{member, unquote};
use wire::openai::error_message;
use wire::task::Endpoint;

use super::MAX_ERROR;

/// An error of more bytes than this says something, whatever it is: no tree is made to find out.
const MAX_EMPTY: usize = 4 << 10;

/// An error in the data of an event, or in the body of a 200.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InBand {
    /// The HTTP status that it names, by number or by a word that means one.
    pub(super) status: Option<u16>,
    /// What it says, as JSON or text; `None` where that is longer than [`MAX_ERROR`], and not looked at.
    pub(super) data: Option<String>,
}

/// Words that stand for a status, in `type`, `code` or `status` of an error: of OpenAI, Anthropic, vLLM, llama.cpp and
/// Google. Those that mean "it failed" (`server_error`, `api_error`) stand for none.
const STATUSES: [(u16, &[&str]); 7] = [
    (
        400,
        &[
            "invalid_request_error",
            "invalid_request",
            "context_length_exceeded",
            "exceed_context_size_error",
            "string_above_max_length",
            "badrequesterror",
            "bad_request",
            "invalid_argument",
            "invalid_prompt",
        ],
    ),
    (401, &["authentication_error", "invalid_api_key", "unauthorized", "unauthenticated"]),
    (403, &["permission_error", "permission_denied", "forbidden"]),
    (404, &["not_found_error", "notfounderror", "model_not_found", "not_found"]),
    (413, &["request_too_large"]),
    (429, &["rate_limit_error", "rate_limit_exceeded", "insufficient_quota", "resource_exhausted"]),
    (503, &["overloaded_error", "overloaded", "unavailable", "service_unavailable"]),
];

impl InBand {
    /// What an event named `error` says.
    pub(super) fn named(data: &str) -> Self {
        Self { status: status(data), data: (data.len() <= MAX_ERROR).then(|| data.to_owned()) }
    }

    /// The error that a JSON object tells of, if it does: `{"error": …}`, `{"object":"error", …}`,
    /// `{"type":"error", …}`.
    pub(super) fn of(data: &str, endpoint: Endpoint) -> Option<Self> {
        // In valid JSON these bytes are a whole string or the end of one, so most chunks are done after one search.
        memmem::find(data.as_bytes(), b"\"error\"")?;
        // Of data as long as an answer may be, nothing is kept but the places of these.
        let get = |key| member(data, key);
        // A response tells its own failure, in a shape that its callers know.
        let is_response = || {
            get("object") == Some("\"response\"")
                || get("response").is_some_and(|response| response.starts_with('{'))
        };
        if endpoint == Endpoint::Responses && is_response() {
            return None;
        }
        let is_named = get("object") == Some("\"error\"") || get("type") == Some("\"error\"");
        let says = get("error").is_some_and(|error| {
            if error.len() > MAX_EMPTY {
                return true;
            }
            let said: Value = serde_json::from_str(error).unwrap_or(Value::Bool(true));
            // An empty one beside an answer is how some servers say that there is none.
            said != Value::Null && !(is_empty(&said) && get("choices").is_some())
        });
        (is_named || says).then(|| Self::named(data))
    }
}

/// Whether nothing in `value` says anything.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(members) => members.values().all(is_empty),
    }
}

/// The status that an error names.
fn status(data: &str) -> Option<u16> {
    let levels = [member(data, "error").filter(|error| error.starts_with('{')), Some(data)];
    let numbers = levels.into_iter().flatten().find_map(|level| {
        ["code", "status", "status_code", "statusCode", "http_status"].into_iter().find_map(|key| {
            let value = member(level, key)?.trim_matches('"').parse::<f64>().ok()?;
            (400.0..600.0).contains(&value).then_some(value)
        })
    });
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "400 to 599")]
    if let Some(number) = numbers {
        return Some(number as u16);
    }
    levels.into_iter().flatten().find_map(|level| {
        ["code", "type", "status"].into_iter().find_map(|key| {
            let word = unquote(member(level, key)?)?.to_ascii_lowercase();
            STATUSES.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(status, _)| *status)
        })
    })
}

/// What an error says, in words: `json` is without secrets, since what is long is cut here.
pub(super) fn words(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'{' => error_message(json),
        b'"' => unquote(json).map(Cow::into_owned),
        _ => Some(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status that an error names, 0 for none; `None` where there is no error.
    fn of(data: &str) -> Option<u16> {
        InBand::of(data, Endpoint::ChatCompletions).map(|error| error.status.unwrap_or(0))
    }

    #[test]
    fn an_empty_error_beside_an_answer_is_no_error() {
        for error in
            ["null", r#""""#, "{}", "false", r#"{"message":"","code":null,"type":"","n":0,"more":[]}"#]
        {
            assert_eq!(of(&format!(r#"{{"choices":[{{}}],"error":{error}}}"#)), None, "{error}");
        }
        for error in [r#""out of memory""#, r#"{"code":500}"#, "true", r#"{"message":"m","code":null}"#] {
            assert!(of(&format!(r#"{{"choices":[],"error":{error}}}"#)).is_some(), "{error}");
            assert!(of(&format!(r#"{{"error":{error}}}"#)).is_some(), "{error}");
        }
        assert_eq!(of(r#"{"choices":[{"delta":{"content":"error"}}]}"#), None);
    }

    #[test]
    fn a_response_tells_its_own_failure_and_what_has_none_in_it_is_an_error() {
        let is_error = |data: &str| InBand::of(data, Endpoint::Responses).is_some();
        for own in [
            r#"{"object":"response","status":"failed","error":{"message":"m"}}"#,
            r#"{"type":"response.failed","response":{"error":{"message":"m"}},"error":"m"}"#,
        ] {
            assert!(!is_error(own), "{own}");
        }
        for response in ["null", "5", r#""{""#, "[]"] {
            let error = format!(r#"{{"type":"error","response":{response},"error":{{"message":"m"}}}}"#);
            assert!(is_error(&error), "{error}");
        }
    }

    /// As long as a body may be: its status is found, and of its words nothing is kept.
    #[test]
    fn of_a_long_error_the_status_is_all_that_is_looked_at() {
        let long = "[0],".repeat(MAX_ERROR / 4);
        let error = format!(r#"{{"choices":[],"error":{{"code":422,"input":[{long}0]}}}}"#);
        let told = InBand::of(&error, Endpoint::ChatCompletions);
        assert_eq!(told, Some(InBand { status: Some(422), data: None }));
        let answer = format!(r#"{{"choices":[{long}0],"error":{{"code":null}}}}"#);
        assert_eq!(InBand::of(&answer, Endpoint::ChatCompletions), None);
    }

    #[test]
    fn the_status_is_the_one_that_the_error_names() {
        for (data, status) in [
            (r#"{"error":{"code":400,"message":"m"}}"#, 400),
            (r#"{"error":{"message":"m"},"status_code":"422"}"#, 422),
            (r#"{"object":"error","code":404}"#, 404),
            (r#"{"error":{"type":"exceed_context_size_error"}}"#, 400),
            (r#"{"error":{"code":"context_length_exceeded","type":"server_error"}}"#, 400),
            (r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#, 503),
            (r#"{"error":{"status":"RESOURCE_EXHAUSTED","code":"x"}}"#, 429),
            (r#"{"error":{"code":1213,"type":"server_error"}}"#, 0),
            (r#"{"error":"m"}"#, 0),
        ] {
            assert_eq!(of(data), Some(status), "{data}");
        }
    }
}
