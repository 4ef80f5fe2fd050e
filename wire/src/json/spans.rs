//! Where a few members of an object stand in its text: what a large body that passes through is asked for.

use std::borrow::Cow;
use std::ops::Range;

use super::JsonError;
use super::letters::{fold, letters};
use super::scan::{MAX_MEMBERS, Source, scan};
use crate::reach::{Look, Reach};

/// The values of one key, by their places in the text: more than one where the key is given twice.
pub type Spans = Vec<Range<usize>>;

/// Checks the JSON object in `text`, in one pass, and answers for each of `keys` where its values stand. Keys are those
/// of the object itself, compared after unescaping. Line breaks outside strings become spaces, so that `text` is one
/// line afterwards; its length does not change.
///
/// The text is checked as JSON, at most [`MAX_DEPTH`](super::MAX_DEPTH) deep and with at most
/// [`MAX_MEMBERS`](super::MAX_MEMBERS) members in all; whether it is UTF-8 is its owner's to
/// check. After an error some line breaks may be spaces already.
pub fn spans<const N: usize>(text: &mut [u8], keys: [&str; N]) -> Result<[Spans; N], JsonError> {
    let mut members = Members::new(text, keys, None);
    members.read()?;
    Ok(members.found)
}

/// As [`spans`], and what the request in `text` asks for beyond an answer, in the same pass. A key that some readers take
/// for one of `keys`, and that is not it, is an error: which of the two a backend goes by nobody knows. So is a key that is no
/// text: readers refuse it, or take it for another.
pub fn reaching_spans<const N: usize>(
    text: &mut [u8],
    keys: [&'static str; N],
) -> Result<([Spans; N], Reach), JsonError> {
    let mut members = Members::new(text, keys, Some(Look::default()));
    members.read()?;
    if let Some(at) = members.half {
        return Err(JsonError::HalfKey(at));
    }
    if let Some((at, key)) = members.odd {
        return Err(JsonError::OddKey(at, keys[key]));
    }
    Ok((members.found, members.look.map(Look::done).unwrap_or_default()))
}

/// The text of member `key` of the JSON object in `text`; of duplicates the last, as JSON readers do. However many members
/// there are, nothing is kept of the others.
pub fn member<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut one = Member { text: text.as_bytes(), key, found: None, wanted: false };
    scan(&mut one).ok()?;
    text.get(one.found?)
}

/// Whether a key with its quotes is `key`, compared after unescaping.
fn is(quoted: &[u8], key: &str) -> bool {
    let inner = &quoted[1..quoted.len() - 1];
    if memchr::memchr(b'\\', inner).is_none() {
        return inner == key.as_bytes();
    }
    // An escape takes up to six bytes for one; a key with a lone surrogate is no text, and none of ours.
    inner.len() <= 6 * key.len()
        && serde_json::from_slice::<Cow<'_, str>>(quoted).is_ok_and(|text| text == key)
}

/// Whether a key with its quotes has one half of a surrogate pair in it.
fn is_half(quoted: &[u8]) -> bool {
    memchr::memmem::find(quoted, b"\\u").is_some() && serde_json::from_slice::<Cow<'_, str>>(quoted).is_err()
}

/// Whether some readers take a key with its quotes for `key`.
fn folds(quoted: &[u8], key: &str) -> bool {
    letters(&quoted[1..quoted.len() - 1]).map(fold).eq(key.bytes())
}

struct Member<'a, 'k> {
    text: &'a [u8],
    key: &'k str,
    found: Option<Range<usize>>,
    wanted: bool,
}

impl Source for Member<'_, '_> {
    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, _start: usize, _end: usize) {}

    fn key(&mut self, start: usize, end: usize) {
        self.wanted = is(&self.text[start..end], self.key);
    }

    fn value(&mut self, start: usize, end: usize) {
        if std::mem::take(&mut self.wanted) {
            self.found = Some(start..end);
        }
    }
}

struct Members<'a, const N: usize> {
    text: &'a mut [u8],
    keys: [&'a str; N],
    found: [Spans; N],
    /// Which of the keys the next value belongs to.
    wanted: Option<usize>,
    look: Option<Look>,
    /// Where the first key begins that only some readers take for one of `keys`, and for which. Kept where there is a look.
    odd: Option<(usize, usize)>,
    /// Where the first key begins that is no text. Kept where there is a look.
    half: Option<usize>,
}

impl<'a, const N: usize> Members<'a, N> {
    fn new(text: &'a mut [u8], keys: [&'a str; N], look: Option<Look>) -> Self {
        Self { text, keys, found: [const { Vec::new() }; N], wanted: None, look, odd: None, half: None }
    }

    fn read(&mut self) -> Result<(), JsonError> {
        let is_object = self.text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
        scan(self)?;
        if is_object { Ok(()) } else { Err(JsonError::NotAnObject) }
    }
}

impl<const N: usize> Source for Members<'_, N> {
    const MOST_MEMBERS: usize = MAX_MEMBERS;

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
        self.wanted = self.keys.iter().position(|key| is(quoted, key));
        if self.look.is_some() && self.half.is_none() && is_half(quoted) {
            self.half = Some(start);
        }
        if self.look.is_some() && self.wanted.is_none() && self.odd.is_none() {
            self.odd = self.keys.iter().position(|key| folds(quoted, key)).map(|key| (start, key));
        }
    }

    fn value(&mut self, start: usize, end: usize) {
        if let Some(index) = self.wanted.take() {
            self.found[index].push(start..end);
        }
    }

    fn any_key(&mut self, start: usize, end: usize) {
        if let Some(look) = &mut self.look {
            look.key(self.text, start, end);
        }
    }

    fn open(&mut self, start: usize, is_object: bool) {
        if let Some(look) = &mut self.look {
            look.open(self.text, start, is_object);
        }
    }

    fn close(&mut self, end: usize) {
        if let Some(look) = &mut self.look {
            look.close(self.text, end);
        }
    }

    fn string(&mut self, start: usize, end: usize) {
        if let Some(look) = &mut self.look {
            look.string(self.text, start, end);
        }
    }

    fn scalar(&mut self, start: usize, end: usize) {
        if let Some(look) = &mut self.look {
            look.scalar(self.text, start, end);
        }
    }
}
