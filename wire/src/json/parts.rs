//! The members of an object and the elements of a list, one after the other: nothing is kept of them, however many.

use super::scan::{Source, scan};
use super::{JsonError, MAX_VALUES};

/// Gives each member of the JSON object `text` to `each`, duplicates included: its key as it stands there, with its quotes,
/// and the text of its value. Nothing of a list.
pub fn each_member<'a>(text: &'a str, each: impl FnMut(&'a str, &'a str)) -> Result<(), JsonError> {
    scan(&mut Parts { text, key: "", member: each, element: |_| () })
}

/// Gives the text of each element of the JSON list `text` to `each`. Nothing of an object.
pub fn each_element<'a>(text: &'a str, each: impl FnMut(&'a str)) -> Result<(), JsonError> {
    scan(&mut Parts { text, key: "", member: |_, _| (), element: each })
}

/// Whether the JSON in `text` may become a tree: it has no more than [`MAX_VALUES`] values in all, those of lists included.
pub fn is_small_tree(text: &str) -> Result<(), JsonError> {
    scan(&mut Counted(text))
}

struct Parts<'a, M, E> {
    text: &'a str,
    key: &'a str,
    member: M,
    element: E,
}

impl<'a, M: FnMut(&'a str, &'a str), E: FnMut(&'a str)> Source for Parts<'a, M, E> {
    fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    fn space(&mut self, _start: usize, _end: usize) {}

    fn key(&mut self, start: usize, end: usize) {
        // What is between ASCII signs is whole text.
        self.key = self.text.get(start..end).unwrap_or_default();
    }

    fn value(&mut self, start: usize, end: usize) {
        (self.member)(self.key, self.text.get(start..end).unwrap_or_default());
    }

    fn element(&mut self, start: usize, end: usize) {
        (self.element)(self.text.get(start..end).unwrap_or_default());
    }
}

struct Counted<'a>(&'a str);

impl Source for Counted<'_> {
    const MOST_VALUES: usize = MAX_VALUES;

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn space(&mut self, _start: usize, _end: usize) {}
}
