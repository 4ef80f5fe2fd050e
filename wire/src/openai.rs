//! The few parts of OpenAI's shapes that hub and registrar look into. All else passes through.

use serde::Deserialize;

use crate::json::{JsonError, Object, each_element, member, quote, unquote};

/// The request that goes to the backend (SPEC.md section 3.3): `model` becomes `model` when one is given, `stream`
/// follows `streaming`, and without streaming `stream_options` goes. So does what some backends take for one of these
/// ([`folds`](crate::json::folds)). All other members keep their value.
pub fn backend_request(request: &str, model: Option<&str>, streaming: bool) -> Result<String, JsonError> {
    let mut object = named(request, model)?;
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
    let mut object = named(request, model)?;
    object.remove("stream");
    object.remove("stream_options");
    Ok(object.to_string())
}

/// The request with `model`, and without a second word on it or on streaming.
fn named<'a>(request: &'a str, model: Option<&str>) -> Result<Object<'a>, JsonError> {
    let mut object = Object::parse(request)?;
    if let Some(model) = model {
        object.set("model", quote(model));
        object.remove_odd("model");
    }
    object.remove_odd("stream");
    object.remove_odd("stream_options");
    Ok(object)
}

/// A whole `chat.completion` as the one `chat.completion.chunk` that says the same: `message` becomes `delta`, tool
/// calls get their `index`.
pub fn completion_as_chunk(completion: &str) -> Result<String, JsonError> {
    let mut object = Object::parse(completion)?;
    object.set("object", quote("chat.completion.chunk"));
    let choices = each_changed(object.get("choices").unwrap_or("[]"), |_, choice, out| {
        choice_as_delta(choice).map(|choice| out.push_str(&choice))
    })?;
    object.set("choices", choices);
    Ok(object.to_string())
}

/// The JSON list `list` with what `change` writes in the place of each element; nothing is kept of them meanwhile.
fn each_changed(
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
            let calls = each_changed(calls, |index, call, out| {
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
    let usage = member(body, "usage").filter(|usage| usage.starts_with('{'))?;
    let number = |keys: [&str; 2]| keys.iter().find_map(|key| member(usage, key)?.parse().ok());
    Some(Usage {
        input: number(["prompt_tokens", "input_tokens"]),
        output: number(["completion_tokens", "output_tokens"]),
    })
}

/// Characters of an error body in which no words are found.
const MAX_WORDLESS: usize = 500;

/// The words in a backend's error body: of `{"error":{"message":…}}` and `{"error":"…"}`, else of `message`, `msg`,
/// `detail`, `errors`, `err_msg`, `reason`, `description` and `title`, which may be texts, objects or lists of them
/// (`{"detail":[{"loc":["body","n"],"msg":"…"}]}`). A JSON object without any is its own compact text, cut to 500
/// characters. `None` for what is no JSON object.
pub fn error_message(body: &str) -> Option<String> {
    let object = Object::parse(body).ok()?;
    words_of(&object, 0).or_else(|| {
        let text = crate::json::compact(body).ok()?;
        Some(text.chars().take(MAX_WORDLESS).collect())
    })
}

/// Whether a JSON object has members in which [`error_message`] finds words.
pub fn has_error_words(body: &str) -> bool {
    // Of a body of any size nothing is kept but the places of these.
    ERROR_WORDS.iter().any(|key| member(body, key).is_some_and(|value| words(value, 1).is_some()))
}

/// Members that hold the words of an error, the likeliest first.
const ERROR_WORDS: [&str; 13] = [
    "error",
    "message",
    "msg",
    "detail",
    "errors",
    "error_message",
    "error_msg",
    "err_msg",
    "errmsg",
    "reason",
    "description",
    "error_description",
    "title",
];

fn words_of(object: &Object<'_>, depth: usize) -> Option<String> {
    ERROR_WORDS.iter().find_map(|key| words(object.get(key)?, depth + 1))
}

/// The words in a member's value. Of a list those of its first items, up to [`MAX_WORDLESS`] characters and the item that
/// goes beyond them; nothing is kept of the others, however many.
fn words(value: &str, depth: usize) -> Option<String> {
    /// Deepest level that is looked at: `errors`, its items, their `error`, its `message`.
    const MAX_LEVEL: usize = 4;

    if depth > MAX_LEVEL {
        return None;
    }
    match value.as_bytes().first()? {
        b'"' => unquote(value).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        b'{' => {
            let object = Object::parse(value).ok()?;
            let said = words_of(&object, depth)?;
            // FastAPI's way to say which key is wrong.
            let place = object.get("loc").map(|loc| {
                joined(loc, ".", |part| {
                    Some(part.trim_matches('"').to_owned()).filter(|part| !part.is_empty())
                })
            });
            Some(match place.flatten() {
                Some(place) => format!("{place}: {said}"),
                None => said,
            })
        }
        b'[' => joined(value, "; ", |item| words(item, depth + 1)),
        _ => None,
    }
}

/// What `said` has of the items of the JSON list `list`, up to the one with which it is long enough; `None` where it has
/// nothing of any.
fn joined(list: &str, between: &str, mut said: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut all = String::new();
    let add = |item: &str| {
        if all.len() < MAX_WORDLESS
            && let Some(text) = said(item)
        {
            if !all.is_empty() {
                all.push_str(between);
            }
            all.push_str(&text);
        }
    };
    each_element(list, add).ok()?;
    Some(all).filter(|all| !all.is_empty())
}

/// An error in OpenAI's shape.
pub fn error_body(message: &str, kind: &str, code: Option<&str>) -> String {
    error_about(None, message, kind, code)
}

/// The same about one member of the request.
pub fn error_about(param: Option<&str>, message: &str, kind: &str, code: Option<&str>) -> String {
    let [param, code] = [param, code].map(|text| text.map_or_else(|| "null".to_owned(), quote));
    format!(
        r#"{{"error":{{"message":{},"type":{},"param":{param},"code":{code}}}}}"#,
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

    /// Go's reader takes `Model` for `model`, and the last of them.
    #[test]
    fn nothing_goes_on_that_some_backends_take_for_the_model_or_for_a_stream() {
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
        // A caller who may choose the model chooses it in any letters.
        let own = r#"{"model":"x","Model":"y","n":1}"#;
        assert_eq!(unstreamed_request(own, None).unwrap(), own);
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
    fn usage_is_read_in_both_dialects_and_what_is_no_object_is_none() {
        let both = Some(Usage { input: Some(3), output: Some(4) });
        assert_eq!(usage(r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#), both);
        assert_eq!(usage(r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#), both);
        for other in ["null", "5", "[]", r#""x""#] {
            assert_eq!(usage(&format!(r#"{{"usage":{other}}}"#)), None, "{other}");
        }
        assert_eq!(usage(r#"{"choices":[]}"#), None);
    }

    #[test]
    fn a_backends_words_are_found_in_each_of_the_usual_shapes() {
        for body in [
            r#"{"error":{"message":"m","code":1}}"#,
            r#"{"error":"m"}"#,
            r#"{"message":"m"}"#,
            r#"{"detail":"m"}"#,
            r#"{"msg":"m","code":3}"#,
            r#"{"errors":["m"]}"#,
            r#"{"err_msg":"m"}"#,
            r#"{"errors":[{"title":"m"}]}"#,
            r#"{"title":"m","status":422}"#,
            r#"{"error":{"error":{"message":"m"}}}"#,
            r#"{"error":null,"message":"m"}"#,
            r#"{"error":{"message":""},"detail":"m"}"#,
        ] {
            assert_eq!(error_message(body).as_deref(), Some("m"), "{body}");
            assert!(has_error_words(body), "{body}");
        }
        for wordless in
            ["{}", r#"{"code":7}"#, r#"{"error":null,"message":""}"#, r#"{"message":{"role":"m"}}"#]
        {
            assert!(!has_error_words(wordless), "{wordless}");
        }
        let fields = r#"{"detail":[{"loc":["body","n",0],"msg":"too small"},{"msg":"no \ud83d"}]}"#;
        assert_eq!(error_message(fields).as_deref(), Some("body.n.0: too small; no \u{fffd}"));
        assert_eq!(error_message(r#"{ "code": 7 }"#).as_deref(), Some(r#"{"code":7}"#));
        assert_eq!(error_message(&format!(r#"{{"x":"{}"}}"#, "é".repeat(900))).unwrap().chars().count(), 500);
        assert_eq!(error_message("<html>"), None);
    }

    /// A23: an error may be as long as a body.
    #[test]
    fn of_a_list_of_words_the_first_are_told_and_no_item_is_cut() {
        let many = format!(r#"{{"detail":[{}"end"]}}"#, r#""one of many","#.repeat(1000));
        let told = error_message(&many).unwrap();
        assert!(told.starts_with("one of many; one of many; "), "{told}");
        assert!((500..520).contains(&told.len()) && told.ends_with("one of many"), "{told}");
        let long = format!(r#"{{"detail":[0,null,"{0}","{0}"]}}"#, "x".repeat(900));
        assert_eq!(error_message(&long).unwrap().len(), 900);
        let place = format!(r#"{{"detail":[{{"loc":[{}"z"],"msg":"m"}}]}}"#, r#""a","#.repeat(1000));
        assert_eq!(error_message(&place).unwrap().len(), 501 + ": m".len());
    }
}
