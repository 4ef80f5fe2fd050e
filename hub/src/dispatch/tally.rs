//! What the events of a stream count for in the records of its call.

use wire::openai::Usage;

/// The counts of some events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The token usage that they report.
    pub(crate) usage: Option<Usage>,
    /// How many of them have content. They are counted as tokens if the backend reports no usage.
    pub(crate) content: u64,
}

impl Tally {
    /// Adds the counts of later events.
    pub(super) fn add(&mut self, later: Self) {
        self.content += later.content;
        self.usage = match (self.usage, later.usage) {
            (Some(earlier), Some(later)) => Some(earlier.merged(later)),
            (earlier, later) => later.or(earlier),
        };
    }
}
