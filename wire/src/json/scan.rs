//! One pass over JSON text: RFC 8259, at most [`MAX_DEPTH`] deep, without recursion and without a tree.

use memchr::memchr2;

use super::JsonError;

/// Deepest nesting that passes: `serde_json`'s own recursion limit, so that every reader behind us can take it.
pub const MAX_DEPTH: u32 = 128;

/// Most members of all objects in one request: a conversation has some thousands. Elements of arrays do not count, a
/// batch of token ids may have millions.
pub const MAX_MEMBERS: usize = 100_000;

/// Most values, those of lists and of members, in a body of which a tree is made: a conversation with its tools has some
/// thousands, and a tree takes some 50 bytes for each.
pub const MAX_VALUES: usize = 100_000;

/// The text under a scan, and what is done with what the scan finds.
pub(crate) trait Source {
    /// Most members of all its objects.
    const MOST_MEMBERS: usize = usize::MAX;

    /// Most values in all.
    const MOST_VALUES: usize = usize::MAX;

    /// The whole text, the same length and the same JSON at every call.
    fn bytes(&self) -> &[u8];

    /// White space outside strings, from `start` to `end`.
    fn space(&mut self, start: usize, end: usize);

    /// A key of the outermost object, with its quotes.
    fn key(&mut self, _start: usize, _end: usize) {}

    /// The value that belongs to the last [`key`](Self::key).
    fn value(&mut self, _start: usize, _end: usize) {}

    /// An element of the outermost list.
    fn element(&mut self, _start: usize, _end: usize) {}

    /// A key of any object, with its quotes.
    fn any_key(&mut self, _start: usize, _end: usize) {}

    /// The beginning of an object, or else of a list, that is not empty.
    fn open(&mut self, _start: usize, _is_object: bool) {}

    /// The end of it.
    fn close(&mut self, _end: usize) {}

    /// A string that is a value, with its quotes.
    fn string(&mut self, _start: usize, _end: usize) {}

    /// Any other value: a number, a literal, an empty object or list.
    fn scalar(&mut self, _start: usize, _end: usize) {}
}

/// Scans the text of `source` from its first byte to its last.
pub(crate) fn scan<S: Source>(source: &mut S) -> Result<(), JsonError> {
    Scanner { source, at: 0, members: 0, values: 0 }.document()
}

struct Scanner<'s, S> {
    source: &'s mut S,
    at: usize,
    /// Keys so far, of every object.
    members: usize,
    /// Values so far, counted where there is a limit.
    values: usize,
}

impl<S: Source> Scanner<'_, S> {
    fn document(&mut self) -> Result<(), JsonError> {
        // One bit a level, 1 for an object: the whole stack of 128 levels in one register pair.
        let mut objects: u128 = 0;
        let mut depth = 0;
        // Where the value begins that the outermost object's last key names.
        let mut member = 0;
        loop {
            self.skip_space();
            if depth == 1 {
                member = self.at;
            }
            let start = self.at;
            if S::MOST_VALUES != usize::MAX {
                if self.values == S::MOST_VALUES {
                    return Err(JsonError::TooManyValues);
                }
                self.values += 1;
            }
            match self.next()? {
                open @ (b'{' | b'[') => {
                    if depth == MAX_DEPTH {
                        return Err(JsonError::TooDeep);
                    }
                    self.skip_space();
                    let empty = if open == b'{' { b'}' } else { b']' };
                    if self.peek() == Some(empty) {
                        self.at += 1;
                        self.source.scalar(start, self.at);
                    } else {
                        depth += 1;
                        self.source.open(start, open == b'{');
                        objects = objects << 1 | u128::from(open == b'{');
                        if open == b'{' {
                            self.key(depth)?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                    self.source.string(start, self.at);
                }
                b't' => self.literal(b"rue", start)?,
                b'f' => self.literal(b"alse", start)?,
                b'n' => self.literal(b"ull", start)?,
                first @ (b'-' | b'0'..=b'9') => {
                    self.number(first)?;
                    self.source.scalar(start, self.at);
                }
                _ => return Err(JsonError::Syntax(self.at - 1)),
            }
            // After a value: close what ends here, then go on to the next value, or end.
            loop {
                if depth == 1 {
                    if objects & 1 == 1 {
                        self.source.value(member, self.at);
                    } else {
                        self.source.element(member, self.at);
                    }
                }
                self.skip_space();
                if depth == 0 {
                    let end = self.source.bytes().len();
                    return if self.at == end { Ok(()) } else { Err(JsonError::Syntax(self.at)) };
                }
                let in_object = objects & 1 == 1;
                match self.next()? {
                    b',' if in_object => {
                        self.skip_space();
                        self.key(depth)?;
                        break;
                    }
                    b',' => break,
                    b'}' if in_object => (),
                    b']' if !in_object => (),
                    _ => return Err(JsonError::Syntax(self.at - 1)),
                }
                self.source.close(self.at);
                objects >>= 1;
                depth -= 1;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.source.bytes().get(self.at).copied()
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
            self.source.space(start, self.at);
        }
    }

    fn key(&mut self, depth: u32) -> Result<(), JsonError> {
        if self.members == S::MOST_MEMBERS {
            return Err(JsonError::TooManyMembers);
        }
        self.members += 1;
        let start = self.at;
        if self.next()? != b'"' {
            return Err(JsonError::Syntax(self.at - 1));
        }
        self.string()?;
        if depth == 1 {
            self.source.key(start, self.at);
        }
        self.source.any_key(start, self.at);
        self.skip_space();
        if self.next()? == b':' { Ok(()) } else { Err(JsonError::Syntax(self.at - 1)) }
    }

    /// The rest of a string whose opening quote was read.
    fn string(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = &self.source.bytes()[self.at..];
            let stop = memchr2(b'"', b'\\', rest).ok_or(JsonError::Syntax(self.at + rest.len()))?;
            let quote = rest[stop] == b'"';
            if let Some(control) = control(&rest[..stop]) {
                return Err(JsonError::Syntax(self.at + control));
            }
            self.at += stop + 1;
            if quote {
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

    fn literal(&mut self, rest: &[u8], start: usize) -> Result<(), JsonError> {
        if !self.source.bytes()[self.at..].starts_with(rest) {
            return Err(JsonError::Syntax(self.at));
        }
        self.at += rest.len();
        self.source.scalar(start, self.at);
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

/// The first control character in `bytes`, which a JSON string has only escaped.
fn control(bytes: &[u8]) -> Option<usize> {
    // Blocks without an early exit, so that the compiler looks at 16 bytes or more at once: an image has 30 MB in one
    // string.
    const BLOCK: usize = 64;

    let is_control = |byte: &u8| *byte < 0x20;
    let mut at = 0;
    for block in bytes.chunks(BLOCK) {
        if block.iter().fold(false, |found, byte| found | is_control(byte)) {
            return block.iter().position(is_control).map(|within| at + within);
        }
        at += block.len();
    }
    None
}
