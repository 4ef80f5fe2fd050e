//! Compact JSON: one line, without white space outside strings.

use super::JsonError;
use super::scan::{Source, scan};

/// Checks the JSON in `text` and returns it without white space outside strings, so in one line.
pub fn compact(text: &str) -> Result<String, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    compact_into(text, &mut out)?;
    // Only ASCII bytes were removed from valid UTF-8, so this never fails.
    String::from_utf8(out).map_err(|_| JsonError::Syntax(0))
}

/// Like [`compact`], but appends to `out`. After an error, `out` holds a part of the text.
pub fn compact_into(text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut copy = Copy { text: text.as_bytes(), copied: 0, out };
    scan(&mut copy)?;
    let Copy { text, copied, out } = copy;
    out.extend_from_slice(&text[copied..]);
    Ok(())
}

struct Copy<'a> {
    text: &'a [u8],
    /// Offset up to which the text was copied or skipped.
    copied: usize,
    out: &'a mut Vec<u8>,
}

impl Source for Copy<'_> {
    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, start: usize, end: usize) {
        self.out.extend_from_slice(&self.text[self.copied..start]);
        self.copied = end;
    }
}
