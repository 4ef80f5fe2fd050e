//! Names of providers and agents (SPEC.md section 3.6).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Maximum length of a name in characters.
pub const MAX_NAME: usize = 100;
/// What [`check`] accepts, as a regular expression for schemas.
pub const PATTERN: &str = "^[a-z0-9]([a-z0-9._-]{0,98}[a-z0-9])?$";

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// More than [`MAX_NAME`] characters.
    #[error("a name has at most {max} characters", max = MAX_NAME)]
    TooLong,
    /// A character that is not allowed, or `-._` at either end.
    #[error("a name has only a-z and 0-9, and '-', '.', '_' inside")]
    Character,
}

/// The name of a provider or an agent: `[a-z0-9]`, and `-._` inside, at most 100 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WireName(String);

impl WireName {
    /// Parses a name.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let text = text.into();
        check(&text)?;
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that `text` is a name.
pub fn check(text: &str) -> Result<(), InvalidName> {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    match bytes {
        [] => Err(InvalidName::Empty),
        _ if bytes.len() > MAX_NAME => Err(InvalidName::TooLong),
        [first, .., last] if !outer(*first) || !outer(*last) => Err(InvalidName::Character),
        [only] if !outer(*only) => Err(InvalidName::Character),
        _ if bytes.iter().all(|&byte| outer(byte) || b"-._".contains(&byte)) => Ok(()),
        _ => Err(InvalidName::Character),
    }
}

impl std::str::FromStr for WireName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl TryFrom<String> for WireName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl From<WireName> for String {
    fn from(name: WireName) -> String {
        name.0
    }
}

impl std::borrow::Borrow<str> for WireName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for WireName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_lower_case_inner_marks_and_100_characters() {
        let longest = "x".repeat(100);
        for good in ["a", "7", "vllm-local", "qwen2.5_7b", &longest] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["-a", "a-", ".", "A", "a b", "a/b", "a\n", "ä", "..", "a\0b"] {
            assert_eq!(check(bad), Err(InvalidName::Character), "{bad:?}");
        }
        assert_eq!(check(""), Err(InvalidName::Empty));
        assert_eq!(check(&"x".repeat(101)), Err(InvalidName::TooLong));
    }
}
