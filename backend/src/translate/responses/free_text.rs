//! Decodes the text in a call of a tool with free text, which a backend sends as the argument `input` of a function.

use super::super::chunk::arguments;
use super::super::json::{Json, escape, unescape, without_half};

/// Returns the text in escaped arguments, escaped. A model may write the bare text without an object, and an answer may be cut.
pub(super) fn free_text(arguments_text: &str) -> String {
    if let Some(object) = arguments(arguments_text) {
        return match object.get("input") {
            None if arguments_text.contains('{') => arguments_text.to_owned(),
            input => input.map(Json::to_fragment).unwrap_or_default(),
        };
    }
    let mut decoder = FreeTextDecoder::default();
    let text = decoder.push(arguments_text);
    if decoder.end.is_some() { text } else { arguments_text.to_owned() }
}

/// Decodes arguments that arrive in parts, because callers expect progress while a slow model writes a long patch.
#[derive(Debug, Default)]
pub(super) struct FreeTextDecoder {
    /// The arguments so far. The text in them is escaped as in an event.
    arguments: String,
    /// Offset up to which the text was returned; `None` before its beginning.
    end: Option<usize>,
    is_closed: bool,
}

impl FreeTextDecoder {
    /// Adds a part of the arguments, and returns what it adds to the text; both are escaped.
    pub(super) fn push(&mut self, part: &str) -> String {
        self.arguments.push_str(&unescape(part));
        let Some(start) = self.end.or_else(|| text_start(&self.arguments)) else { return String::new() };
        let bytes = self.arguments.as_bytes();
        let mut end = start;
        while !self.is_closed && end < bytes.len() {
            match bytes[end] {
                b'"' => self.is_closed = true,
                // The last escape, of 2 or 6 bytes, can be incomplete.
                b'\\' => {
                    let length = if bytes.get(end + 1) == Some(&b'u') { 6 } else { 2 };
                    if end + length > bytes.len() {
                        break;
                    }
                    end += length;
                }
                _ => end += 1,
            }
        }
        if !self.is_closed {
            end = start + without_half(&self.arguments[start..end]);
        }
        self.end = Some(end);
        let text = self.arguments.get(start..end).unwrap_or_default();
        // A model may write line breaks unescaped.
        if text.contains(char::is_control) {
            text.chars().map(escape_control).collect()
        } else {
            text.to_owned()
        }
    }
}

/// Returns the offset of the text in `{"input":"…`.
fn text_start(arguments: &str) -> Option<usize> {
    let mut rest = arguments;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start().strip_prefix(token)?;
    }
    Some(arguments.len() - rest.len())
}

fn escape_control(c: char) -> String {
    if c.is_control() { escape(&c.to_string()) } else { c.to_string() }
}
