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

    pub(super) fn replace(&mut self, place: Range<usize>, by: String) {
        let at = self.0.partition_point(|(other, _)| other.start < place.start);
        self.0.insert(at, (place, by));
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

    /// Where `place`, which none of the changes is in, stands afterwards.
    #[must_use]
    pub fn moved(&self, place: &Range<usize>) -> Range<usize> {
        let (mut more, mut less) = (0, 0);
        for (changed, by) in self.0.iter().take_while(|(changed, _)| changed.end <= place.start) {
            more += by.len();
            less += changed.len();
        }
        place.start + more - less..place.end + more - less
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
            let (mut edits, mut kept, mut text) = (Edits::default(), Vec::new(), String::new());
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
            for (place, by) in whole.into_iter().rev() {
                edits.replace(place, by);
            }
            let after = edits.applied(&text);
            for place in kept {
                prop_assert_eq!(&after[edits.moved(&place)], &text[place]);
            }
        }
    }
}
