//! The secret of a token.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::random;

/// Marks the secret for scanners of leaked secrets.
const PREFIX: &str = "vlt_";

/// Shortest secret that an operator may choose, in characters: 16 random ones of 64 are 96 bits.
const SHORTEST: usize = 16;

/// Why a text is no admin token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has to be {SHORTEST} or more visible ASCII characters without a space")]
pub struct NotAToken;

/// The secret that a caller sends. `Debug` prints `***`; only the hash is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// A secret of 256 random bits.
    pub(crate) fn random() -> Self {
        Self(format!("{PREFIX}{}", random::hex(&random::bytes::<32>())))
    }

    /// Parses a secret: visible ASCII characters, as a header can carry.
    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// Parses a secret that an operator wrote, of [`SHORTEST`] or more characters. One line end behind it is ignored.
    pub(crate) fn written(text: &str) -> Result<Self, NotAToken> {
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        Self::parse(text).filter(|_| text.len() >= SHORTEST).ok_or(NotAToken)
    }

    /// The secret in clear.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

/// SHA-256: a slow hash would protect secrets that can be guessed, and 256 random bits cannot.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
