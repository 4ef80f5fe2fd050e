//! The `stream_options` with which the hub asks a backend for the usage of a stream whose caller does not.

use bytes::Bytes;
use wire::json::spans;

use super::RequestBody;

/// Largest `stream_options` that is kept, in bytes: ten times what the known APIs define. A larger one is replaced.
const MAX_OPTIONS: usize = 4 << 10;
/// The options of a caller that sends none.
const ALONE: &str = r#"{"include_usage":true}"#;

/// The JSON text that takes the place of the caller's `stream_options`.
#[derive(Debug, Clone)]
pub(crate) struct UsageOptions(Bytes);

impl UsageOptions {
    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }

    pub(in crate::dispatch) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or(ALONE)
    }
}

impl RequestBody {
    /// The options that ask for usage; `None` if the caller's ask for it, or are none that a backend accepts. Any value but `true` is
    /// replaced: some backends take `0` or `"no"` for a refusal, and the call would count as one without a prompt.
    pub(in crate::dispatch) fn usage_options(&self) -> Option<UsageOptions> {
        let Some(span) = &self.stream_options else {
            return Some(UsageOptions(Bytes::from_static(ALONE.as_bytes())));
        };
        with_usage(&self.text[span.clone()]).map(|options| UsageOptions(options.into()))
    }
}

/// `options` with `include_usage`. Of duplicates the last counts, as for JSON readers.
fn with_usage(options: &[u8]) -> Option<Vec<u8>> {
    if options == b"null" {
        return Some(ALONE.into());
    }
    if options.first() != Some(&b'{') {
        return None;
    }
    if options.len() > MAX_OPTIONS {
        return Some(ALONE.into());
    }
    let mut text = options.to_vec();
    let [found] = spans(&mut text, ["include_usage"]).ok()?;
    match found.last() {
        Some(span) if text[span.clone()] == *b"true" => return None,
        Some(span) => {
            text.splice(span.clone(), *b"true");
        }
        None => {
            let end = text.len() - 1;
            let is_empty = text[..end].trim_ascii_end() == b"{";
            let member = br#","include_usage":true"#;
            text.splice(end..end, member[usize::from(is_empty)..].iter().copied());
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `request` becomes, and what its `stream_options` then are; `None` if it is not changed.
    fn asking(request: &str) -> Option<(String, serde_json::Value)> {
        let body = RequestBody::parse(request.into()).unwrap();
        let text = String::from_utf8(body.pieces(Some("m"), Some(&body.usage_options()?)).concat()).unwrap();
        let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["model"], "m", "{text}");
        Some((text, parsed["stream_options"].take()))
    }

    #[test]
    fn usage_is_asked_for_and_all_else_is_kept() {
        for (request, expected) in [
            (r#"{"model":"x","a":1}"#, r#"{"model":"m","a":1,"stream_options":{"include_usage":true}}"#),
            ("{}", r#"{"model":"m","stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream_options":null,"model":"x"}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m"}"#,
            ),
            (
                r#"{"model":"x","stream_options": { } }"#,
                r#"{"model":"m","stream_options": { "include_usage":true} }"#,
            ),
            (
                r#"{"stream_options":{"include_usage":false,"chunk":7}}"#,
                r#"{"stream_options":{"include_usage":true,"chunk":7},"model":"m"}"#,
            ),
            (
                r#"{"model":"x","stream_options":{"a":{"include_usage":true}},"model":"y"}"#,
                r#"{"model":"m","stream_options":{"a":{"include_usage":true},"include_usage":true},"model":"m"}"#,
            ),
            (
                r#"{"model":"x","stream_options":{"include_usage":true},"stream_options":{"include_usage":true,"include_usag\u0065":null}}"#,
                r#"{"model":"m","stream_options":{"include_usage":true},"stream_options":{"include_usage":true,"include_usag\u0065":true}}"#,
            ),
        ] {
            let (text, options) = asking(request).unwrap();
            assert_eq!(text, expected);
            assert_eq!(options["include_usage"], true, "{text}");
        }
    }

    /// A caller cannot have its prompt go uncounted.
    #[test]
    fn no_value_and_no_size_keeps_a_call_from_being_counted() {
        let padded = format!(r#"{{"include_usage":false,"a":"{}"}}"#, "x".repeat(MAX_OPTIONS));
        let values = ["0", "\"no\"", "\"true\"", "1", "{}", "[true]", "false", "null"];
        let values = values.iter().map(|value| format!(r#"{{"a":7,"include_usage":{value}}}"#));
        for options in values.chain([padded]) {
            let (text, options) = asking(&format!(r#"{{"stream_options":{options}}}"#)).unwrap();
            assert_eq!(options["include_usage"], true, "{text}");
        }
    }

    #[test]
    fn options_that_ask_for_usage_or_are_none_are_sent_as_they_are() {
        for request in [
            r#"{"stream_options":{"include_usage":true}}"#,
            r#"{"stream_options":{"include_usage":false,"include_usage":true}}"#,
            r#"{"stream_options":{},"stream_options":{"include_usage":true}}"#,
            r#"{"stream_options":[]}"#,
            r#"{"stream_options":true}"#,
            r#"{"stream_options":"x"}"#,
        ] {
            assert_eq!(asking(request), None, "{request}");
        }
    }
}
