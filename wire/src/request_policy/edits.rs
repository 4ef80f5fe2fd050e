//! Replacements in a text, and the positions of the unchanged parts afterwards.

use std::ops::Range;

/// Replacements of ranges of a text, ordered by range and disjoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Whether there are no edits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sorts `edits`; an insertion precedes a replacement that begins at the same offset.
    pub(super) fn of(mut edits: Vec<(Range<usize>, String)>) -> Self {
        edits.sort_by_key(|(place, _)| (place.start, place.end));
        Self(edits)
    }

    /// Returns `text` with the replacements made.
    pub fn applied(&self, text: &str) -> String {
        let more: usize = self.0.iter().map(|(_, with)| with.len()).sum();
        let mut out = String::with_capacity(text.len() + more);
        let mut at = 0;
        for (place, with) in &self.0 {
            out.push_str(&text[at..place.start]);
            out.push_str(with);
            at = place.end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// Returns the range of `place` after the edits, or `None` if an edit overlaps it.
    #[must_use]
    pub fn moved(&self, place: &Range<usize>) -> Option<Range<usize>> {
        let (mut more, mut less) = (0, 0);
        for (changed, with) in self.0.iter().take_while(|(changed, _)| changed.start < place.end) {
            if changed.end > place.start {
                return None;
            }
            more += with.len();
            less += changed.len();
        }
        Some(place.start + more - less..place.end + more - less)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unchanged_parts_are_at_the_positions_that_moved_returns(
            pieces in prop::collection::vec(("[a-z]{0,4}", prop::option::of("[A-Z]{0,6}")), 0..9)
        ) {
            let (mut kept, mut text) = (Vec::new(), String::new());
            let mut changed = Vec::new();
            for (piece, with) in pieces {
                let place = text.len()..text.len() + piece.len();
                text.push_str(&piece);
                match with {
                    Some(with) => changed.push((place, with)),
                    None => kept.push(place),
                }
            }
            let whole: Vec<_> = changed.iter().filter(|(place, _)| !place.is_empty()).cloned().collect();
            let edits = Edits::of(whole.iter().rev().cloned().collect());
            let after = edits.applied(&text);
            for place in kept {
                let Some(moved) = edits.moved(&place) else { panic!("{place:?} is not touched") };
                prop_assert_eq!(&after[moved], &text[place]);
            }
            for (place, _) in whole {
                prop_assert_eq!(edits.moved(&place), None);
            }
        }
    }
}
