//! Locates a few members of a large JSON object in its text.

use std::borrow::Cow;
use std::ops::Range;

use super::JsonError;
use super::letters::{fold, letters};
use super::scan::{MAX_MEMBERS, Source, scan};
use crate::prompt::{PromptScanner, PromptSpans};
use crate::request_policy::{PolicyReport, PolicyScanner};

/// The byte ranges of the values of one key: several if the key is repeated.
pub type Spans = Vec<Range<usize>>;

/// Checks the JSON object in `text` and locates the values of each of `keys` in one pass. Keys are those of the object itself,
/// compared after unescaping. Line breaks outside strings become spaces, so `text` is one line afterwards, of the same length.
///
/// The object has at most [`MAX_MEMBERS`](super::MAX_MEMBERS) members in all and is at most [`MAX_DEPTH`](super::MAX_DEPTH)
/// deep. UTF-8 is not checked. After an error, some line breaks may be spaces.
pub fn spans<const N: usize>(text: &mut [u8], keys: [&str; N]) -> Result<[Spans; N], JsonError> {
    let mut members = Members::new(text, keys, None);
    members.read()?;
    Ok(members.found)
}

/// Like [`spans`], and applies the request policy and finds the prompt in the same pass. A key that only some readers read as
/// one of `keys` is an error, because backends differ in which of the two they use. A key with an unpaired surrogate is an
/// error for the same reason.
pub fn inspect_request<const N: usize>(
    text: &mut [u8],
    keys: [&'static str; N],
) -> Result<([Spans; N], PolicyReport, PromptSpans), JsonError> {
    let mut members = Members::new(text, keys, Some(Scanners::default()));
    members.read()?;
    if let Some(at) = members.unpaired {
        return Err(JsonError::HalfKey(at));
    }
    if let Some((at, key)) = members.misspelled {
        return Err(JsonError::OddKey(at, keys[key]));
    }
    let Scanners { policy, prompt } = members.scanner.unwrap_or_default();
    Ok((members.found, policy.finish(), prompt.finish()))
}

/// Returns the JSON text of member `key` of the object `text`, in constant memory. Of duplicates the last counts.
pub fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut one = Member { text: text.as_bytes(), key, found: None, current: false };
    scan(&mut one).ok()?;
    text.get(one.found?)
}

/// Whether a quoted key is `key` after unescaping.
fn is_key(quoted: &[u8], key: &str) -> bool {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return inner == key.as_bytes();
    }
    if key.is_ascii() {
        return letters(inner).eq(key.bytes().map(u16::from));
    }
    // An escaped byte takes at most six bytes. A key with an unpaired surrogate matches none.
    inner.len() <= 6 * key.len()
        && serde_json::from_slice::<Cow<'_, str>>(quoted).is_ok_and(|text| text == key)
}

/// Whether a quoted key has an unpaired surrogate.
fn is_half(quoted: &[u8]) -> bool {
    let is_surrogate = |at: usize| matches!(quoted[at + 1..], [b'u', b'd' | b'D', ..]);
    memchr::memchr_iter(b'\\', quoted).any(is_surrogate)
        && serde_json::from_slice::<Cow<'_, str>>(quoted).is_err()
}

/// Whether readers that ignore letter case read a quoted key as `key`.
fn folds(quoted: &[u8], key: &str) -> bool {
    letters(&quoted[1..quoted.len() - 1]).map(fold).eq(key.bytes())
}

struct Member<'a, 'k> {
    text: &'a [u8],
    key: &'k str,
    found: Option<Range<usize>>,
    current: bool,
}

impl Source for Member<'_, '_> {
    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, _start: usize, _end: usize) {}

    fn key(&mut self, start: usize, end: usize) {
        self.current = is_key(&self.text[start..end], self.key);
    }

    fn value(&mut self, start: usize, end: usize) {
        if std::mem::take(&mut self.current) {
            self.found = Some(start..end);
        }
    }
}

/// What reads a request besides its keys.
#[derive(Default)]
struct Scanners {
    policy: PolicyScanner,
    prompt: PromptScanner,
}

struct Members<'a, const N: usize> {
    text: &'a mut [u8],
    keys: [&'a str; N],
    found: [Spans; N],
    /// Index of the key that the next value belongs to.
    current: Option<usize>,
    scanner: Option<Scanners>,
    /// Offset of the first key that only some readers read as one of `keys`, and the index of that key. Set only with a scanner.
    misspelled: Option<(usize, usize)>,
    /// Offset of the first key with an unpaired surrogate. Set only with a scanner.
    unpaired: Option<usize>,
}

impl<'a, const N: usize> Members<'a, N> {
    fn new(text: &'a mut [u8], keys: [&'a str; N], scanner: Option<Scanners>) -> Self {
        Self {
            text,
            keys,
            found: [const { Vec::new() }; N],
            current: None,
            scanner,
            misspelled: None,
            unpaired: None,
        }
    }

    fn read(&mut self) -> Result<(), JsonError> {
        let is_object = self.text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        scan(self)?;
        if is_object { Ok(()) } else { Err(JsonError::NotAnObject) }
    }
}

impl<const N: usize> Source for Members<'_, N> {
    const MAX_MEMBERS: usize = MAX_MEMBERS;

    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, start: usize, end: usize) {
        for byte in &mut self.text[start..end] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }

    fn key(&mut self, start: usize, end: usize) {
        let quoted = &self.text[start..end];
        let inner = &quoted[1..quoted.len() - 1];
        // A request can have many thousands of keys. Nearly all are plain, and then have as many bytes as letters.
        let is_plain = inner.iter().all(|byte| byte.is_ascii() && *byte != b'\\');
        let can_be = |key: &str| !is_plain || inner.len() == key.len();
        self.current = self.keys.iter().position(|key| can_be(key) && is_key(quoted, key));
        let Some(scanner) = &mut self.scanner else { return };
        scanner.prompt.key(quoted);
        if !is_plain && self.unpaired.is_none() && is_half(quoted) {
            self.unpaired = Some(start);
        }
        if self.current.is_none() && self.misspelled.is_none() {
            let index = self.keys.iter().position(|key| can_be(key) && folds(quoted, key));
            self.misspelled = index.map(|key| (start, key));
        }
    }

    fn value(&mut self, start: usize, end: usize) {
        if let Some(index) = self.current.take() {
            self.found[index].push(start..end);
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.prompt.value(self.text, start, end);
        }
    }

    fn any_key(&mut self, start: usize, end: usize) {
        if let Some(scanner) = &mut self.scanner {
            scanner.policy.key(self.text, start, end);
            scanner.prompt.any_key(&self.text[start..end]);
        }
    }

    fn open(&mut self, start: usize, is_object: bool) {
        if let Some(scanner) = &mut self.scanner {
            scanner.policy.open(self.text, start, is_object);
            scanner.prompt.open();
        }
    }

    fn close(&mut self, end: usize) {
        if let Some(scanner) = &mut self.scanner {
            scanner.policy.close(self.text, end);
            scanner.prompt.close(end);
        }
    }

    fn string(&mut self, start: usize, end: usize) {
        if let Some(scanner) = &mut self.scanner {
            scanner.policy.string(self.text, start, end);
            scanner.prompt.string(&self.text[start..end], end);
        }
    }

    fn scalar(&mut self, start: usize, end: usize) {
        if let Some(scanner) = &mut self.scanner {
            scanner.policy.scalar(self.text, start, end);
        }
    }
}
