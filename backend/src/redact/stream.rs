//! Cuts a key out of the events of a stream, also where its parts come in several of them.
//!
//! A model repeats what its caller tells it to, so whatever follows the right next character of a key alone, a wait or a
//! cut, would tell the key character by character. Here no event waits, and the first part of the key counts as one: before
//! the end of it nothing happens, and behind it goes what is as long as the rest of the key, whatever it is.

use std::borrow::Cow;
use std::sync::Arc;

use memchr::{memchr, memchr2};
use wire::json::{quote, unquote};

use super::{HIDDEN, Key, LONG_KEY, logprobs, strings};

/// Members whose texts go on in the next event.
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
/// Texts of one stream in which a key may have begun, at most: a backend may number choices without end.
const MOST_TEXTS: usize = 64;

/// A stream's events, on their way.
pub(crate) struct StreamRedactor {
    key: Arc<Key>,
    /// How much of the key's first part a shorter beginning of it is, where the next character is another: as in a search for
    /// it. Empty for a key that is not looked for in parts.
    falls_to: Vec<usize>,
    /// Where the texts stand in which it may have begun, or has come; the last one looked at is the last.
    begun: Vec<(u64, State)>,
    /// The texts of the event at hand: which, and where.
    texts: Vec<Text>,
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// How much of the key's first part it ends with.
    matched: usize,
    /// How much is still to go behind the first part.
    left: usize,
}

/// A text in an event.
#[derive(Debug, Clone, Copy)]
struct Text {
    /// Its member's name, and the numbers in the event that tell choices and calls apart.
    id: u64,
    start: usize,
    end: usize,
}

impl StreamRedactor {
    pub(super) fn new(key: Arc<Key>) -> Self {
        let first = &key.text.as_bytes()[..first_part(&key.text)];
        let mut falls_to = vec![0; first.len()];
        let mut length = 0;
        for at in 1..first.len() {
            while length > 0 && first[at] != first[length] {
                length = falls_to[length - 1];
            }
            length += usize::from(first[at] == first[length]);
            falls_to[at] = length;
        }
        Self { key, falls_to, begun: Vec::new(), texts: Vec::new() }
    }

    /// The next event, a JSON text, as it may go.
    pub(crate) fn pass(&mut self, event: String) -> String {
        let event = match self.key.cut_json(&event) {
            Some(cut) => cut,
            None => event,
        };
        if self.falls_to.is_empty() {
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
        logprobs::emptied(out + &event[copied..])
    }

    /// Follows the key through the next piece of the text `id`, a string literal; what is left of it where some of it goes.
    fn follow(&mut self, id: u64, quoted: &str) -> Option<String> {
        let known = self.begun.iter().position(|(known, _)| *known == id);
        let inner = &quoted[1..quoted.len() - 1];
        // Most texts neither go on with it nor begin it.
        if known.is_none() && memchr2(self.key.text.as_bytes()[0], b'\\', inner.as_bytes()).is_none() {
            return None;
        }
        let is_escaped = memchr(b'\\', inner.as_bytes()).is_some();
        let said = if is_escaped { unquote(quoted)? } else { Cow::Borrowed(inner) };
        let before = known.map_or_else(State::default, |at| self.begun.remove(at).1);
        let (state, rest) = self.search(&said, before);
        if state != State::default() {
            if self.begun.len() == MOST_TEXTS {
                self.begun.remove(0);
            }
            self.begun.push((id, state));
        }
        rest
    }

    /// Where a text stands behind `said` that stood at `state` before it, and what is left of `said` where some of it goes.
    fn search(&self, said: &str, mut state: State) -> (State, Option<String>) {
        let key = self.key.text.as_bytes();
        let first = self.falls_to.len();
        let mut out = String::new();
        // All before this is in `out`, or gone.
        let mut copied = 0;
        for (at, byte) in said.bytes().enumerate() {
            while state.matched > 0 && byte != key[state.matched] {
                state.matched = self.falls_to[state.matched - 1];
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
                out.push_str(said.get(copied..from).unwrap_or_default());
                out.push_str(HIDDEN);
                copied = at + 1;
                state = State { matched: 0, left: key.len() - first };
            }
        }
        let rest = (copied > 0).then(|| out + &said[copied..]);
        (state, rest)
    }
}

/// Length of the part of a key that shows that it is the key: half of it, and not less than nobody guesses at once, be its
/// beginning known (`sk-proj-`). 0 for a key that is too short, or no ASCII.
fn first_part(key: &str) -> usize {
    if key.len() >= LONG_KEY && key.is_ascii() { (key.len() / 2).max(LONG_KEY) } else { 0 }
}

/// The texts of `event` that may go on in the next one.
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
