//! Merges two chunks into an equivalent one (SPEC.md section 3.5).

use serde_json::value::RawValue;

use crate::json::Object;

/// Merges two chunks that differ only in `delta.content` of their single choice; `None` for any others.
pub fn merged(first: &str, second: &str) -> Option<String> {
    let (mut chunk, next) = (Object::parse(first).ok()?, Object::parse(second).ok()?);
    let [choice]: [&RawValue; 1] = serde_json::from_str(chunk.get("choices")?).ok()?;
    let [next_choice]: [&RawValue; 1] = serde_json::from_str(next.get("choices")?).ok()?;
    if !same_but_for("choices", &chunk, &next) {
        return None;
    }
    let choice = merged_choice(&Object::parse(choice.get()).ok()?, &Object::parse(next_choice.get()).ok()?)?;
    chunk.set("choices", format!("[{choice}]"));
    Some(chunk.to_string())
}

fn merged_choice(first: &Object<'_>, second: &Object<'_>) -> Option<String> {
    let (mut delta, next) =
        (Object::parse(first.get("delta")?).ok()?, Object::parse(second.get("delta")?).ok()?);
    if !same_but_for("delta", first, second) || !same_but_for("content", &delta, &next) {
        return None;
    }
    // Joining the literals needs no unescaping, and reunites a surrogate pair that was split.
    let content = delta.get("content")?.strip_suffix('"')?;
    let more = next.get("content")?.strip_prefix('"')?;
    let content = format!("{content}{more}");
    delta.set("content", content);
    let mut choice = first.clone();
    choice.set("delta", delta.to_string());
    Some(choice.to_string())
}

/// Whether two objects have the same members in the same order, except for the value of `key`.
fn same_but_for(key: &str, first: &Object<'_>, second: &Object<'_>) -> bool {
    let alike = |(a, b): ((&str, &str), (&str, &str))| a.0 == b.0 && (a.0 == key || a.1 == b.1);
    first.members().count() == second.members().count() && first.members().zip(second.members()).all(alike)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(delta: &str, finish: &str) -> String {
        format!(
            r#"{{"id":"c","choices":[{{"index":0,"delta":{delta},"finish_reason":{finish}}}],"model":"m"}}"#
        )
    }

    #[test]
    fn chunks_that_differ_only_in_their_content_are_merged() {
        let (a, b) =
            (chunk(r#"{"content":"a\"\ud83d"}"#, "null"), chunk(r#"{"content":"\ude00\n"}"#, "null"));
        assert_eq!(merged(&a, &b).unwrap(), chunk(r#"{"content":"a\"\ud83d\ude00\n"}"#, "null"));
    }

    #[test]
    fn chunks_that_differ_in_anything_else_are_not_merged() {
        let text = chunk(r#"{"content":"a"}"#, "null");
        for other in [
            chunk(r#"{"content":"b"}"#, "\"stop\""),
            chunk(r#"{"role":"assistant","content":"b"}"#, "null"),
            chunk(r#"{"content":null}"#, "null"),
            chunk("{}", "null"),
            chunk(r#"{"content":"b"}"#, "null").replace("\"c\"", "\"d\""),
            chunk(r#"{"content":"b"}"#, "null").replace("\"index\":0", "\"index\":1"),
            chunk(r#"{"content":"b"}"#, "null").replace("\"model\"", "\"usage\":{},\"model\""),
            r#"{"id":"c","choices":[],"model":"m"}"#.to_owned(),
            "[DONE]".to_owned(),
        ] {
            assert_eq!(merged(&text, &other), None, "{other}");
            assert_eq!(merged(&other, &text), None, "{other}");
        }
    }
}
