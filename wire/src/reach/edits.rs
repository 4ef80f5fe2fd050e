//! Changes of a text, and where the rest of it stands afterwards.

use std::ops::Range;

/// Pieces of a text that are replaced, in the order of their places; none lies in another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These replacements; one of nothing comes before one that begins at the same place.
    pub(super) fn of(mut edits: Vec<(Range<usize>, String)>) -> Self {
        edits.sort_by_key(|(place, _)| (place.start, place.end));
        Self(edits)
    }

    /// `text` with the changes.
    pub fn applied(&self, text: &str) -> String {
        let more: usize = self.0.iter().map(|(_, by)| by.len()).sum();
        let mut out = String::with_capacity(text.len() + more);
        let mut at = 0;
        for (place, by) in &self.0 {
            out.push_str(&text[at..place.start]);
            out.push_str(by);
            at = place.end;
        }
        out.push_str(&text[at..]);
        out
    }

    /// Where `place` stands afterwards; `None` where one of the changes touches it.
    #[must_use]
    pub fn moved(&self, place: &Range<usize>) -> Option<Range<usize>> {
        let (mut more, mut less) = (0, 0);
        for (changed, by) in self.0.iter().take_while(|(changed, _)| changed.start < place.end) {
            if changed.end > place.start {
                return None;
            }
            more += by.len();
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
        /// What is left of a text is found again.
        #[test]
        fn what_does_not_change_is_where_it_is_said_to_be(
            pieces in prop::collection::vec(("[a-z]{0,4}", prop::option::of("[A-Z]{0,6}")), 0..9)
        ) {
            let (mut kept, mut text) = (Vec::new(), String::new());
            let mut changed = Vec::new();
            for (piece, by) in pieces {
                let place = text.len()..text.len() + piece.len();
                text.push_str(&piece);
                match by {
                    Some(by) => changed.push((place, by)),
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
