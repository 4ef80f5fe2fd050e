//! A one-pass JSON scanner (RFC 8259), at most [`MAX_DEPTH`] deep, without recursion and without a tree.

use super::JsonError;
use super::string_stop::string_stop;

/// Maximum nesting: the recursion limit of `serde_json`, so that every later reader accepts it.
pub const MAX_DEPTH: u32 = 128;

/// Maximum number of members of all objects in one request. A conversation has thousands. Array elements do not count, since a
/// batch of token ids can have millions.
pub const MAX_MEMBERS: usize = 100_000;

/// Maximum number of values, array elements included, of JSON that is parsed into a tree. A conversation with tools has thousands;
/// a tree needs about 50 bytes a value.
pub const MAX_VALUES: usize = 100_000;

/// The text of a scan, and the callbacks for what the scan finds.
pub(crate) trait Source {
    /// Maximum number of members of all objects.
    const MAX_MEMBERS: usize = usize::MAX;

    /// Whether the number of values is limited.
    const LIMITS_VALUES: bool = false;

    /// The whole text. Its length and its JSON do not change during the scan.
    fn bytes(&self) -> &[u8];

    /// White space outside strings, from `start` to `end`.
    fn space(&mut self, start: usize, end: usize);

    /// A key of the outermost object, with its quotes.
    fn key(&mut self, _start: usize, _end: usize) {}

    /// The value that belongs to the last [`key`](Self::key).
    fn value(&mut self, _start: usize, _end: usize) {}

    /// An element of the outermost array.
    fn element(&mut self, _start: usize, _end: usize) {}

    /// A key of any object, with its quotes.
    fn any_key(&mut self, _start: usize, _end: usize) {}

    /// The beginning of a non-empty object or array.
    fn open(&mut self, _start: usize, _is_object: bool) {}

    /// The end of a non-empty object or array.
    fn close(&mut self, _end: usize) {}

    /// A string value, with its quotes.
    fn string(&mut self, _start: usize, _end: usize) {}

    /// Any other value: a number, a literal, or an empty object or array.
    fn scalar(&mut self, _start: usize, _end: usize) {}
}

/// Scans the whole text of `source`.
pub(crate) fn scan<S: Source>(source: &mut S) -> Result<(), JsonError> {
    scan_within(usize::MAX, source).map(drop)
}

/// As [`scan`], for a text of at most `values` values. Returns how many of them are left.
pub(crate) fn scan_within<S: Source>(values: usize, source: &mut S) -> Result<usize, JsonError> {
    let mut scanner = Scanner { source, at: 0, members: 0, values };
    scanner.document()?;
    Ok(scanner.values)
}

struct Scanner<'s, S> {
    source: &'s mut S,
    at: usize,
    /// Number of members so far.
    members: usize,
    /// Number of values that may follow, counted only if there is a limit.
    values: usize,
}

impl<S: Source> Scanner<'_, S> {
    fn document(&mut self) -> Result<(), JsonError> {
        // The stack of 128 levels, one bit each: 1 for an object, 0 for an array.
        let mut objects: u128 = 0;
        let mut depth = 0;
        // Start of the current value of the outermost container.
        let mut member = 0;
        loop {
            self.skip_space();
            if depth == 1 {
                member = self.at;
            }
            let start = self.at;
            if S::LIMITS_VALUES {
                self.values = self.values.checked_sub(1).ok_or(JsonError::TooManyValues)?;
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
            // After a value: close the containers that end here, then read the next value or finish.
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
        if self.members == S::MAX_MEMBERS {
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

    /// Reads the rest of a string whose opening quote was read.
    fn string(&mut self) -> Result<(), JsonError> {
        loop {
            let rest = &self.source.bytes()[self.at..];
            let stop = string_stop(rest).ok_or(JsonError::Syntax(self.at + rest.len()))?;
            match rest[stop] {
                b'"' => {
                    self.at += stop + 1;
                    return Ok(());
                }
                b'\\' => self.at += stop + 1,
                _control => return Err(JsonError::Syntax(self.at + stop)),
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
