//! The tokens that are valid now, in memory; the store has them too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::row::Timestamp;

use super::attempts::Attempts;
use super::bootstrap::ADMIN;
use super::secret::{TokenSecret, hash};
use crate::budget::Verdict;
use crate::model::{Caller, Role, Token};
use crate::store::{Change, Store, StoreError};
use crate::{clock, random};

/// How often an open stream looks at its token's expiry: it has to end within 30 s of it.
const LOOK: Duration = Duration::from_secs(10);
/// Longest user name: an e-mail address fits (RFC 5321, 4.5.3.1.1 and .2 allow more, nobody has one).
const MAX_USER: usize = 100;

/// What `POST /api/v1/tokens` asks for.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// For whom.
    pub user: String,
    /// What it may.
    pub role: Role,
    /// Until when.
    pub expires_at: Option<Timestamp>,
}

/// Why a text is not a user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user name is 1 to {MAX_USER} characters of A-Z a-z 0-9 . _ @ + -, the first a letter or digit")]
pub struct InvalidUser;

/// Why a token was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// A member would own what is the admin's.
    #[error(
        "'{0}' is an admin's name, and what is that user's would be this member's too: give the member another name, \
         or make the token with role 'admin'"
    )]
    AdminsName(String),
    /// It cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a token was not revoked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RevokeError {
    /// No such id.
    #[error("no such token")]
    Unknown,
    /// It rules while the hub's environment has it.
    #[error("this token is set by VIRTUAL_LLM_ADMIN_TOKEN: unset it and start the hub again")]
    Environment,
    /// Nobody could make another one.
    #[error(
        "this is the last valid admin token: make another with `virtual-llm token create --role admin` first, \
         or start the hub with VIRTUAL_LLM_ADMIN_TOKEN set"
    )]
    LastAdmin,
    /// Revoked until the hub's next start, not on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks a user's name: it goes to logs, lists and tables.
pub fn check_user(name: &str) -> Result<(), InvalidUser> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= MAX_USER && name.bytes().all(inner) { Ok(()) } else { Err(InvalidUser) }
}

/// Every token of the hub.
pub struct Tokens {
    by_hash: RwLock<HashMap<[u8; 32], Token>>,
    /// The id of the one that is in the environment, not in the store.
    environment: Option<String>,
    revoked: watch::Sender<()>,
    attempts: Attempts,
    /// What the attempts count their time from.
    start: Instant,
    store: Arc<dyn Store>,
}

impl Tokens {
    /// The tokens that the store has, and `environment`'s, which is not stored.
    pub fn new(stored: Vec<Token>, environment: Option<Token>, store: Arc<dyn Store>) -> Self {
        let id = environment.as_ref().map(|token| token.id.clone());
        let by_hash = stored.into_iter().chain(environment).map(|token| (token.hash, token)).collect();
        Self {
            by_hash: RwLock::new(by_hash),
            environment: id,
            revoked: watch::Sender::new(()),
            attempts: Attempts::default(),
            start: Instant::now(),
            store,
        }
    }

    /// Who sends `secret`. The table is keyed by the hash of what came, under a random key of the table's own: how long
    /// the search takes says nothing of a secret to one who cannot choose hashes. What it finds is compared in
    /// constant time all the same.
    pub fn caller(&self, secret: &str, now: Timestamp) -> Option<Caller> {
        let hash = hash(secret);
        let tokens = self.by_hash.read();
        let token = tokens.get(&hash)?;
        (bool::from(token.hash.ct_eq(&hash)) && is_valid(token, now)).then(|| Caller {
            user: token.user.clone(),
            role: token.role,
            token_id: token.id.clone(),
        })
    }

    /// A token that is none came from `peer`: whether it is one too many.
    pub(super) fn is_one_too_many(&self, peer: IpAddr) -> bool {
        match self.attempts.wrong(peer, self.start.elapsed()) {
            Verdict::Mistake => false,
            Verdict::TooMany { first } => {
                if first {
                    log::warn!("too many wrong tokens from {peer}: it gets 429 for more of them");
                }
                true
            }
        }
    }

    /// Resolves when `caller`'s token is revoked or expires: whatever was opened with it ends then.
    pub async fn ended(&self, caller: &Caller) {
        let mut revoked = self.revoked.subscribe();
        while self.is_alive(caller, clock::now()) {
            // The sender lives in self; either way round, the next look decides.
            let _ = tokio::time::timeout(LOOK, revoked.changed()).await;
        }
    }

    fn is_alive(&self, caller: &Caller, now: Timestamp) -> bool {
        self.by_hash.read().values().any(|token| token.id == caller.token_id && is_valid(token, now))
    }

    /// The user as the first of its tokens spells it: users are told apart without case, and written in one way.
    pub fn spelling(&self, user: String) -> String {
        let tokens = self.by_hash.read();
        let same = tokens.values().filter(|token| token.user.eq_ignore_ascii_case(&user));
        let first = same.min_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        first.map_or(user, |token| token.user.clone())
    }

    /// Whether it is the name of an admin, or the one that the hub's own admin token has whenever there is one.
    fn is_admins(&self, user: &str, now: Timestamp) -> bool {
        let is_same = |name: &str| name.eq_ignore_ascii_case(user);
        let is_admin = |token: &Token| token.role == Role::Admin && is_valid(token, now);
        is_same(ADMIN) || self.by_hash.read().values().any(|token| is_admin(token) && is_same(&token.user))
    }

    /// Makes a token; it works when this returns, and after a restart. The secret is nowhere else.
    pub async fn create(&self, mut new: NewToken) -> Result<(Token, TokenSecret), CreateError> {
        new.user = self.spelling(new.user);
        if new.role == Role::Member && self.is_admins(&new.user, clock::now()) {
            return Err(CreateError::AdminsName(new.user));
        }
        let secret = TokenSecret::random();
        let token = Token {
            id: random::id("tok"),
            hash: secret.hash(),
            user: new.user,
            role: new.role,
            created_at: clock::now(),
            expires_at: new.expires_at,
            revoked_at: None,
        };
        self.store.write(vec![Change::PutToken(token.clone())]).await?;
        self.by_hash.write().insert(token.hash, token.clone());
        Ok((token, secret))
    }

    /// Takes a token's validity at once, then writes it down. Twice is once.
    pub async fn revoke(&self, id: &str) -> Result<Token, RevokeError> {
        if self.environment.as_deref() == Some(id) {
            return Err(RevokeError::Environment);
        }
        let token = {
            let mut tokens = self.by_hash.write();
            let now = clock::now();
            let is_admin = |token: &&Token| token.role == Role::Admin && is_valid(token, now);
            let mut admins = tokens.values().filter(is_admin);
            if admins.next().is_some_and(|admin| admin.id == id) && admins.next().is_none() {
                return Err(RevokeError::LastAdmin);
            }
            let token = tokens.values_mut().find(|token| token.id == id).ok_or(RevokeError::Unknown)?;
            token.revoked_at.get_or_insert(now);
            token.clone()
        };
        self.revoked.send_replace(());
        self.store.owe(vec![Change::PutToken(token.clone())]).await?;
        Ok(token)
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<_> = self.by_hash.read().values().cloned().collect();
        tokens.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        tokens
    }
}

fn is_valid(token: &Token, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end)
}
