//! One pass over JSON text: validate (RFC 8259), bound the depth, drop insignificant white space.

use memchr::memchr2;

/// Deepest nesting that passes: `serde_json`'s own recursion limit, so that every reader behind us can take it.
pub const MAX_DEPTH: u32 = 128;

/// Why a text is not JSON that we pass on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, at this byte offset.
    #[error("not valid JSON at byte {0}")]
    Syntax(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("JSON nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
}

/// The value in `text`, without white space outside strings: always one line.
pub fn compact(text: &str) -> Result<String, JsonError> {
    let mut out = Vec::with_capacity(text.len());
    compact_into(text, &mut out)?;
    // Only whole ASCII bytes were left out of a valid UTF-8 text, so this never fails.
    String::from_utf8(out).map_err(|_| JsonError::Syntax(0))
}

/// As [`compact`], appended to `out`. After an error `out` holds a part of the text: truncate it.
pub fn compact_into(text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    let mut scan = Scanner { text: text.as_bytes(), at: 0, copied: 0, out };
    scan.document()?;
    let Scanner { text, copied, out, .. } = scan;
    out.extend_from_slice(&text[copied..]);
    Ok(())
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    /// All before this offset is in `out`, or was white space.
    copied: usize,
    out: &'a mut Vec<u8>,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        // One bit a level, 1 for an object: the whole stack of 128 levels in one register pair.
        let mut objects: u128 = 0;
        let mut depth = 0;
        loop {
            self.skip_space();
            match self.next()? {
                open @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    depth += 1;
                    objects = objects << 1 | u128::from(open == b'{');
                    self.skip_space();
                    let empty = if open == b'{' { b'}' } else { b']' };
                    if self.peek() != Some(empty) {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.literal(b"rue")?,
                b'f' => self.literal(b"alse")?,
                b'n' => self.literal(b"ull")?,
                first @ (b'-' | b'0'..=b'9') => self.number(first)?,
                _ => return Err(JsonError::Syntax(self.at - 1)),
            }
            // After a value: close what ends here, then go on to the next value, or end.
            loop {
                self.skip_space();
                if depth == 0 {
                    return if self.at == self.text.len() { Ok(()) } else { Err(JsonError::Syntax(self.at)) };
                }
                let in_object = objects & 1 == 1;
                match self.next()? {
                    b',' if in_object => {
                        self.skip_space();
                        self.key()?;
                        break;
                    }
                    b',' => break,
                    b'}' if in_object => (),
                    b']' if !in_object => (),
                    _ => return Err(JsonError::Syntax(self.at - 1)),
                }
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, JsonError> {
        let byte = self.peek().ok_or(JsonError::Syntax(self.at))?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_space(&mut self) {
        let start = self.at;
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        if self.at > start {
            self.out.extend_from_slice(&self.text[self.copied..start]);
            self.copied = self.at;
        }
    }

    fn key(&mut self) -> Result<(), JsonError> {
        if self.next()? != b'"' {
            return Err(JsonError::Syntax(self.at - 1));
        }
        self.string()?;
        self.skip_space();
        if self.next()? == b':' { Ok(()) } else { Err(JsonError::Syntax(self.at - 1)) }
    }

    /// The rest of a string whose opening quote was read.
    fn string(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = &self.text[self.at..];
            let stop = memchr2(b'"', b'\\', rest).ok_or(JsonError::Syntax(self.text.len()))?;
            if let Some(control) = rest[..stop].iter().position(|&byte| byte < 0x20) {
                return Err(JsonError::Syntax(self.at + control));
            }
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(());
            }
            match self.next()? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => (),
                b'u' => {
                    for _ in 0..4 {
                        if !self.next()?.is_ascii_hexdigit() {
                            return Err(JsonError::Syntax(self.at - 1));
                        }
                    }
                }
                _ => return Err(JsonError::Syntax(self.at - 1)),
            }
        }
    }

    fn literal(&mut self, rest: &[u8]) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(rest) {
            return Err(JsonError::Syntax(self.at));
        }
        self.at += rest.len();
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), JsonError> {
        let lead = if first == b'-' { self.next()? } else { first };
        match lead {
            b'0' => (),
            b'1'..=b'9' => self.digits(),
            _ => return Err(JsonError::Syntax(self.at - 1)),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.digits();
        if self.at > start { Ok(()) } else { Err(JsonError::Syntax(start)) }
    }
}
