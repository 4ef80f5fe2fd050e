//! JSON that only passes through: checked, made compact, never turned into a tree.
//!
//! `serde_json`'s `RawValue` accepts any depth and keeps line breaks, so a frame that holds one could overflow a
//! reader's stack or break an SSE event. [`compact`] closes both.

mod compact;
mod object;
mod unquote;

pub use compact::{JsonError, MAX_DEPTH, compact, compact_into};
pub use object::Object;
pub use unquote::unquote;

/// `text` as a JSON string literal.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
