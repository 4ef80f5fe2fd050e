//! Visits the members of an object or the elements of an array one by one, in constant memory.

use super::scan::{Source, scan, scan_within};
use super::{JsonError, MAX_VALUES};

/// Calls `each` with the quoted key and the value of each member of the object `text`, duplicates included. An array has none.
pub fn each_member<'a>(text: &'a str, each: impl FnMut(&'a str, &'a str)) -> Result<(), JsonError> {
    scan(&mut Parts { text, key: "", member: each, element: |_| () })
}

/// Calls `each` with each element of the array `text`. An object has none.
pub fn each_element<'a>(text: &'a str, each: impl FnMut(&'a str)) -> Result<(), JsonError> {
    scan(&mut Parts { text, key: "", member: |_, _| (), element: each })
}

/// Checks that the JSON in `text` is small enough for a tree: at most [`MAX_VALUES`] values in all, array elements included.
pub fn is_small_tree(text: &str) -> Result<(), JsonError> {
    TreeBudget::default().take(text)
}

/// The number of values that trees may have together: those of a request or an answer, and of JSON texts in its strings.
#[derive(Debug, Clone)]
pub struct TreeBudget {
    /// Values that are left.
    values: usize,
}

/// [`MAX_VALUES`] values.
impl Default for TreeBudget {
    fn default() -> Self {
        Self::new(MAX_VALUES)
    }
}

impl TreeBudget {
    /// Creates a budget of `values`.
    pub fn new(values: usize) -> Self {
        Self { values }
    }

    /// Checks the JSON in `text`, and counts its values. After an error, `text` does not count.
    pub fn take(&mut self, text: &str) -> Result<(), JsonError> {
        self.values = scan_within(self.values, &mut Counted(text))?;
        Ok(())
    }
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
        // Quotes are ASCII, so the range is on character boundaries.
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
    const LIMITS_VALUES: bool = true;

    fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    fn space(&mut self, _start: usize, _end: usize) {}
}
