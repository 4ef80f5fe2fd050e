//! Log probabilities, which tell an answer's tokens again, in texts and as bytes.

use memchr::memchr2;

use super::strings;

/// Name of the member, with its quotes.
const NAME: &str = "\"logprobs\"";

/// `json` without what its members `logprobs` tell: `null`, or `[]` where there is a list.
pub(super) fn emptied(json: String) -> String {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    for found in strings(&json) {
        // Within another one's list the same name stands again.
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

/// Bytes of the object or list at the beginning of `json`.
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

/// Where the string ends that has begun before `at`, with its quote.
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

    /// Any JSON, with members of this name and of another one.
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
        /// Whatever is around and in them, they are empty and all else is as it was.
        #[test]
        fn log_probabilities_are_emptied_and_all_else_stays(value in any_json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let clean: Value = serde_json::from_str(&emptied(text)).unwrap();
            prop_assert_eq!(clean, emptied_tree(value));
        }
    }
}
