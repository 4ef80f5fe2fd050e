//! JSON that only passes through: checked, made compact, never turned into a tree.
//!
//! `serde_json`'s `RawValue` accepts any depth and keeps line breaks, so a frame that holds one could overflow a
//! reader's stack or break an SSE event. [`compact`] and [`spans`] close both.

mod compact;
pub(crate) mod letters;
mod object;
mod parts;
pub(crate) mod scan;
mod spans;
mod unquote;

pub use compact::{compact, compact_into};
pub use letters::folds;
pub use object::Object;
pub use parts::{each_element, each_member, is_small_tree};
pub use scan::{MAX_DEPTH, MAX_MEMBERS, MAX_VALUES};
pub use spans::{Spans, member, reaching_spans, spans};
pub use unquote::unquote;

/// Why a text is not JSON that we pass on.
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
    /// More values than [`MAX_VALUES`], where a tree would be made of them.
    #[error("JSON with more than {MAX_VALUES} values")]
    TooManyValues,
    /// It would become far larger than it is.
    #[error("JSON of too many parts")]
    TooManyParts,
    /// Valid JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A key at this byte offset that readers take for the named one which do not tell capitals from small letters.
    #[error("JSON with a member, at byte {0}, that some servers take for '{1}': write '{1}'")]
    OddKey(usize, &'static str),
    /// A key at this byte offset that is no text: one half of a surrogate pair is in it.
    #[error("JSON with a member, at byte {0}, whose name is no text")]
    HalfKey(usize),
}

/// `text` as a JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
