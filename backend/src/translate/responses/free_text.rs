//! The text of a call to a tool of free text, which a backend writes as the argument `input` of a function.

use super::super::chunk::arguments;
use super::super::json::{escape, unescape, without_half};

/// The text that the arguments hold; both escaped. A model may write the text as it is, without the object around it,
/// and an answer may be cut within it.
pub(super) fn free_text(arguments_text: &str) -> String {
    if let Some(object) = arguments(arguments_text) {
        return match object.get("input") {
            Some(input) => input.fragment().map_or_else(|| escape(&input.to_string()), str::to_owned),
            None if arguments_text.contains('{') => arguments_text.to_owned(),
            None => String::new(),
        };
    }
    let mut coming = FreeTextDecoder::default();
    let begun = coming.add(arguments_text);
    if coming.is_found() { begun } else { arguments_text.to_owned() }
}

/// Arguments that are coming in: a patch of a slow model takes minutes, in which callers want signs of life.
#[derive(Debug, Default)]
pub(super) struct FreeTextDecoder {
    /// The arguments so far. Within them the text is escaped as it is in an event.
    inner: String,
    /// How far `inner` is read, once the text has been found.
    at: Option<usize>,
    is_closed: bool,
}

impl FreeTextDecoder {
    /// What `piece` adds to the text; both escaped.
    pub(super) fn add(&mut self, piece: &str) -> String {
        self.inner.push_str(&unescape(piece));
        let start = match self.at {
            Some(at) => at,
            None => match begin(&self.inner) {
                Some(at) => at,
                None => return String::new(),
            },
        };
        let bytes = self.inner.as_bytes();
        let mut end = start;
        while !self.is_closed && end < bytes.len() {
            match bytes[end] {
                b'"' => self.is_closed = true,
                // An escape is 2 bytes, or 6; the last one may have come in part.
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
            end = start + without_half(&self.inner[start..end]);
        }
        self.at = Some(end);
        let text = self.inner.get(start..end).unwrap_or_default();
        // Line breaks that a model left unescaped would break the event.
        if text.contains(char::is_control) {
            text.chars().map(control_escaped).collect()
        } else {
            text.to_owned()
        }
    }

    /// Whether the arguments begin as those of free text do.
    pub(super) fn is_found(&self) -> bool {
        self.at.is_some()
    }
}

/// Where the text begins in `{"input":"…`.
fn begin(inner: &str) -> Option<usize> {
    let mut rest = inner;
    for token in ["{", "\"input\"", ":", "\""] {
        rest = rest.trim_start().strip_prefix(token)?;
    }
    Some(inner.len() - rest.len())
}

fn control_escaped(c: char) -> String {
    if c.is_control() { escape(&c.to_string()) } else { c.to_string() }
}
