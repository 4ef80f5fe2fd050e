//! Parses compact JSON to a tree.

use std::borrow::Cow;

use super::Json;

/// Parses compact JSON of valid syntax.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or_default()
    }

    pub(super) fn value(&mut self) -> Json<'a> {
        match self.peek() {
            b'{' => {
                let mut members = Vec::new();
                self.at += 1;
                while self.peek() == b'"' {
                    let literal = self.string();
                    self.at += 1;
                    let value = self.value();
                    members.push((Cow::Borrowed(&literal[1..literal.len() - 1]), value));
                    if self.peek() == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Json::Object(members)
            }
            b'[' => {
                let mut items = Vec::new();
                self.at += 1;
                while self.at < self.text.len() && self.peek() != b']' {
                    items.push(self.value());
                    if self.peek() == b',' {
                        self.at += 1;
                    }
                }
                self.at += 1;
                Json::Array(items)
            }
            b'"' => Json::Text(Cow::Borrowed(self.string())),
            _ => {
                let rest = &self.text[self.at..];
                let length = rest.find([',', ']', '}']).unwrap_or(rest.len());
                self.at += length;
                Json::Text(Cow::Borrowed(&rest[..length]))
            }
        }
    }

    /// Returns the string at the current offset, quotes included.
    fn string(&mut self) -> &'a str {
        let (start, bytes) = (self.at, self.text.as_bytes());
        self.at += 1;
        while let Some(stop) = memchr::memchr2(b'"', b'\\', &bytes[self.at..]) {
            self.at += stop + 1;
            if bytes[self.at - 1] == b'"' {
                break;
            }
            self.at += 1;
        }
        &self.text[start..self.at]
    }
}
