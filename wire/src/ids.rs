//! Ids of sessions and tasks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not valid in a header.
    #[error("a session id is 1 to {max} visible ASCII characters", max = MAX_ID)]
    Session,
    /// Empty, too long, with a control character, or a dot segment, which would change a URL path.
    #[error("a task id is 1 to {max} characters, none of them a control character, and neither . nor ..", max = MAX_ID)]
    Task,
}

/// Maximum length of an id in characters (SPEC.md section 6, session file).
pub const MAX_ID: usize = 256;

/// Session ids are sent in headers.
fn is_session(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Task ids are sent in JSON and, escaped, in paths, and are written to the log.
fn is_task(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && text != "."
        && text != ".."
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $invalid:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses an id.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if $rule(&text) { Ok(Self(text)) } else { Err(InvalidId::$invalid) }
            }

            /// Returns the id as text, which is safe in a log line.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Returns the id as a path segment, escaped like `encodeURIComponent`.
            pub fn encoded(&self) -> String {
                encode_uri_component(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id! {
    /// The id of a publisher's session, which the publisher stores and reuses after a restart.
    SessionId, is_session, Session
}

id! {
    /// The id of one dispatch. A retry or a failover gets a new id.
    TaskId, is_task, Task
}

/// Escapes all characters except `A-Z a-z 0-9 - _ . ! ~ * ' ( )`, like ECMAScript's `encodeURIComponent` (ECMA-262, 19.2.6.4).
pub fn encode_uri_component(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_that_could_break_a_header_is_rejected() {
        for bad in ["", "a b", "a\r\nX-Evil: 1", "a\0", "ä", &"x".repeat(257)] {
            assert_eq!(SessionId::parse(bad), Err(InvalidId::Session), "{bad:?}");
        }
        assert!(SessionId::parse("x".repeat(256)).is_ok());
    }

    #[test]
    fn dot_segments_and_control_characters_are_no_task_ids() {
        for good in ["a b/ü?#%", &"ü".repeat(256)] {
            assert!(TaskId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "\u{1b}[31m", &"x".repeat(257)] {
            assert_eq!(TaskId::parse(bad), Err(InvalidId::Task), "{bad:?}");
        }
    }

    /// A15: ids in URLs are encoded.
    #[test]
    fn a_task_id_is_escaped_like_encode_uri_component() {
        assert_eq!(encode_uri_component("a/b?c#d%e+f g-_.!~*'()"), "a%2Fb%3Fc%23d%25e%2Bf%20g-_.!~*'()");
        assert_eq!(encode_uri_component("ü"), "%C3%BC");
    }
}
