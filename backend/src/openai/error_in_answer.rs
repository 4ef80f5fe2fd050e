//! Finds errors in answers and events whose status is a success.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;
use serde_json::Value;
use wire::json::{each_element, each_member, member, unquote};
use wire::openai::{error_message, has_error_message};
use wire::task::Endpoint;

use super::MAX_ERROR;

/// An error larger than this, in bytes, counts as not empty without being parsed.
const MAX_EMPTY: usize = 4 << 10;

// Built once: the searches are made for every chunk.
static ERROR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"error\""));
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"choices\""));

/// An error in the data of an event, or in the body of a 200.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ErrorInAnswer {
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

/// Members that hold the answer in the APIs of [`Endpoint`].
const ANSWERS: [&str; 5] = ["choices", "data", "results", "content", "output"];

impl ErrorInAnswer {
    /// Creates the error of an event named `error`.
    pub(super) fn named(data: &str) -> Self {
        Self { status: status(data), data: (data.len() <= MAX_ERROR).then(|| data.to_owned()) }
    }

    /// The error that the JSON object of an event tells of, if it does: `{"error": …}`, `{"object":"error", …}`,
    /// `{"type":"error", …}`, `{"choices":[{"error": …}]}`; and, where the API has `choices`, one with neither these nor
    /// `usage` that has an error's words or names its status.
    pub(super) fn of(data: &str, endpoint: Endpoint) -> Option<Self> {
        Self::marked(data, endpoint).or_else(|| {
            let is_other = lacks_choices(data, endpoint)
                && !member(data, "usage").is_some_and(|usage| usage.starts_with('{'));
            (is_other && (status(data).is_some() || is_failure(data))).then(|| Self::named(data))
        })
    }

    /// The same of a whole body, which is no answer without the `choices` of its API.
    pub(super) fn of_whole(data: &str, endpoint: Endpoint) -> Option<Self> {
        let is_object = || data.trim_start().starts_with('{') && each_member(data, |_, _| ()).is_ok();
        let is_other = || lacks_choices(data, endpoint) && is_object();
        Self::marked(data, endpoint).or_else(|| is_other().then(|| Self::named(data)))
    }

    /// The error that says that it is one.
    fn marked(data: &str, endpoint: Endpoint) -> Option<Self> {
        // In valid JSON these bytes are a whole string or the end of one, so most chunks are done after one search.
        ERROR.find(data.as_bytes())?;
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
        // An empty one beside an answer is how some servers say that there is none.
        let says = get("error").is_some_and(|error| {
            error != "null" && (says_something(error) || !ANSWERS.iter().any(|key| get(key).is_some()))
        });
        if is_named || says {
            return Some(Self::named(data));
        }
        let error = get("choices").filter(|_| has_choices(endpoint)).and_then(error_of_choice)?;
        Some(Self::named(&format!(r#"{{"error":{error}}}"#)))
    }
}

/// Whether an object without an answer reports a failure: it has a member that only errors have, or a message beside a
/// code or flag of failure. A message alone can be a progress report.
fn is_failure(data: &str) -> bool {
    const ERRORS: [&str; 8] =
        ["error", "errors", "detail", "error_message", "error_msg", "err_msg", "errmsg", "error_description"];

    let is_marked = || {
        member(data, "success") == Some("false")
            || member(data, "code").is_some_and(|code| !matches!(code, "0" | "200" | "null" | "\"\""))
    };
    has_error_message(data) && (ERRORS.iter().any(|key| member(data, key).is_some()) || is_marked())
}

/// Whether answers of the API are lists of choices.
fn has_choices(endpoint: Endpoint) -> bool {
    matches!(endpoint, Endpoint::ChatCompletions | Endpoint::Completions)
}

/// Whether `data` has no list of choices, although its API has.
fn lacks_choices(data: &str, endpoint: Endpoint) -> bool {
    if !has_choices(endpoint) || begins_with_choices(data) {
        return false;
    }
    !member(data, "choices").is_some_and(|choices| choices.starts_with('['))
}

/// Whether nothing but single values stands before the `choices` of `data`, as with every known server: two short searches
/// instead of a scan for nearly all chunks.
fn begins_with_choices(data: &str) -> bool {
    let Some(at) = CHOICES.find(data.as_bytes()) else { return false };
    let (before, rest) = (&data[..at], &data[at + CHOICES.needle().len()..]);
    let is_list =
        || rest.trim_start().strip_prefix(':').is_some_and(|list| list.trim_start().starts_with('['));
    let is_outer = || {
        let inner = before.trim_start().strip_prefix('{');
        inner.is_some_and(|inner| !inner.ends_with('\\') && memchr2(b'{', b'[', inner.as_bytes()).is_none())
    };
    is_list() && is_outer()
}

/// The first error in a list of choices that says something.
fn error_of_choice(choices: &str) -> Option<&str> {
    let mut found = None;
    each_element(choices, |choice| {
        if found.is_none() {
            found = member(choice, "error").filter(|error| says_something(error));
        }
    })
    .ok()?;
    found
}

/// Whether the JSON value of an `error` is not empty.
fn says_something(error: &str) -> bool {
    error.len() > MAX_EMPTY || serde_json::from_str(error).map_or(true, |said: Value| !is_empty(&said))
}

/// Whether `value` has only null, false, zero and blank values.
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
mod tests;
