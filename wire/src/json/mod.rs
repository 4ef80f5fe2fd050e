//! JSON that is passed on: checked and made compact, but never parsed into a tree.
//!
//! `serde_json`'s `RawValue` accepts any depth and keeps line breaks, which could overflow a reader's stack or break an SSE
//! event. [`compact`] and [`spans`] limit the depth and remove line breaks.

mod compact;
pub(crate) mod letters;
mod object;
mod parts;
pub(crate) mod scan;
mod spans;
mod string_stop;
mod unquote;

pub use compact::{compact, compact_into};
pub use letters::folds;
pub use object::Object;
pub use parts::{TreeBudget, each_element, each_member, is_small_tree};
pub use scan::{MAX_DEPTH, MAX_MEMBERS, MAX_VALUES};
pub use spans::{Spans, inspect_request, member, spans};
pub use unquote::unquote;

/// Why JSON is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, at this byte offset.
    #[error("not valid JSON at byte {0}")]
    Syntax(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("JSON nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More members in all objects than [`MAX_MEMBERS`].
    #[error("JSON with more than {MAX_MEMBERS} members")]
    TooManyMembers,
    /// More values than [`MAX_VALUES`], the limit for JSON that is parsed into a tree.
    #[error("JSON with more than {MAX_VALUES} values")]
    TooManyValues,
    /// Its translation would be far larger than the input.
    #[error("JSON of too many parts")]
    TooManyParts,
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A key at this byte offset that servers which ignore letter case read as the named one.
    #[error("JSON with a member, at byte {0}, that some servers take for '{1}': write '{1}'")]
    OddKey(usize, &'static str),
    /// A key at this byte offset with an unpaired surrogate.
    #[error("JSON with a member, at byte {0}, whose name is no text")]
    HalfKey(usize),
}

/// Parses `body` into a tree, if it is JSON of at most `values` values: each takes 30 to 300 bytes.
pub fn tree(body: &[u8], values: usize) -> Option<serde_json::Value> {
    let text = std::str::from_utf8(body).ok()?;
    TreeBudget::new(values).take(text).ok()?;
    serde_json::from_str(text).ok()
}

/// Encodes `text` as a JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
