//! Error bodies: reads the message of a backend's error, and writes errors in OpenAI's shape.

use crate::json::{Object, each_element, member, quote, unquote};

/// Maximum length, in characters, of an error body that is quoted for lack of a message; also the length at which joined messages end.
const MAX_QUOTE: usize = 500;

/// Extracts the message from a backend's error body: from `ERROR_MEMBERS`, whose values are texts, objects or arrays of these
/// (`{"detail":[{"loc":["body","n"],"msg":"…"}]}`). If there is none, returns the compact body, cut to 500 characters. `None` if
/// the body is no JSON object.
pub fn error_message(body: &str) -> Option<String> {
    let object = Object::parse(body).ok()?;
    object_message(&object, 0).or_else(|| {
        let text = crate::json::compact(body).ok()?;
        Some(text.chars().take(MAX_QUOTE).collect())
    })
}

/// Whether [`error_message`] finds a message in a JSON object.
pub fn has_error_message(body: &str) -> bool {
    // A scan in constant memory, since a body can have any size.
    ERROR_MEMBERS.iter().any(|key| member(body, key).is_some_and(|value| value_message(value, 1).is_some()))
}

/// Members that can hold the message of an error, the most likely first.
const ERROR_MEMBERS: [&str; 13] = [
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

fn object_message(object: &Object<'_>, depth: usize) -> Option<String> {
    ERROR_MEMBERS.iter().find_map(|key| value_message(object.get(key)?, depth + 1))
}

/// Extracts the message from a member's value. An array's messages are joined until they exceed [`MAX_QUOTE`] bytes.
fn value_message(value: &str, depth: usize) -> Option<String> {
    /// Maximum nesting: `errors`, its items, their `error`, its `message`.
    const MAX_DEPTH: usize = 4;

    if depth > MAX_DEPTH {
        return None;
    }
    match value.as_bytes().first()? {
        b'"' => unquote(value).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
        b'{' => {
            let object = Object::parse(value).ok()?;
            let message = object_message(&object, depth)?;
            // FastAPI names the invalid member so.
            let place = object.get("loc").map(|loc| {
                joined(loc, ".", |part| {
                    Some(part.trim_matches('"').to_owned()).filter(|part| !part.is_empty())
                })
            });
            Some(match place.flatten() {
                Some(place) => format!("{place}: {message}"),
                None => message,
            })
        }
        b'[' => joined(value, "; ", |item| value_message(item, depth + 1)),
        _ => None,
    }
}

/// Joins the texts that `item_text` returns for the items of the JSON array `list`; `None` if there are none.
fn joined(list: &str, separator: &str, mut item_text: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut all = String::new();
    let add = |item: &str| {
        if all.len() < MAX_QUOTE
            && let Some(text) = item_text(item)
        {
            if !all.is_empty() {
                all.push_str(separator);
            }
            all.push_str(&text);
        }
    };
    each_element(list, add).ok()?;
    Some(all).filter(|all| !all.is_empty())
}

/// Formats an error in OpenAI's shape.
pub fn error_body(message: &str, kind: &str, code: Option<&str>) -> String {
    error_about(None, message, kind, code)
}

/// Like [`error_body`], and names the invalid member of the request.
pub fn error_about(param: Option<&str>, message: &str, kind: &str, code: Option<&str>) -> String {
    let [param, code] = [param, code].map(|text| text.map_or_else(|| "null".to_owned(), quote));
    format!(
        r#"{{"error":{{"message":{},"type":{},"param":{param},"code":{code}}}}}"#,
        quote(message),
        quote(kind)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_each_common_shape_of_errors() {
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
            assert!(has_error_message(body), "{body}");
        }
        for other in ["{}", r#"{"code":7}"#, r#"{"error":null,"message":""}"#, r#"{"message":{"role":"m"}}"#]
        {
            assert!(!has_error_message(other), "{other}");
        }
        let fields = r#"{"detail":[{"loc":["body","n",0],"msg":"too small"},{"msg":"no \ud83d"}]}"#;
        assert_eq!(error_message(fields).as_deref(), Some("body.n.0: too small; no \u{fffd}"));
        assert_eq!(error_message(r#"{ "code": 7 }"#).as_deref(), Some(r#"{"code":7}"#));
        assert_eq!(error_message(&format!(r#"{{"x":"{}"}}"#, "é".repeat(900))).unwrap().chars().count(), 500);
        assert_eq!(error_message("<html>"), None);
    }

    /// A23: an error can be as long as a body.
    #[test]
    fn long_arrays_of_messages_are_cut_between_items() {
        let many = format!(r#"{{"detail":[{}"end"]}}"#, r#""one of many","#.repeat(1000));
        let message = error_message(&many).unwrap();
        assert!(message.starts_with("one of many; one of many; "), "{message}");
        assert!((500..520).contains(&message.len()) && message.ends_with("one of many"), "{message}");
        let long = format!(r#"{{"detail":[0,null,"{0}","{0}"]}}"#, "x".repeat(900));
        assert_eq!(error_message(&long).unwrap().len(), 900);
        let place = format!(r#"{{"detail":[{{"loc":[{}"z"],"msg":"m"}}]}}"#, r#""a","#.repeat(1000));
        assert_eq!(error_message(&place).unwrap().len(), 501 + ": m".len());
    }
}
