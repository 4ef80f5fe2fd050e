//! What a request asks of the backend beyond an answer: to fetch an address, to run tools of its own, to keep the answer
//! or to use what it kept. All of it happens in the network, and with the rights, of whoever owns the backend.
//!
//! It is found in the one pass in which a request is checked, by the places where the APIs have it: a text may hold any
//! address and any word, and so may the arguments of a call and the schema of a tool.

mod data;
mod edits;
mod item;
mod known;
mod look;
mod tools;
mod words;

#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::json::JsonError;
use crate::json::scan::{Source, scan};
use crate::task::Endpoint;
use tools::Less;

pub use edits::Edits;
pub(crate) use look::Look;

/// What a request reaches for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// What it may not ask of another's backend.
    refused: Option<Refused>,
    /// Its list of tools, if there are some in it that agents offer with every request, needed or not, and that run at a
    /// server.
    less: Option<Less>,
    store: Store,
    /// Its members that no known API has, each with a comma, in order.
    left_out: Vec<Range<usize>>,
}

/// What a request says of whether its answer is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Store {
    /// Where its first member begins.
    at: usize,
    /// Whether it says something.
    is_said: bool,
    /// Where it is said by a null, as good as nothing.
    nulls: Vec<Range<usize>>,
    /// Whether every member of the request is left out: no comma comes behind it.
    is_alone: bool,
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

    /// Why a request may not go to another's backend, whose caller asked for `asked` of what is asked here: all of it, or
    /// what it was before its agent's owner added to it.
    pub fn refused(&self, asked: &Self) -> Option<Refused> {
        let needed = || match (&asked.less, &self.less) {
            // What was added has one of the tools called that would be left out.
            (Some(less), None) => Some(no_tool(&less.kind)),
            _ => None,
        };
        asked.refused.clone().or_else(needed)
    }

    /// What changes in `text`, which is what was looked at, before it goes to another's backend at `endpoint`, for a caller
    /// who asked for `asked` of it: what no known API has and the tools that it does not need are left out, and of the
    /// responses API, whose servers keep each answer unless they are told not to, `store` is false where nothing is said of it.
    pub fn edits(&self, asked: &Self, text: &str, endpoint: Endpoint) -> Edits {
        let mut edits = Vec::new();
        // What is added to a request comes behind what its caller says.
        let left_out = self.left_out.iter().take(asked.left_out.len());
        edits.extend(left_out.map(|member| (member.clone(), String::new())));
        let is_empty = self.store.is_alone && edits.len() == self.left_out.len();
        if let Some(less) = self.less.as_ref().filter(|_| asked.less.is_some()) {
            let left: Vec<&str> = less.left.iter().map(|tool| &text[tool.clone()]).collect();
            edits.push((less.list.clone(), format!("[{}]", left.join(","))));
        }
        if endpoint == Endpoint::Responses {
            let Store { at, is_said, nulls, .. } = &self.store;
            if !is_said && *at > 0 {
                let comma = if is_empty { "" } else { "," };
                edits.push((*at..*at, format!(r#""store":false{comma}"#)));
            }
            edits.extend(nulls.iter().map(|null| (null.clone(), "false".to_owned())));
        }
        Edits::of(edits)
    }
}

/// The refusal of a tool of this kind.
fn no_tool(kind: &str) -> Refused {
    let kind = if kind.is_empty() { "of no known type" } else { kind };
    Refused { param: "tools".into(), what: format!("for a tool that runs there ({kind})") }
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
