//! Letter case and escapes in names.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{any_json, content_part, param};

#[test]
fn only_lower_case_names_are_exempt_from_inspection() {
    for name in ["INPUT", "Arguments", "Schema", "\u{17f}chema", r"\u017fchema", "inputSchema"] {
        let of = |name: &str| {
            content_part(&format!(r#"{{"type":"tool_use","{name}":{{"image_url":"http://x"}}}}"#))
        };
        assert!(param(&of(name)).is_some(), "{name}");
        assert_eq!(param(&of(r"\u0069nput")), None);
    }
    assert_eq!(param(r#"{"Documents":[{"url":"http://x"}]}"#).as_deref(), Some("Documents"));
    assert_eq!(param(r#"{"Metadata":{"url":"http://x"}}"#).as_deref(), Some("Metadata"));
}

/// `value` with an upper-case letter in its keys for each bit of `how`, or one of the two non-ASCII letters that fold to ASCII.
fn with_other_case(value: Value, how: &mut u64) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| with_other_case(item, how)).collect(),
        Value::Object(members) => {
            let other = |letter: char, how: &mut u64| {
                *how = how.rotate_left(1);
                match letter {
                    _ if *how & 1 == 0 => letter,
                    's' if *how & 2 == 0 => '\u{17f}',
                    'k' if *how & 2 == 0 => '\u{212a}',
                    letter => letter.to_ascii_uppercase(),
                }
            };
            let members = members.into_iter().map(|(key, value)| {
                let key: String = key.chars().map(|letter| other(letter, how)).collect();
                (key, with_other_case(value, how))
            });
            Value::Object(members.collect())
        }
        value => value,
    }
}

proptest! {
    #[test]
    fn a_refusal_does_not_depend_on_the_letter_case_of_keys(
        value in any_json(), root in prop::sample::select(vec!["messages", "input", "tools", "prompt", "store", "x"]), how in any::<u64>()
    ) {
        let request = json!({ root: [ { "content": value } ], "store": value });
        let other = with_other_case(request.clone(), &mut { how });
        if param(&request.to_string()).is_some() {
            prop_assert!(param(&other.to_string()).is_some(), "{other}");
        }
    }
}

#[test]
fn escapes_in_names_and_types_are_decoded() {
    for (request, at) in [
        (r#"{"mcp\u005fservers":[{"type":"url"}]}"#, "mcp"),
        (r#"{"previous\u005fresponse\u005fid":"r"}"#, "previous"),
        (r#"{"input":[{"type":"item_r\u0065ference","id":"msg_1"}]}"#, "input"),
        (r#"{"input":[{"type":"inp\u0075t_im\u0061ge","source":"http://x"}]}"#, "input"),
    ] {
        assert_eq!(param(request).as_deref(), Some(at), "{request}");
    }
}
