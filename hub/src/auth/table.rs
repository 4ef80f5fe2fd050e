//! The table of all tokens, and their secrets. Pure: the time is passed in.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wire::row::Timestamp;

use crate::model::{EndingHash, Role, Token};
use crate::random;

/// Tokens by the hash of their secret. No token is ever removed.
#[derive(Default)]
pub(super) struct TokenTable {
    by_hash: HashMap<[u8; 32], Token>,
    by_id: HashMap<String, [u8; 32]>,
    /// Ids of tokens by the hash of their earlier secret, and of the code of their sign-in link.
    others: HashMap<[u8; 32], String>,
    /// The oldest token of each user, by the name in lower case.
    oldest: HashMap<String, [u8; 32]>,
}

impl TokenTable {
    pub(super) fn insert(&mut self, token: Token) {
        let age = |token: &Token| (token.created_at, token.id.clone());
        let oldest = self.oldest.entry(token.user.to_ascii_lowercase()).or_insert(token.hash);
        if self.by_hash.get(oldest).is_some_and(|oldest| age(&token) < age(oldest)) {
            *oldest = token.hash;
        }
        self.by_id.insert(token.id.clone(), token.hash);
        for other in [token.old, token.link].into_iter().flatten() {
            self.others.insert(other.hash, token.id.clone());
        }
        self.by_hash.insert(token.hash, token);
    }

    /// Inserts a token in the place of the one with its id, whose secret may be another.
    pub(super) fn replace(&mut self, token: Token) {
        if let Some(before) = self.by_id.get(&token.id).and_then(|hash| self.by_hash.remove(hash)) {
            for other in [before.old, before.link].into_iter().flatten() {
                self.others.remove(&other.hash);
            }
            let oldest = self.oldest.get_mut(&token.user.to_ascii_lowercase());
            oldest.into_iter().filter(|hash| **hash == before.hash).for_each(|hash| *hash = token.hash);
        }
        self.insert(token);
    }

    /// Takes over a token as it is stored. Returns whether one that was known has changed. A revoked one stays revoked.
    pub(super) fn merge(&mut self, mut token: Token) -> bool {
        let known = self.by_id.get(&token.id).and_then(|hash| self.by_hash.get(hash));
        token.revoked_at = token.revoked_at.or_else(|| known?.revoked_at);
        let (is_known, is_same) = (known.is_some(), known == Some(&token));
        if !is_same {
            self.replace(token);
        }
        is_known && !is_same
    }

    /// Whether a token has this hash, valid or not.
    pub(super) fn knows(&self, hash: &[u8; 32]) -> bool {
        self.by_hash.contains_key(hash) || self.others.contains_key(hash)
    }

    /// The valid token of a secret. The time of the lookup tells nothing about other secrets, since callers cannot choose
    /// hashes; the hash found is compared in constant time all the same.
    pub(super) fn by_hash(&self, hash: &[u8; 32], now: Timestamp) -> Option<&Token> {
        let is_own = |token: &&Token| bool::from(token.hash.ct_eq(hash)) && token.is_valid(now);
        match self.by_hash.get(hash) {
            Some(token) => Some(token).filter(is_own),
            None => self.by_other(hash, now, |token| token.old),
        }
    }

    /// The valid token of the code of a sign-in link.
    pub(super) fn by_link(&self, hash: &[u8; 32], now: Timestamp) -> Option<&Token> {
        self.by_other(hash, now, |token| token.link)
    }

    fn by_other(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
        other: fn(&Token) -> Option<EndingHash>,
    ) -> Option<&Token> {
        let is_own = |other: EndingHash| bool::from(other.hash.ct_eq(hash)) && now < other.until;
        self.by_id(self.others.get(hash)?, now).filter(|token| other(token).is_some_and(is_own))
    }

    /// The token with `id`, if it is valid.
    pub(super) fn by_id(&self, id: &str, now: Timestamp) -> Option<&Token> {
        self.get(id).filter(|token| token.is_valid(now))
    }

    /// The token with `id`, valid or not.
    pub(super) fn get(&self, id: &str) -> Option<&Token> {
        self.by_hash.get(self.by_id.get(id)?)
    }

    /// When the token with `id` was revoked.
    pub(super) fn revoked_at(&self, id: &str) -> Option<Timestamp> {
        self.by_hash.get(self.by_id.get(id)?)?.revoked_at
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Token> {
        self.by_hash.values()
    }

    /// All valid tokens.
    pub(super) fn valid(&self, now: Timestamp) -> impl Iterator<Item = &Token> {
        self.all().filter(move |token| token.is_valid(now))
    }

    /// The user's name as its oldest token spells it: names are compared without case.
    pub(super) fn user(&self, user: &str) -> Option<&str> {
        let oldest = self.by_hash.get(self.oldest.get(&user.to_ascii_lowercase())?)?;
        Some(&oldest.user)
    }

    /// Marks the token with `id` as revoked. A second time changes nothing.
    pub(super) fn revoke(&mut self, id: &str, now: Timestamp) -> Option<Token> {
        let token = self.by_hash.get_mut(self.by_id.get(id)?)?;
        token.revoked_at.get_or_insert(now);
        Some(token.clone())
    }

    /// Whether `id` is the only valid admin token. One whose link was not used has a secret that nobody knows.
    pub(super) fn is_last_admin(&self, id: &str, now: Timestamp) -> bool {
        let mut admins = self.valid(now).filter(|token| token.role == Role::Admin && token.link.is_none());
        admins.next().is_some_and(|admin| admin.id == id) && admins.next().is_none()
    }
}

/// Marks the secret for scanners of leaked secrets.
const PREFIX: &str = "vlt_";
/// Marks the code of a sign-in link.
const CODE_PREFIX: &str = "vlc_";

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

    /// A code for a sign-in link, of 128 random bits: it is valid for minutes.
    pub(crate) fn code() -> Self {
        Self(format!("{CODE_PREFIX}{}", random::hex(&random::bytes::<16>())))
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
