//! The few parts of OpenAI's shapes that hub and registrar look into. All else passes through.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::{JsonError, Object, quote};

/// The request that goes to the backend (SPEC.md section 3.3): `model` becomes `model` when one is given, `stream`
/// follows `streaming`, and without streaming `stream_options` goes. All other members keep their value.
pub fn backend_request(request: &str, model: Option<&str>, streaming: bool) -> Result<String, JsonError> {
    let mut object = Object::parse(request)?;
    if let Some(model) = model {
        object.set("model", quote(model));
    }
    if streaming {
        object.set("stream", "true");
    } else {
        object.set("stream", "false");
        object.remove("stream_options");
    }
    Ok(object.to_string())
}

/// As [`backend_request`], for an endpoint that knows no streaming: `stream` and `stream_options` go.
pub fn unstreamed_request(request: &str, model: Option<&str>) -> Result<String, JsonError> {
    let mut object = Object::parse(request)?;
    if let Some(model) = model {
        object.set("model", quote(model));
    }
    object.remove("stream");
    object.remove("stream_options");
    Ok(object.to_string())
}

/// A whole `chat.completion` as the one `chat.completion.chunk` that says the same: `message` becomes `delta`, tool
/// calls get their `index`.
pub fn completion_as_chunk(completion: &str) -> Result<String, JsonError> {
    let mut object = Object::parse(completion)?;
    object.set("object", quote("chat.completion.chunk"));
    let choices: Vec<&RawValue> = match object.get("choices") {
        Some(choices) => serde_json::from_str(choices).map_err(|_| JsonError::Syntax(0))?,
        None => Vec::new(),
    };
    let choices =
        choices.into_iter().map(|choice| choice_as_delta(choice.get())).collect::<Result<Vec<_>, _>>()?;
    let choices = format!("[{}]", choices.join(","));
    object.set("choices", choices);
    Ok(object.to_string())
}

fn choice_as_delta(choice: &str) -> Result<String, JsonError> {
    let mut choice = Object::parse(choice)?;
    if let Some(message) = choice.get("message") {
        let mut delta = Object::parse(message)?;
        if let Some(calls) = delta.get("tool_calls").filter(|calls| calls.starts_with('[')) {
            let calls: Vec<&RawValue> = serde_json::from_str(calls).map_err(|_| JsonError::Syntax(0))?;
            let mut indexed = Vec::with_capacity(calls.len());
            for (index, call) in calls.into_iter().enumerate() {
                let mut call = Object::parse(call.get())?;
                call.set_default("index", index.to_string());
                indexed.push(call.to_string());
            }
            let calls = format!("[{}]", indexed.join(","));
            delta.set("tool_calls", calls);
        }
        let delta = delta.to_string();
        choice.set("message", delta);
        choice.rename("message", "delta");
    }
    Ok(choice.to_string())
}

/// What an answer says that it cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read: `prompt_tokens`, or `input_tokens` of the responses and messages APIs.
    pub input: Option<u64>,
    /// Tokens written: `completion_tokens`, or `output_tokens`.
    pub output: Option<u64>,
}

/// The `usage` in an answer or a chunk, if it has one.
pub fn usage(body: &str) -> Option<Usage> {
    // Most chunks have none: a search is cheaper than a parse.
    memchr::memmem::find(body.as_bytes(), b"\"usage\"")?;
    let usage = Object::parse(body).ok()?;
    let usage = Object::parse(usage.get("usage")?).ok()?;
    let number = |keys: [&str; 2]| keys.iter().find_map(|key| usage.get(key)?.parse().ok());
    Some(Usage {
        input: number(["prompt_tokens", "input_tokens"]),
        output: number(["completion_tokens", "output_tokens"]),
    })
}

/// The message in a backend's error body: `{"error":{"message":…}}`, `{"error":"…"}`, `{"message":…}`, `{"detail":…}`.
pub fn error_message(body: &str) -> Option<String> {
    let object = Object::parse(body).ok()?;
    if let Some(error) = object.get("error") {
        let inner = Object::parse(error).ok().and_then(|inner| inner.get_string("message"));
        if let Some(message) = inner.or_else(|| serde_json::from_str(error).ok()) {
            return Some(message);
        }
    }
    object.get_string("message").or_else(|| object.get_string("detail"))
}

/// An error in OpenAI's shape.
pub fn error_body(message: &str, kind: &str, code: Option<&str>) -> String {
    let code = code.map_or_else(|| "null".to_owned(), quote);
    format!(
        r#"{{"error":{{"message":{},"type":{},"param":null,"code":{code}}}}}"#,
        quote(message),
        quote(kind)
    )
}

/// The model that a request names.
pub fn requested_model(request: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Head {
        model: Option<String>,
    }
    serde_json::from_str::<Head>(request).ok()?.model
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_gets_the_published_model_whatever_way_it_writes_the_key() {
        let request =
            r#"{"model":"x","mod\u0065l":"y","seed":18446744073709551615,"stream_options":{"a":1},"u":1.10}"#;
        assert_eq!(
            backend_request(request, Some("m"), false).unwrap(),
            r#"{"model":"m","seed":18446744073709551615,"u":1.10,"stream":false}"#
        );
        assert_eq!(
            backend_request(request, None, true).unwrap(),
            r#"{"model":"x","model":"y","seed":18446744073709551615,"stream_options":{"a":1},"u":1.10,"stream":true}"#
        );
    }

    #[test]
    fn a_whole_completion_becomes_one_chunk_with_indexed_tool_calls() {
        let whole = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a"},{"id":"b"}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3}}"#;
        assert_eq!(
            completion_as_chunk(whole).unwrap(),
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"id":"a","index":0},{"id":"b","index":1}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3}}"#
        );
    }

    #[test]
    fn usage_is_read_in_both_dialects_and_a_null_is_none() {
        let both = Some(Usage { input: Some(3), output: Some(4) });
        assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), both);
        assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), both);
        assert_eq!(usage(r#"{"usage":null}"#), None);
        assert_eq!(usage(r#"{"choices":[]}"#), None);
    }

    #[test]
    fn a_backends_message_is_found_in_each_of_the_usual_shapes() {
        for body in [
            r#"{"error":{"message":"m","code":1}}"#,
            r#"{"error":"m"}"#,
            r#"{"message":"m"}"#,
            r#"{"detail":"m"}"#,
        ] {
            assert_eq!(error_message(body).as_deref(), Some("m"), "{body}");
        }
        assert_eq!(error_message("<html>"), None);
    }
}
