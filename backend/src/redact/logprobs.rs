//! Removes log probabilities, which repeat the tokens of an answer as texts and as bytes.

use memchr::memchr2;

use super::strings::strings;

/// The quoted name of the member.
const NAME: &str = "\"logprobs\"";

/// Replaces the value of each member `logprobs`: an object by `null`, an array by `[]`.
pub(super) fn remove(json: String) -> String {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    for found in strings(&json) {
        // The removed value can contain members of the same name.
        if found.start < copied || !found.is_name || &json[found.start..found.end] != NAME {
            continue;
        }
        let value = bytes[found.end..].iter().position(|byte| !byte.is_ascii_whitespace() && *byte != b':');
        let Some(start) = value.map(|at| found.end + at) else { break };
        let empty = match bytes[start] {
            b'{' => "null",
            b'[' => "[]",
            _ => continue,
        };
        out.push_str(&json[copied..start]);
        out.push_str(empty);
        copied = start + length(&bytes[start..]);
    }
    if copied > 0 { out + &json[copied..] } else { json }
}

/// Returns the length of the object or array at the beginning of `json`.
fn length(json: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at = after_string(json, at),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => (),
        }
    }
    json.len()
}

/// Returns the offset after a string whose opening quote is before `at`.
fn after_string(json: &[u8], mut at: usize) -> usize {
    while let Some(stop) = json.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += stop + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Any JSON with members `logprobs` and `a`.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],: é]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((prop_oneof![Just("logprobs"), Just("a")], inner), 0..3).prop_map(
                    |members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
                ),
            ]
        })
    }

    fn emptied_tree(value: Value) -> Value {
        match value {
            Value::Array(all) => all.into_iter().map(emptied_tree).collect(),
            Value::Object(all) => all
                .into_iter()
                .map(|(name, value)| {
                    let value = match value {
                        Value::Object(_) if name == "logprobs" => Value::Null,
                        Value::Array(_) if name == "logprobs" => json!([]),
                        value => emptied_tree(value),
                    };
                    (name, value)
                })
                .collect(),
            value => value,
        }
    }

    proptest! {
        #[test]
        fn log_probabilities_are_removed_and_the_rest_is_kept(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let clean: Value = serde_json::from_str(&remove(text)).unwrap();
            prop_assert_eq!(clean, emptied_tree(value));
        }
    }
}
