//! Ids that travel: of a publisher's session and of a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Not fit for a header line.
    #[error("a session id is 1 to {max} visible ASCII characters", max = MAX_ID)]
    Session,
    /// Empty, too long, a dot segment that would lead a path elsewhere, or trouble for a log.
    #[error("a task id is 1 to {max} characters, none of them a control character, and neither . nor ..", max = MAX_ID)]
    Task,
}

/// Longest id in characters (SPEC.md section 6, session file). A header line and a path segment hold it with ease.
pub const MAX_ID: usize = 256;

/// A session id travels in a header.
fn is_session(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A task id travels in JSON, escaped in a path, and in log lines: any text will do that is no dot segment and has no
/// control characters.
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
            /// The id in `text`, if it keeps the rule of its kind.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                if $rule(&text) { Ok(Self(text)) } else { Err(InvalidId::$invalid) }
            }

            /// The id as text, safe in a log line.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The id as a path segment, escaped as `encodeURIComponent` does.
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
    /// A publisher's session: sticky, kept on its disk, used again after a restart.
    SessionId, is_session, Session
}

id! {
    /// One dispatch of work. A retry or a failover gets a new one.
    TaskId, is_task, Task
}

/// Escapes all but `A-Z a-z 0-9 - _ . ! ~ * ' ( )`, as ECMAScript's `encodeURIComponent` (ECMA-262, 19.2.6.4).
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
    fn an_id_that_could_break_a_header_is_refused() {
        for bad in ["", "a b", "a\r\nX-Evil: 1", "a\0", "ä", &"x".repeat(257)] {
            assert_eq!(SessionId::parse(bad), Err(InvalidId::Session), "{bad:?}");
        }
        assert!(SessionId::parse("x".repeat(256)).is_ok());
    }

    #[test]
    fn any_text_that_a_hub_chose_is_a_task_id_unless_it_leads_a_path_elsewhere() {
        for good in ["a b/ü?#%", &"ü".repeat(256)] {
            assert!(TaskId::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "\u{1b}[31m", &"x".repeat(257)] {
            assert_eq!(TaskId::parse(bad), Err(InvalidId::Task), "{bad:?}");
        }
    }

    /// A15: what stands in a URL is encoded.
    #[test]
    fn a_task_id_is_escaped_as_encode_uri_component_does() {
        assert_eq!(encode_uri_component("a/b?c#d%e+f g-_.!~*'()"), "a%2Fb%3Fc%23d%25e%2Bf%20g-_.!~*'()");
        assert_eq!(encode_uri_component("ü"), "%C3%BC");
    }
}
