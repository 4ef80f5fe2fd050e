//! Finds the end of a call's arguments while they arrive.

use super::chunk::arguments_text;
use super::json::escaped_char;

/// Follows the escaped arguments of a call. Each byte is read once, and all are parsed once, when their outer bracket or quote
/// closes: what is no object then does not become one.
#[derive(Debug, Default)]
pub(super) struct ArgumentsCheck {
    /// Number of bytes that were read.
    read: usize,
    state: State,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// White space so far.
    #[default]
    Before,
    /// In an object: the number of open brackets, and whether a string is open.
    Object { depth: usize, string: Option<Quoted> },
    /// In a string, which some models write around the object.
    String(Quoted),
    /// A whole object, which only white space can follow.
    Complete,
    /// Nothing that follows makes it an object.
    Invalid,
}

/// An open string.
#[derive(Debug, Clone, Copy)]
enum Quoted {
    Text,
    /// Behind a backslash.
    Backslash,
}

impl ArgumentsCheck {
    /// Whether `text`, which begins with the text of earlier calls, is a whole object.
    pub(super) fn is_complete(&mut self, text: &str) -> bool {
        while let Some(c) = text[self.read..].chars().next() {
            let (c, length) = match c {
                '\\' => escaped_char(&text[self.read..]).unwrap_or((c, 1)),
                c => (c, c.len_utf8()),
            };
            self.read += length;
            let is_closed = self.state.step(c);
            if is_closed {
                let is_object = arguments_text(&text[..self.read]).is_some();
                self.state = if is_object { State::Complete } else { State::Invalid };
            }
            if matches!(self.state, State::Invalid) {
                self.read = text.len();
            }
        }
        matches!(self.state, State::Complete)
    }
}

impl State {
    /// Adds a character; whether it closes the value.
    fn step(&mut self, c: char) -> bool {
        let next = match (*self, c) {
            (Self::Before | Self::Complete, ' ' | '\t' | '\n' | '\r') => return false,
            (Self::Before, '{') => Self::Object { depth: 1, string: None },
            (Self::Before, '"') => Self::String(Quoted::Text),
            (Self::Before | Self::Complete | Self::Invalid, _) => Self::Invalid,
            (Self::String(quoted), c) => match quoted.step(c) {
                Some(quoted) => Self::String(quoted),
                None => return true,
            },
            (Self::Object { depth, string: Some(quoted) }, c) => {
                Self::Object { depth, string: quoted.step(c) }
            }
            (Self::Object { depth, .. }, '"') => Self::Object { depth, string: Some(Quoted::Text) },
            (Self::Object { depth, .. }, '{' | '[') => Self::Object { depth: depth + 1, string: None },
            (Self::Object { depth: 1, .. }, '}' | ']') => return true,
            (Self::Object { depth, .. }, '}' | ']') => Self::Object { depth: depth - 1, string: None },
            (object @ Self::Object { .. }, _) => object,
        };
        *self = next;
        false
    }
}

impl Quoted {
    /// Adds a character; `None` if it ends the string.
    fn step(self, c: char) -> Option<Self> {
        match (self, c) {
            (Self::Text, '"') => None,
            (Self::Text, '\\') => Some(Self::Backslash),
            _ => Some(Self::Text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chunk::arguments;
    use super::super::json::escape;
    use super::*;

    proptest! {
        /// The reference parses all of the text after each character.
        #[test]
        fn arguments_are_complete_when_they_parse(
            text in r#"[ \n]{0,2}"?\{(\\?"|a|\\|[{}\[\],:1]|"[a\\]{0,2}":|é){0,12}\}?"?[ }]{0,2}"#,
            cuts in proptest::collection::vec(any::<bool>(), 40),
        ) {
            let mut check = ArgumentsCheck::default();
            let (mut plain, mut escaped) = (String::new(), String::new());
            for (c, is_cut) in text.chars().zip(cuts.iter().cycle()) {
                plain.push(c);
                escaped.push_str(&escape(&c.to_string()));
                if *is_cut {
                    let is_object = plain.contains('}') && arguments(&escaped).is_some();
                    prop_assert_eq!(check.is_complete(&escaped), is_object, "{}", plain);
                }
            }
        }
    }
}
