//! A parser of JSON arrays whose text arrives in parts. Pure.

use std::ops::Range;

use serde_json::value::RawValue;

/// Splits the text of a JSON array into its items while the text arrives.
#[derive(Debug, Default)]
pub(super) struct ArrayReader {
    text: Vec<u8>,
    /// Where the text begins that was not returned yet.
    at: usize,
}

/// The next item in the text, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NextItem {
    /// The range of the item in the text.
    Item(Range<usize>),
    /// More text is needed.
    Incomplete,
    /// The array has ended.
    End,
    /// The text is no JSON array.
    Invalid,
}

impl ArrayReader {
    /// Appends text.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.text.drain(..self.at);
        self.at = 0;
        self.text.extend_from_slice(part);
    }

    /// Bytes of text that was not returned yet.
    pub(super) fn unread(&self) -> usize {
        self.text.len() - self.at
    }

    /// Bytes of text in memory.
    pub(super) fn buffered(&self) -> usize {
        self.text.len()
    }

    /// The text of an item.
    pub(super) fn text(&self, item: Range<usize>) -> &str {
        self.text.get(item).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }

    /// Finds the next item. The text has no white space between items.
    pub(super) fn next_item(&mut self) -> NextItem {
        let start = match self.text.get(self.at) {
            None => return NextItem::Incomplete,
            Some(b']') => return NextItem::End,
            Some(b'[' | b',') => self.at + 1,
            Some(_) => return NextItem::Invalid,
        };
        let rest = &self.text[start..];
        if rest.first() == Some(&b']') {
            return NextItem::End;
        }
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<&RawValue>();
        match values.next() {
            // Only a byte after the value shows that it is complete: a number may go on.
            Some(Ok(_)) if values.byte_offset() < rest.len() => {
                self.at = start + values.byte_offset();
                NextItem::Item(start..self.at)
            }
            None | Some(Ok(_)) => NextItem::Incomplete,
            Some(Err(error)) if error.is_eof() => NextItem::Incomplete,
            Some(Err(_)) => NextItem::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// All items are found in order, wherever the text is cut, also within a character.
        #[test]
        fn items_are_found_wherever_the_text_is_cut(
            texts in prop::collection::vec("[a-zé€😀,\\[\\]{}\"\\\\ ]{0,12}", 0..12),
            cuts in prop::collection::vec(1_usize..9, 1..9),
        ) {
            let members: Vec<_> = texts.iter().enumerate().map(|(n, text)| json!({ "t": text, "n": [n] })).collect();
            let text = serde_json::to_string(&members).unwrap();
            let mut rest = text.as_bytes();
            let (mut found, mut reader, mut cuts) = (Vec::new(), ArrayReader::default(), cuts.into_iter().cycle());
            loop {
                match reader.next_item() {
                    NextItem::Item(item) => found.push(reader.text(item).to_owned()),
                    NextItem::Incomplete => {
                        prop_assert!(!rest.is_empty());
                        let (part, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                        reader.push(part);
                        rest = after;
                    }
                    NextItem::End => break,
                    NextItem::Invalid => prop_assert!(false, "{text}"),
                }
            }
            let expected: Vec<_> = members.iter().map(ToString::to_string).collect();
            prop_assert_eq!(found, expected);
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn text_that_is_no_array_is_invalid() {
        for text in ["{}", "[{]", "x", "[1 2]"] {
            let mut reader = ArrayReader::default();
            reader.push(text.as_bytes());
            let last =
                std::iter::repeat_with(|| reader.next_item()).find(|next| !matches!(next, NextItem::Item(_)));
            assert_eq!(last, Some(NextItem::Invalid), "{text}");
        }
    }
}
