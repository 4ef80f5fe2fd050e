//! Merges chunks that wait into an equivalent one (SPEC.md section 3.5).

use memchr::memchr2;
use serde_json::value::RawValue;

use crate::json::Object;

/// A chunk whose `delta.content` takes up that of the chunks behind it. A merge reads only the next chunk, whatever was merged
/// before.
#[derive(Debug)]
pub struct MergedChunk {
    /// The chunk as far as its content, without the closing quote.
    text: String,
    /// Bytes of `text` before the content.
    head: usize,
    /// The rest of the chunk, from the closing quote.
    tail: String,
}

impl MergedChunk {
    /// Begins with `chunk`; `None` unless it has one choice, whose delta has text and nothing else that would be lost.
    pub fn new(chunk: &str) -> Option<Self> {
        let content = content_of(chunk)?;
        let head = content.as_ptr().addr().checked_sub(chunk.as_ptr().addr())?;
        let end = head + content.len();
        Some(Self { text: chunk.get(..end)?.to_owned(), head, tail: chunk.get(end..)?.to_owned() })
    }

    /// Takes up `next`, which is JSON. `false`, without a change, unless it differs only in its content.
    pub fn push(&mut self, next: &str) -> bool {
        let content = next
            .strip_prefix(&self.text[..self.head])
            .and_then(|rest| rest.strip_suffix(self.tail.as_str()))
            .filter(|content| is_in_string(content));
        // Joining the literals needs no unescaping, and reunites a surrogate pair that was split.
        content.map(|content| self.text.push_str(content)).is_some()
    }

    /// Length of the chunk in bytes.
    pub fn size(&self) -> usize {
        self.text.len() + self.tail.len()
    }

    /// The merged chunk.
    pub fn into_text(self) -> String {
        self.text + &self.tail
    }
}

/// The content of a chunk that may be merged: its literal without the quotes, as a part of `chunk`.
fn content_of(chunk: &str) -> Option<&str> {
    let [choice]: [&RawValue; 1] = serde_json::from_str(only_member(chunk, "choices", |_, _| true)?).ok()?;
    let of_choice = |key: &str, value: &str| ["index", "finish_reason"].contains(&key) || is_empty(value);
    let delta = only_member(choice.get(), "delta", of_choice)?;
    let content = only_member(delta, "content", |key, value| key == "role" || is_empty(value))?;
    content.strip_prefix('"')?.strip_suffix('"')
}

/// The last value of `key`, as a part of `object`, if `is_kept` holds for all other members.
fn only_member<'a>(object: &'a str, key: &str, is_kept: impl Fn(&str, &str) -> bool) -> Option<&'a str> {
    let parsed = Object::parse(object).ok()?;
    if !parsed.members().all(|(name, value)| name == key || is_kept(name, value)) {
        return None;
    }
    let value = parsed.get(key)?;
    let begin = value.as_ptr().addr().checked_sub(object.as_ptr().addr())?;
    object.get(begin..begin + value.len())
}

/// Whether a value says nothing, so that one of two is enough.
fn is_empty(value: &str) -> bool {
    ["null", "\"\"", "[]", "{}"].contains(&value)
}

/// Whether `text` is the inside of a string literal.
fn is_in_string(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr2(b'"', b'\\', rest) {
        if rest[at] == b'"' || rest.len() < at + 2 {
            return false;
        }
        rest = &rest[at + 2..];
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn merged(first: &str, second: &str) -> Option<String> {
        let mut chunk = MergedChunk::new(first)?;
        let is_merged = chunk.push(second);
        assert!(is_merged || chunk.size() == first.len(), "a refused chunk changes nothing");
        is_merged.then(|| chunk.into_text())
    }

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

    /// Of two chunks with the same reasoning, tool call or log probabilities, both say something.
    #[test]
    fn chunks_with_more_than_text_are_not_merged() {
        for delta in [
            r#"{"content":"","reasoning_content":"ha"}"#,
            r#"{"content":"","tool_calls":[{"index":0,"function":{"arguments":"1"}}]}"#,
        ] {
            let chunk = chunk(delta, "null");
            assert_eq!(merged(&chunk, &chunk), None, "{delta}");
        }
        let plain = chunk(r#"{"content":"a"}"#, "null");
        let scored = plain.replace("\"index\"", "\"logprobs\":{\"content\":[{\"token\":\"a\"}]},\"index\"");
        assert_eq!(merged(&scored, &scored), None);
        let empty = chunk(r#"{"role":"assistant","content":"a","refusal":null,"tool_calls":[]}"#, "null");
        assert!(merged(&empty, &empty).unwrap().contains("\"aa\""));
    }

    proptest! {
        /// The merged chunk has the joined content, and is the first chunk in all else.
        #[test]
        fn contents_are_joined(texts in prop::collection::vec(any::<String>(), 1..6)) {
            let of = |text: &str| json!({ "id": "x\"}", "choices": [{ "index": 0, "delta": { "content": text },
                "finish_reason": null }], "model": "a\\" });
            let mut chunk = MergedChunk::new(&of(&texts[0]).to_string()).unwrap();
            for text in &texts[1..] {
                prop_assert!(chunk.push(&of(text).to_string()));
            }
            let size = chunk.size();
            let whole = chunk.into_text();
            prop_assert_eq!(whole.len(), size);
            prop_assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), of(&texts.concat()));
        }

        /// A chunk is taken up only if nothing but its content differs, whatever its text has.
        #[test]
        fn no_other_text_passes_for_content(inner in r#"[a"\\:,{}]{0,12}"#) {
            let chunk = |inner: &str| format!(r#"{{"choices":[{{"delta":{{"content":"{inner}"}}}}]}}"#);
            let (other, mut merged) = (chunk(&inner), MergedChunk::new(&chunk("")).unwrap());
            if let Ok(value) = serde_json::from_str::<Value>(&other)
                && merged.push(&other)
            {
                prop_assert_eq!(value["choices"][0]["delta"].as_object().unwrap().len(), 1);
                prop_assert_eq!(merged.into_text(), other);
            }
        }
    }
}
