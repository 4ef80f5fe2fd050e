//! The secret that a token is.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::random;

/// Tells scanners of leaked secrets what they found.
const PREFIX: &str = "vlt_";

/// Shortest secret that an operator may choose, in characters: 16 random ones of 64 are 96 bits.
const SHORTEST: usize = 16;

/// Why a text is no admin token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has to be {SHORTEST} or more visible ASCII characters without a space")]
pub struct NotAToken;

/// What a caller sends. Printed as `***`; only its hash is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(String);

impl TokenSecret {
    /// 256 random bits.
    pub fn random() -> Self {
        Self(format!("{PREFIX}{}", random::hex(&random::bytes::<32>())))
    }

    /// A secret from somewhere else: one that could not travel in a header is none.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// A secret that an operator wrote: the line end that an editor or `echo` leaves is not part of it.
    ///
    /// # Errors
    /// Not a token: it could not travel in a header, or can be guessed.
    pub fn written(text: &str) -> Result<Self, NotAToken> {
        let text = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        Self::parse(text).filter(|_| text.len() >= SHORTEST).ok_or(NotAToken)
    }

    /// The secret itself, to show it once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        hash(&self.0)
    }
}

/// A plain SHA-256 is enough: there is nothing to guess in 256 random bits, so nothing for a slow hash to slow down.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
