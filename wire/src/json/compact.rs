//! JSON text without white space outside strings: always one line.

use super::JsonError;
use super::scan::{Source, scan};

/// The value in `text`, without white space outside strings: always one line.
pub fn compact(text: &str) -> Result<String, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    compact_into(text, &mut out)?;
    // Only whole ASCII bytes were left out of a valid UTF-8 text, so this never fails.
    String::from_utf8(out).map_err(|_| JsonError::Syntax(0))
}

/// As [`compact`], appended to `out`. After an error `out` holds a part of the text: truncate it.
pub fn compact_into(text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut copy = Copy { text: text.as_bytes(), copied: 0, out };
    scan(&mut copy)?;
    let Copy { text, copied, out } = copy;
    out.extend_from_slice(&text[copied..]);
    Ok(())
}

struct Copy<'a> {
    text: &'a [u8],
    /// All before this offset is in `out`, or was white space.
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
