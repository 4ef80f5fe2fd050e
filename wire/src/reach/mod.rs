//! What a request asks of the backend beyond an answer: to fetch an address, to run tools of its own, to keep the answer
//! or to use what it kept. All of it happens in the network, and with the rights, of whoever owns the backend.
//!
//! It is found in the one pass in which a request is checked, by the places where the APIs have it: a text may hold any
//! address and any word, and so may the arguments of a call and the schema of a tool.

mod look;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::json::JsonError;
use crate::json::scan::{Source, scan};

pub(crate) use look::Look;

/// What a request reaches for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// What it may not ask of another's backend.
    pub refused: Option<Refused>,
    /// Where its list of tools stands, if there are some in it that agents offer with every request, needed or not, and
    /// that run at a server: the list, and what is left of it.
    less: Option<(Range<usize>, Vec<Range<usize>>)>,
}

/// A member of a request that asks for too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The member of the request.
    pub param: String,
    /// What it asks for, in words.
    what: String,
}

impl Refused {
    /// The whole sentence, about the LLM `name`.
    pub fn text(&self, name: &str) -> String {
        let Self { param, what } = self;
        format!(
            "'{param}' asks '{name}' {what}; only the LLM's owner may, and can allow it (allowRemoteUrls)"
        )
    }
}

impl Reach {
    /// Looks at the JSON object `text`.
    pub fn of(text: &str) -> Result<Self, JsonError> {
        let mut read = Read { text: text.as_bytes(), look: Look::default() };
        scan(&mut read)?;
        Ok(read.look.done())
    }

    /// Whether it asks for nothing but an answer.
    pub fn is_plain(&self) -> bool {
        self.refused.is_none() && self.less.is_none()
    }

    /// `text`, which is what was looked at, without the tools that it does not need; `None` where it has none of them.
    pub fn without_tools(&self, text: &str) -> Option<String> {
        let (list, left) = self.less.as_ref()?;
        let left: Vec<&str> = left.iter().map(|tool| &text[tool.clone()]).collect();
        Some(format!("{}[{}]{}", &text[..list.start], left.join(","), &text[list.end..]))
    }
}

/// A text that is looked at, and nothing else.
struct Read<'a> {
    text: &'a [u8],
    look: Look,
}

impl Source for Read<'_> {
    fn bytes(&self) -> &[u8] {
        self.text
    }

    fn space(&mut self, _: usize, _: usize) {}

    fn any_key(&mut self, start: usize, end: usize) {
        self.look.key(self.text, start, end);
    }

    fn open(&mut self, start: usize, is_object: bool) {
        self.look.open(self.text, start, is_object);
    }

    fn close(&mut self, end: usize) {
        self.look.close(self.text, end);
    }

    fn string(&mut self, start: usize, end: usize) {
        self.look.string(self.text, start, end);
    }

    fn scalar(&mut self, start: usize, end: usize) {
        self.look.scalar(self.text, start, end);
    }
}
