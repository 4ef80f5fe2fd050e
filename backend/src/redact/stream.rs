//! Redacts a key in the events of a stream, even if it is split over several events.
//!
//! A caller can make a model output guesses of the key. If a delay or a replacement depended on one more correct character, the caller
//! could find the key character by character. So no event is delayed, nothing happens before the end of the key's first half, and
//! after that as many characters as the key's second half has are removed, whatever they are.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::{memchr, memchr2};
use wire::json::{quote, unquote};

use super::key::{Key, LONG_KEY};
use super::strings::strings;
use super::{HIDDEN, logprobs};

/// Members whose text continues in the next event.
const TEXTS: [&[u8]; 11] = [
    b"content",
    b"text",
    b"delta",
    b"arguments",
    b"partial_json",
    b"reasoning_content",
    b"reasoning",
    b"thinking",
    b"refusal",
    b"input",
    b"output",
];
/// Maximum number of texts of one stream that are tracked, because a backend can send any number of choices.
const MAX_TEXTS: usize = 64;

/// Redacts the events of one stream.
pub(crate) struct StreamRedactor {
    key: Arc<Key>,
    /// Failure function of the Knuth-Morris-Pratt search for the first half of the key. Empty for a key that is searched for only as a
    /// whole.
    failure: Vec<usize>,
    /// States of the texts that may contain a part of the key, the most recently used last.
    tracked: Vec<(u64, SearchState)>,
    /// The texts of the current event; kept to reuse the allocation.
    texts: Vec<Text>,
}

/// The state of the search in one text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SearchState {
    /// Number of bytes of the key's first half that the text ends with.
    matched: usize,
    /// Number of bytes still to remove after the first half.
    left: usize,
}

/// A string in an event.
#[derive(Debug, Clone, Copy)]
struct Text {
    /// Hash of the member's name and of the indices in the event, which identify a choice and a call.
    id: u64,
    start: usize,
    end: usize,
}

impl StreamRedactor {
    pub(super) fn new(key: Arc<Key>) -> Self {
        let first = &key.text.as_bytes()[..first_half_len(&key.text)];
        let mut failure = vec![0; first.len()];
        let mut length = 0;
        for at in 1..first.len() {
            while length > 0 && first[at] != first[length] {
                length = failure[length - 1];
            }
            length += usize::from(first[at] == first[length]);
            failure[at] = length;
        }
        Self { key, failure, tracked: Vec::new(), texts: Vec::new() }
    }

    /// Redacts the next event, a JSON text.
    pub(crate) fn pass(&mut self, event: String) -> String {
        let event = match self.key.redact_json(&event) {
            Some(redacted) => redacted,
            None => event,
        };
        if self.failure.is_empty() {
            return event;
        }
        let mut texts = std::mem::take(&mut self.texts);
        find_texts(&event, &mut texts);
        let mut out = String::new();
        let mut copied = 0;
        for text in &texts {
            if let Some(rest) = self.follow(text.id, &event[text.start..text.end]) {
                out.push_str(&event[copied..text.start]);
                out.push_str(&quote(&rest));
                copied = text.end;
            }
        }
        self.texts = texts;
        if copied == 0 {
            return event;
        }
        logprobs::remove(out + &event[copied..])
    }

    /// Searches the next part of the text `id`, a string literal. Returns the rest of the part if some of it is removed.
    fn follow(&mut self, id: u64, quoted: &str) -> Option<String> {
        let known = self.tracked.iter().position(|(known, _)| *known == id);
        let inner = &quoted[1..quoted.len() - 1];
        // Fast path: most texts neither continue nor begin the key.
        if known.is_none() && memchr2(self.key.text.as_bytes()[0], b'\\', inner.as_bytes()).is_none() {
            return None;
        }
        let is_escaped = memchr(b'\\', inner.as_bytes()).is_some();
        let part = if is_escaped { unquote(quoted)? } else { Cow::Borrowed(inner) };
        let before = known.map_or_else(SearchState::default, |at| self.tracked.remove(at).1);
        let (state, rest) = self.search(&part, before);
        if state != SearchState::default() {
            if self.tracked.len() == MAX_TEXTS {
                self.tracked.remove(0);
            }
            self.tracked.push((id, state));
        }
        rest
    }

    /// Continues a search at `state` through `part`. Returns the new state, and the rest of `part` if some of it is removed.
    fn search(&self, part: &str, mut state: SearchState) -> (SearchState, Option<String>) {
        let key = self.key.text.as_bytes();
        let first = self.failure.len();
        let mut out = String::new();
        // The bytes before this offset were copied or removed.
        let mut copied = 0;
        for (at, byte) in part.bytes().enumerate() {
            while state.matched > 0 && byte != key[state.matched] {
                state.matched = self.failure[state.matched - 1];
            }
            state.matched += usize::from(byte == key[state.matched]);
            if state.left > 0 && byte.is_ascii_graphic() {
                state.left -= 1;
                copied = at + 1;
            } else {
                state.left = 0;
            }
            if state.matched == first {
                let from = (at + 1).saturating_sub(first);
                out.push_str(part.get(copied..from).unwrap_or_default());
                out.push_str(HIDDEN);
                copied = at + 1;
                state = SearchState { matched: 0, left: key.len() - first };
            }
        }
        let rest = (copied > 0).then(|| out + &part[copied..]);
        (state, rest)
    }
}

/// Returns the length of the part of a key that identifies it: one half, but at least [`LONG_KEY`] bytes, which cannot be guessed
/// even with a known prefix (`sk-proj-`). 0 for a key that is shorter or not ASCII.
fn first_half_len(key: &str) -> usize {
    if key.len() >= LONG_KEY && key.is_ascii() { (key.len() / 2).max(LONG_KEY) } else { 0 }
}

/// Collects the texts of `event` that can continue in the next event.
fn find_texts(event: &str, texts: &mut Vec<Text>) {
    texts.clear();
    let bytes = event.as_bytes();
    let mut numbers: u64 = 0;
    let mut member = None;
    for found in strings(event) {
        if !found.is_name {
            if let Some(id) = member.take() {
                texts.push(Text { id, start: found.start, end: found.end });
            }
            continue;
        }
        let name = &bytes[found.start + 1..found.end - 1];
        let value = event[found.end..].trim_start().strip_prefix(':').unwrap_or_default().trim_start();
        if name.ends_with(b"index") {
            let digits = value.bytes().take_while(u8::is_ascii_digit);
            let number =
                digits.fold(1, |number: u64, digit| number.wrapping_mul(10) + u64::from(digit - b'0'));
            numbers = numbers.wrapping_mul(1_000_003).wrapping_add(number);
        }
        let is_text = value.starts_with('"');
        member = TEXTS.iter().position(|text| *text == name).filter(|_| is_text).map(|at| at as u64);
    }
    for text in texts {
        text.id = text.id.wrapping_add(numbers.wrapping_mul(16));
    }
}

#[cfg(test)]
mod tests;
