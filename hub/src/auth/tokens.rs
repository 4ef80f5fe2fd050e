//! The tokens that are valid now, in memory; the store has them too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::row::Timestamp;

use super::attempts::Attempts;
use super::bootstrap::ADMIN;
use super::secret::{TokenSecret, hash};
use crate::model::{Caller, DurableTask, Role, Token};
use crate::quota::Verdict;
use crate::store::{Change, Store, StoreError};
use crate::{clock, random};

/// How often what is open looks at its token without a reason: the wall clock, by which tokens expire, may have been set.
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

/// Tokens by the hash of their secret, and those hashes by the tokens' ids. None is ever taken away.
#[derive(Default)]
struct Known {
    by_hash: HashMap<[u8; 32], Token>,
    by_id: HashMap<String, [u8; 32]>,
    /// The first token of each user, by its name in small letters.
    firsts: HashMap<String, [u8; 32]>,
}

impl Known {
    fn add(&mut self, token: Token) {
        let age = |token: &Token| (token.created_at, token.id.clone());
        let first = self.firsts.entry(token.user.to_ascii_lowercase()).or_insert(token.hash);
        if self.by_hash.get(first).is_some_and(|first| age(&token) < age(first)) {
            *first = token.hash;
        }
        self.by_id.insert(token.id.clone(), token.hash);
        self.by_hash.insert(token.hash, token);
    }
}

/// What was true of a token when it was looked at: whether it still counts is mostly told by this alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked {
    /// Tokens that were revoked before.
    revoked: u64,
    expires: bool,
}

/// Every token of the hub.
pub struct Tokens {
    known: RwLock<Known>,
    /// The id of the one that is in the environment, not in the store.
    environment: Option<String>,
    revoked: watch::Sender<()>,
    /// How often one was revoked.
    revocations: AtomicU64,
    /// BytesPermit while a token is made: how its user is spelled, and whether that is an admin's name, is asked before it is
    /// written and holds until it is known.
    making: tokio::sync::Mutex<()>,
    attempts: Attempts,
    /// What the attempts count their time from.
    start: Instant,
    store: Arc<dyn Store>,
}

impl Tokens {
    /// The tokens that the store has, and `environment`'s, which is not stored.
    pub fn new(stored: Vec<Token>, environment: Option<Token>, store: Arc<dyn Store>) -> Self {
        let id = environment.as_ref().map(|token| token.id.clone());
        let mut known = Known::default();
        stored.into_iter().chain(environment).for_each(|token| known.add(token));
        Self {
            known: RwLock::new(known),
            environment: id,
            revoked: watch::Sender::new(()),
            revocations: AtomicU64::new(0),
            making: tokio::sync::Mutex::default(),
            attempts: Attempts::default(),
            start: Instant::now(),
            store,
        }
    }

    /// Who sends `secret`. The table is keyed by the hash of what came, under a random key of the table's own: how long
    /// the search takes says nothing of a secret to one who cannot choose hashes. What it finds is compared in
    /// constant time all the same.
    pub fn caller(&self, secret: &str, now: Timestamp) -> Option<Caller> {
        self.look(secret, now).map(|(caller, _)| caller)
    }

    /// The same, for [`is_still_valid`](Self::is_still_valid).
    pub(crate) fn look(&self, secret: &str, now: Timestamp) -> Option<(Caller, Looked)> {
        let hash = hash(secret);
        let known = self.known.read();
        let token = known.by_hash.get(&hash)?;
        let is_valid = bool::from(token.hash.ct_eq(&hash)) && is_valid(token, now);
        // Raised under the same lock.
        let revoked = self.revocations.load(Ordering::Acquire);
        is_valid.then(|| (caller_of(token), Looked { revoked, expires: token.expires_at.is_some() }))
    }

    /// Whether a token that counted when it was looked at does now. It is looked up only if one was revoked since, or if it
    /// can expire.
    pub(crate) fn is_still_valid(&self, caller: &Caller, looked: Looked) -> bool {
        let is_same = !looked.expires && self.revocations.load(Ordering::Acquire) == looked.revoked;
        is_same || self.is_valid(&caller.token_id, clock::now())
    }

    /// Who the token with this id stands for, if it counts.
    pub fn holder(&self, id: &str, now: Timestamp) -> Option<Caller> {
        let known = self.known.read();
        let token = known.by_hash.get(known.by_id.get(id)?)?;
        is_valid(token, now).then(|| caller_of(token))
    }

    /// Whether the token with this id counts.
    pub fn is_valid(&self, id: &str, now: Timestamp) -> bool {
        let known = self.known.read();
        let token = known.by_id.get(id).and_then(|hash| known.by_hash.get(hash));
        token.is_some_and(|token| is_valid(token, now))
    }

    /// Who waits for a durable task, with the role of now: the holder of the token that sent it. Of a task of an older
    /// version it is not known which that was: then anybody with a token of its owner's, an admin's first.
    pub fn sender(&self, task: &DurableTask, now: Timestamp) -> Option<Caller> {
        if let Some(id) = &task.token {
            return self.holder(id, now);
        }
        let known = self.known.read();
        let of_owner = known.by_hash.values().filter(|token| token.user == task.owner);
        let valid = of_owner.filter(|token| is_valid(token, now));
        valid.max_by_key(|token| token.role == Role::Admin).map(caller_of)
    }

    /// Sends whenever a token is revoked.
    pub fn revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }

    /// A token that is none came from `peer`: whether it is one too many.
    pub(super) fn is_one_too_many(&self, peer: IpAddr) -> bool {
        match self.attempts.wrong(peer, self.start.elapsed()) {
            Verdict::Allowed => false,
            Verdict::Refused { first } => {
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
        while let Some(left) = self.left(&caller.token_id, clock::now()) {
            // The sender lives in self; either way round, the next look decides.
            let _ = tokio::time::timeout(left.min(LOOK), revoked.changed()).await;
        }
    }

    /// How long the token with this id counts from `now` on, as far as is known; `None` for one that does not.
    fn left(&self, id: &str, now: Timestamp) -> Option<Duration> {
        let known = self.known.read();
        let token = known.by_hash.get(known.by_id.get(id)?).filter(|token| is_valid(token, now))?;
        Some(token.expires_at.map_or(Duration::MAX, |end| Duration::from_millis(end.millis_since(now))))
    }

    /// Whether a token expired after `from`, up to `to`.
    pub fn has_expired(&self, from: Timestamp, to: Timestamp) -> bool {
        let is_between = |end: Timestamp| from < end && end <= to;
        self.known.read().by_hash.values().any(|token| token.expires_at.is_some_and(is_between))
    }

    /// The user as the first of its tokens spells it: users are told apart without case, and written in one way.
    pub fn spelling(&self, user: String) -> String {
        self.user(&user).unwrap_or(user)
    }

    /// The same of one who has, or had, a token.
    pub fn user(&self, user: &str) -> Option<String> {
        let known = self.known.read();
        let first = known.by_hash.get(known.firsts.get(&user.to_ascii_lowercase())?)?;
        Some(first.user.clone())
    }

    /// Whether it is the name of an admin, or the one that the hub's own admin token has whenever there is one.
    fn is_admins(&self, user: &str, now: Timestamp) -> bool {
        let is_same = |name: &str| name.eq_ignore_ascii_case(user);
        let is_admin = |token: &Token| token.role == Role::Admin && is_valid(token, now);
        is_same(ADMIN)
            || self.known.read().by_hash.values().any(|token| is_admin(token) && is_same(&token.user))
    }

    /// Makes a token; it works when this returns, and after a restart. The secret is nowhere else.
    pub async fn create(&self, mut new: NewToken) -> Result<(Token, TokenSecret), CreateError> {
        let _making = self.making.lock().await;
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
        self.known.write().add(token.clone());
        Ok((token, secret))
    }

    /// Takes a token's validity at once, then writes it down. Twice is once.
    pub async fn revoke(&self, id: &str) -> Result<Token, RevokeError> {
        if self.environment.as_deref() == Some(id) {
            return Err(RevokeError::Environment);
        }
        let token = {
            let mut known = self.known.write();
            let tokens = &mut known.by_hash;
            let now = clock::now();
            let is_admin = |token: &&Token| token.role == Role::Admin && is_valid(token, now);
            let mut admins = tokens.values().filter(is_admin);
            if admins.next().is_some_and(|admin| admin.id == id) && admins.next().is_none() {
                return Err(RevokeError::LastAdmin);
            }
            let token = tokens.values_mut().find(|token| token.id == id).ok_or(RevokeError::Unknown)?;
            token.revoked_at.get_or_insert(now);
            self.revocations.fetch_add(1, Ordering::Release);
            token.clone()
        };
        self.revoked.send_replace(());
        self.store.write_behind(vec![Change::PutToken(token.clone())]).await?;
        Ok(token)
    }

    /// All of them, newest first.
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<_> = self.known.read().by_hash.values().cloned().collect();
        tokens.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        tokens
    }
}

fn caller_of(token: &Token) -> Caller {
    Caller { user: token.user.clone(), role: token.role, token_id: token.id.clone() }
}

fn is_valid(token: &Token, now: Timestamp) -> bool {
    token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end)
}
