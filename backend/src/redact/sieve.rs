//! Cuts a key out of the events of a stream, also where its parts come in several of them.
//!
//! Nothing waits unless so much of the key has come that no text begins like this by chance; then the events wait until
//! the rest of it has come, which is cut, or something else, and they go as they are.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::rc::Rc;

use memchr::{memchr, memchr2};
use wire::json::{quote, unquote};

use super::{HIDDEN, Key, strings};

/// So many characters of a key say nothing yet (`sk-proj-`), and are what may be seen of one that comes in parts.
const SEEN: usize = 8;
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
/// Events that wait at most, beyond one for each character of the key: those of other texts beside it.
const SPARE: usize = 64;

/// A stream's events, on their way.
pub(crate) struct Sieve {
    key: Rc<Key>,
    /// How much of the key a shorter beginning of it is, where the next character is another: as in a search for it.
    falls_to: Vec<usize>,
    /// How much of the key each text ends with, where it is something.
    matched: Vec<(u64, usize)>,
    /// Events that wait.
    held: Vec<String>,
    /// Events that are ready.
    ready: VecDeque<String>,
    /// The texts of the event at hand: which, and where.
    texts: Vec<Text>,
}

/// A text in an event.
#[derive(Debug, Clone, Copy)]
struct Text {
    /// Its member's name, and the numbers in the event that tell choices and calls apart.
    id: u64,
    start: usize,
    end: usize,
}

impl Sieve {
    pub(super) fn new(key: Rc<Key>) -> Self {
        let bytes = key.text.as_bytes();
        let mut falls_to = vec![0; bytes.len()];
        let mut length = 0;
        for at in 1..bytes.len() {
            while length > 0 && bytes[at] != bytes[length] {
                length = falls_to[length - 1];
            }
            length += usize::from(bytes[at] == bytes[length]);
            falls_to[at] = length;
        }
        Self {
            key,
            falls_to,
            matched: Vec::new(),
            held: Vec::new(),
            ready: VecDeque::new(),
            texts: Vec::new(),
        }
    }

    /// Takes the next event in, a JSON text.
    pub(crate) fn push(&mut self, event: String) {
        let mut event = match self.key.cut_json(&event) {
            Some(cut) => cut,
            None => event,
        };
        while let Some(cut) = self.follow(&event) {
            event = cut;
        }
        let threshold = SEEN.min(self.key.text.len() / 2);
        let waits = self.matched.iter().any(|(_, matched)| *matched >= threshold);
        if !waits && self.held.is_empty() {
            self.ready.push_back(event);
            return;
        }
        self.held.push(event);
        if !waits || self.held.len() > self.key.text.len() + SPARE {
            self.finish();
        }
    }

    /// The next event that may go.
    pub(crate) fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    /// Nothing follows: what waits goes as it is. `false` where nothing did.
    pub(crate) fn finish(&mut self) -> bool {
        self.matched.clear();
        self.ready.extend(self.held.drain(..));
        !self.ready.is_empty()
    }

    /// Follows the key through the texts of `event`; the event without its last part, where the whole has come.
    fn follow(&mut self, event: &str) -> Option<String> {
        find_texts(event, &mut self.texts);
        let known = self.matched.clone();
        for index in 0..self.texts.len() {
            let text = self.texts[index];
            let quoted = &event[text.start..text.end];
            let inner = &quoted[1..quoted.len() - 1];
            let before =
                self.matched.iter().find(|(id, _)| *id == text.id).map_or(0, |(_, matched)| *matched);
            // Most texts neither go on with it nor begin it.
            if before == 0 && memchr2(self.key.text.as_bytes()[0], b'\\', inner.as_bytes()).is_none() {
                continue;
            }
            let is_escaped = memchr(b'\\', inner.as_bytes()).is_some();
            let said = if is_escaped { unquote(quoted)? } else { Cow::Borrowed(inner) };
            match self.search(&said, before) {
                Ok(matched) => {
                    self.matched.retain(|(id, _)| *id != text.id);
                    if matched > 0 {
                        self.matched.push((text.id, matched));
                    }
                }
                Err(end) => {
                    // The event is looked at again, without it.
                    self.matched = known;
                    self.matched.retain(|(id, _)| *id != text.id);
                    return Some(self.cut(event, text, &said, end));
                }
            }
        }
        None
    }

    /// How much of the key `said` ends with where `matched` of it came before, or where in it the whole of it ends.
    fn search(&self, said: &str, mut matched: usize) -> Result<usize, usize> {
        let key = self.key.text.as_bytes();
        for (at, byte) in said.bytes().enumerate() {
            while matched > 0 && byte != key[matched] {
                matched = self.falls_to[matched - 1];
            }
            matched += usize::from(byte == key[matched]);
            if matched == key.len() {
                return Err(at + 1);
            }
        }
        Ok(matched)
    }

    /// Cuts the key, which ends `end` bytes into `said`, out of the events that wait and of `event`, the last one.
    fn cut(&mut self, event: &str, text: Text, said: &str, end: usize) -> String {
        let mut left = self.key.text.len().saturating_sub(end);
        let from = end.saturating_sub(self.key.text.len());
        let last = format!("{}{HIDDEN}{}", &said[..from], &said[end..]);
        let last = format!("{}{}{}", &event[..text.start], quote(&last), &event[text.end..]);
        for event in self.held.iter_mut().rev() {
            if left == 0 {
                break;
            }
            find_texts(event, &mut self.texts);
            for of in self.texts.iter().rev().filter(|of| of.id == text.id) {
                let Some(said) = unquote(&event[of.start..of.end]) else { continue };
                let kept = said.len().saturating_sub(left);
                left -= said.len() - kept;
                let rest = quote(said.get(..kept).unwrap_or_default());
                *event = format!("{}{rest}{}", &event[..of.start], &event[of.end..]);
                break;
            }
        }
        last
    }
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
