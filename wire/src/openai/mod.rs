//! The parts of OpenAI's requests and answers that hub and registrar read or change. The rest is passed on.

mod content;
mod errors;
mod usage;

use serde::Deserialize;

use crate::json::{JsonError, Object, each_element, quote};

pub use content::has_content;
pub use errors::{error_about, error_body, error_message, has_error_message};
pub use usage::{MAX_TOKENS, PromptCache, Usage, answer_usage, is_usage_chunk, token_count, usage};

/// Builds the request for the backend (SPEC.md section 3.3): sets `model` if one is given, sets `stream` to `streaming`, and removes
/// `stream_options` unless streaming. Members that some backends read as one of these ([`folds`](crate::json::folds)) are removed.
pub fn backend_request(request: &str, model: Option<&str>, streaming: bool) -> Result<String, JsonError> {
    let mut object = with_model(request, model)?;
    if streaming {
        object.set("stream", "true");
    } else {
        object.set("stream", "false");
        object.remove("stream_options");
    }
    Ok(object.to_string())
}

/// Like [`backend_request`], for an endpoint without streaming: removes `stream` and `stream_options`.
pub fn unstreamed_request(request: &str, model: Option<&str>) -> Result<String, JsonError> {
    let mut object = with_model(request, model)?;
    object.remove("stream");
    object.remove("stream_options");
    Ok(object.to_string())
}

/// Sets `model` if one is given, and removes misspelled duplicates of it and of the streaming members.
fn with_model<'a>(request: &'a str, model: Option<&str>) -> Result<Object<'a>, JsonError> {
    let mut object = Object::parse(request)?;
    if let Some(model) = model {
        object.set("model", quote(model));
        object.remove_odd("model");
    }
    object.remove_odd("stream");
    object.remove_odd("stream_options");
    Ok(object)
}

/// Converts a `chat.completion` to an equivalent `chat.completion.chunk`: `message` becomes `delta`, and tool calls get an `index`.
pub fn completion_as_chunk(completion: &str) -> Result<String, JsonError> {
    let mut object = Object::parse(completion)?;
    object.set("object", quote("chat.completion.chunk"));
    let choices = map_elements(object.get("choices").unwrap_or("[]"), |_, choice, out| {
        choice_as_delta(choice).map(|choice| out.push_str(&choice))
    })?;
    object.set("choices", choices);
    Ok(object.to_string())
}

/// Replaces each element of the JSON array `list` with what `change` appends for it.
fn map_elements(
    list: &str,
    mut change: impl FnMut(usize, &str, &mut String) -> Result<(), JsonError>,
) -> Result<String, JsonError> {
    if !list.starts_with('[') {
        return Err(JsonError::Syntax(0));
    }
    let mut out = String::with_capacity(list.len() + 2);
    out.push('[');
    let (mut index, mut done) = (0, Ok(()));
    each_element(list, |element| {
        if done.is_ok() {
            if index > 0 {
                out.push(',');
            }
            done = change(index, element, &mut out);
            index += 1;
        }
    })?;
    out.push(']');
    done.map(|()| out)
}

fn choice_as_delta(choice: &str) -> Result<String, JsonError> {
    let mut choice = Object::parse(choice)?;
    if let Some(message) = choice.get("message") {
        let mut delta = Object::parse(message)?;
        if let Some(calls) = delta.get("tool_calls").filter(|calls| calls.starts_with('[')) {
            let calls = map_elements(calls, |index, call, out| {
                let mut call = Object::parse(call)?;
                call.set_default("index", index.to_string());
                out.push_str(&call.to_string());
                Ok(())
            })?;
            delta.set("tool_calls", calls);
        }
        let delta = delta.to_string();
        choice.set("message", delta);
        choice.rename("message", "delta");
    }
    Ok(choice.to_string())
}

/// Returns the model that a request names.
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
    fn the_published_model_replaces_escaped_and_repeated_keys() {
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

    /// Go reads `Model` as `model`, and takes the last of them.
    #[test]
    fn misspelled_model_and_stream_members_are_removed() {
        for odd in
            ["Model", "MODEL", r"\u004dodel", "STREAM", "\u{17f}tream", r"\u017ftream", "Stream_options"]
        {
            let request = format!(r#"{{"model":"x","{odd}":"other","models":1,"n":2}}"#);
            assert_eq!(
                backend_request(&request, Some("m"), false).unwrap(),
                r#"{"model":"m","models":1,"n":2,"stream":false}"#
            );
            let plain = r#"{"model":"m","models":1,"n":2}"#;
            assert_eq!(unstreamed_request(&request, Some("m")).unwrap(), plain, "{odd}");
        }
        // Without a published model, the caller chooses the model.
        let own = r#"{"model":"x","Model":"y","n":1}"#;
        assert_eq!(unstreamed_request(own, None).unwrap(), own);
    }

    #[test]
    fn a_completion_becomes_one_chunk_with_indexed_tool_calls() {
        let whole = r#"{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"a"},{"id":"b"}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3}}"#;
        assert_eq!(
            completion_as_chunk(whole).unwrap(),
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"id":"a","index":0},{"id":"b","index":1}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":3}}"#
        );
    }
}
