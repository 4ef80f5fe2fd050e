//! Estimates how many tokens a request has, without a tokenizer. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use wire::json::each_member;

/// Seven bytes of UTF-8 count as two tokens: Anthropic's documentation gives 3.5 English characters for a token. Letters of two and
/// three bytes have more tokens each, as in most vocabularies.
const TOKENS: u64 = 2;
const BYTES: u64 = 7;
/// Tokens of an image, a sound or a file: Anthropic's documentation gives at most about 1,600 for an image.
const ATTACHMENT_TOKENS: u64 = 1600;

/// The members of a request that the model reads.
const PROMPT: [&str; 7] = [
    r#""system""#,
    r#""messages""#,
    r#""instructions""#,
    r#""input""#,
    r#""tools""#,
    r#""tool_choice""#,
    r#""text""#,
];
/// Members at any depth that the model does not read.
const UNREAD: [&str; 8] = [
    "cache_control",
    "call_id",
    "encrypted_content",
    "id",
    "media_type",
    "signature",
    "status",
    "tool_use_id",
];

/// Estimates the input tokens of `request`, a JSON object.
pub(super) fn estimate(request: &str) -> u64 {
    let mut content = Content::default();
    // Names of members and types of blocks stand for the tokens of a chat template.
    let read = each_member(request, |key, value| {
        if PROMPT.contains(&key) {
            let read = serde_json::from_str(value);
            content.add(read.unwrap_or_else(|_| Content::text(value.len())));
        }
    });
    if read.is_err() {
        // The hub has parsed the request, so this does not happen.
        content = Content::text(request.len());
    }
    (content.bytes * TOKENS).div_ceil(BYTES) + content.attachments * ATTACHMENT_TOKENS
}

/// What a part of a request has to read.
#[derive(Clone, Copy, Default)]
struct Content {
    /// Bytes of text.
    bytes: u64,
    attachments: u64,
}

impl Content {
    fn text(bytes: usize) -> Self {
        Self { bytes: bytes as u64, attachments: 0 }
    }

    fn attachment() -> Self {
        Self { bytes: 0, attachments: 1 }
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.attachments += other.attachments;
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::text(text.len()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::text("null".len()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::text("true".len()))
    }

    // Numbers of a prompt are short.
    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content::text(4))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::text(4))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::text(4))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut content = Content::default();
        while let Some(item) = items.next_element()? {
            content.add(item);
        }
        Ok(content)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Content, A::Error> {
        #[derive(Deserialize)]
        struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

        let (mut content, mut kind) = (Content::default(), "");
        while let Some(Name(name)) = members.next_key()? {
            if UNREAD.contains(&name.as_ref()) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            content.add(Content::text(name.len()));
            if name == "type" {
                kind = members.next_value::<&RawValue>()?.get();
                content.add(Content::text(kind.len()));
            } else {
                content.add(members.next_value()?);
            }
        }
        Ok(match kind {
            r#""image""#
            | r#""input_image""#
            | r#""image_url""#
            | r#""computer_screenshot""#
            | r#""input_file""#
            | r#""input_audio""#
            | r#""image_generation_call""#
            // The source of a document; that of an image counts with the image.
            | r#""base64""#
            | r#""url""#
            | r#""file""# => Content::attachment(),
            r#""redacted_thinking""# => Content::default(),
            _ => content,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(request: &Value) -> u64 {
        estimate(&request.to_string())
    }

    fn said(content: &Value) -> u64 {
        of(&json!({ "messages": [{ "role": "user", "content": content }] }))
    }

    #[test]
    fn a_text_has_two_tokens_for_seven_bytes() {
        let empty = said(&json!(""));
        assert!((1..10).contains(&empty), "{empty}");
        assert_eq!(said(&json!("x".repeat(7000))), empty + 2000);
        assert_eq!(said(&json!("語".repeat(7000))), empty + 6000);
        let escaped = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, r"\u0061".repeat(7000));
        assert_eq!(estimate(&escaped), empty + 2000, "escapes count as what they stand for");
    }

    #[test]
    fn system_texts_instructions_input_and_tools_count() {
        let long = "x".repeat(3500);
        for key in ["system", "instructions", "input"] {
            assert_eq!(of(&json!({ key: long })), 1000, "{key}");
        }
        let tools = json!([{ "name": "f", "input_schema": { "type": "object", "description": long } }]);
        assert!((1000..1030).contains(&of(&json!({ "tools": tools }))));
        for key in ["metadata", "model", "user"] {
            assert_eq!(of(&json!({ key: long })), 0, "{key}");
        }
    }

    #[test]
    fn an_attachment_counts_the_same_whatever_its_size() {
        for size in [10, 1_000_000] {
            let data = "A".repeat(size);
            for block in [
                json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": data } }),
                json!({ "source": { "data": data, "type": "base64" }, "type": "image" }),
                json!({ "type": "document", "source": { "type": "base64", "data": data } }),
                json!({ "type": "input_image", "image_url": format!("data:image/png;base64,{data}") }),
                json!({ "type": "tool_result", "tool_use_id": "t", "content": [
                    { "type": "image", "source": { "type": "base64", "data": data } } ] }),
            ] {
                let tokens = said(&json!([block]));
                assert!((1600..1650).contains(&tokens), "{tokens}: {block:.80}");
            }
        }
        let text = json!({ "type": "document", "source": { "type": "text", "data": "x".repeat(7000) } });
        assert!((2000..2050).contains(&said(&json!([text]))), "a document of text has its text");
    }

    #[test]
    fn signatures_and_encrypted_reasoning_do_not_count() {
        let long = "x".repeat(70_000);
        for block in [
            json!({ "type": "thinking", "thinking": "", "signature": long }),
            json!({ "type": "redacted_thinking", "data": long }),
            json!({ "type": "reasoning", "encrypted_content": long, "summary": [] }),
            json!({ "type": "text", "text": "", "cache_control": { "type": long } }),
        ] {
            assert!(said(&json!([block])) < 40, "{block:.60}");
        }
    }

    #[test]
    fn any_json_has_an_estimate() {
        let deep = format!(r#"{{"input":{}{}}}"#, "[".repeat(126), "]".repeat(126));
        assert_eq!(estimate(&deep), 0);
        for request in
            ["{}", r#"{"input":1e999}"#, r#"{"messages":null,"tools":[true,-1,1.5,{"type":["a"]}]}"#]
        {
            assert!(estimate(request) < 30, "{request}");
        }
        assert_eq!(estimate("no JSON"), 2);
    }
}
