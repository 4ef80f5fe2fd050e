//! The tokens of the hub, in memory and in the store.

mod ended;
mod errors;
mod others;
mod secrets;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;
use wire::row::Timestamp;

use super::attempts::Attempts;
use super::bootstrap::ADMIN;
use super::table::TokenTable;
use super::table::{TokenSecret, hash};
use crate::limits::CallerLimits;
use crate::model::{
    CallLimits, Caller, Day, DurableTask, EndingHash, LimitOwner, Role, SecretMark, Token, UserId,
};
use crate::quota::{MistakeBudgets, Verdict};
use crate::store::{Change, Store};
use crate::{clock, random};

pub use errors::CreateError;
pub(crate) use errors::RevokeError;
pub(crate) use secrets::ChangeError;

/// Rotations of a user at once: of all tokens that a person has.
const ROTATIONS: u32 = 30;
/// Further rotations each second.
const ROTATIONS_PER_SECOND: u32 = 1;
/// Longest user name, in bytes: an e-mail address fits (RFC 5321, 4.5.3.1.1 and .2 allow more, nobody has one).
const MAX_USER: usize = 100;

/// A token to create (`POST /api/v1/tokens`).
#[derive(Debug, Clone)]
pub(crate) struct NewToken {
    pub(crate) user: String,
    pub(crate) role: Role,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) limits: CallLimits,
}

/// The text is not a user name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user name is 1 to {MAX_USER} characters of A-Z a-z 0-9 . _ @ + -, the first a letter or digit")]
pub(crate) struct InvalidUser;

/// Checks a user name: it appears in logs, lists and tables.
pub(crate) fn check_user(name: &str) -> Result<(), InvalidUser> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= MAX_USER && name.bytes().all(inner) { Ok(()) } else { Err(InvalidUser) }
}

/// A successful check of a token. [`Tokens::is_still_valid`] repeats it without a lookup in most cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenCheck {
    /// The number of revocations before the check.
    revocations: u64,
    expires: bool,
}

/// All tokens of the hub.
pub(crate) struct Tokens {
    table: RwLock<TokenTable>,
    /// The id of the environment's token, which is not in the store.
    environment: Option<String>,
    revoked: watch::Sender<()>,
    /// The number of revocations, written under the lock of `table`.
    revocations: AtomicU64,
    /// Held while a token is created or gets another secret, from the checks until it is in the table.
    creating: tokio::sync::Mutex<()>,
    attempts: Attempts,
    rotations: MistakeBudgets<UserId>,
    lookups: others::Lookups,
    /// The origin of the times in `attempts`, `rotations` and `lookups`.
    start: Instant,
    /// What admins allow users and tokens.
    limits: Arc<CallerLimits>,
    store: Arc<dyn Store>,
}

impl Tokens {
    /// The tokens in the store, and one from the environment.
    pub(crate) fn new(stored: Vec<Token>, environment: Option<Token>, store: Arc<dyn Store>) -> Self {
        let id = environment.as_ref().map(|token| token.id.clone());
        let mut table = TokenTable::default();
        stored.into_iter().chain(environment).for_each(|token| table.insert(token));
        Self {
            table: RwLock::new(table),
            environment: id,
            revoked: watch::Sender::new(()),
            revocations: AtomicU64::new(0),
            creating: tokio::sync::Mutex::default(),
            attempts: Attempts::default(),
            rotations: MistakeBudgets::new(ROTATIONS, ROTATIONS_PER_SECOND),
            lookups: others::Lookups::default(),
            start: Instant::now(),
            limits: Arc::default(),
            store,
        }
    }

    /// Uses the limits that the store has.
    pub(crate) fn with_limits(self, limits: Arc<CallerLimits>) -> Self {
        Self { limits, ..self }
    }

    /// The limits of users and tokens.
    pub(crate) fn limits(&self) -> &CallerLimits {
        &self.limits
    }

    /// The caller that a token stands for.
    fn caller_of(&self, token: &Token, secret: Option<SecretMark>) -> Caller {
        let models = self.limits.models(&token.user, &token.id);
        Caller { user: token.user.clone(), role: token.role, token_id: token.id.clone(), models, secret }
    }

    /// The caller to whom `secret` belongs, if it is valid at `now`, and what [`is_still_valid`](Self::is_still_valid) needs
    /// later.
    pub(crate) fn check(&self, secret: &str, now: Timestamp) -> Option<(Caller, TokenCheck)> {
        let table = self.table.read();
        let hash = hash(secret);
        let token = table.by_hash(&hash, now)?;
        let revocations = self.revocations.load(Ordering::Acquire);
        let expires = token.expires_at.is_some() || token.hash != hash;
        Some((self.caller_of(token, Some(SecretMark::of(&hash))), TokenCheck { revocations, expires }))
    }

    #[cfg(test)]
    pub(crate) fn caller(&self, secret: &str, now: Timestamp) -> Option<Caller> {
        self.check(secret, now).map(|(caller, _)| caller)
    }

    /// Whether a token that passed `check` is valid now. It is looked up only if one was revoked since or if it can expire.
    pub(crate) fn is_still_valid(&self, caller: &Caller, check: TokenCheck) -> bool {
        let is_same = !check.expires && self.revocations.load(Ordering::Acquire) == check.revocations;
        is_same || self.time_left(&caller.token_id, caller.secret, clock::now()).is_some()
    }

    /// The caller of the token with this id, if it is valid.
    pub(crate) fn holder(&self, id: &str, now: Timestamp) -> Option<Caller> {
        self.table.read().by_id(id, now).map(|token| self.caller_of(token, None))
    }

    pub(crate) fn is_valid(&self, id: &str, now: Timestamp) -> bool {
        self.table.read().by_id(id, now).is_some()
    }

    /// The caller of a durable task, with its present role. A task of an older version does not name its token: any valid
    /// token of its owner counts, preferably an admin's.
    pub(crate) fn sender(&self, task: &DurableTask, now: Timestamp) -> Option<Caller> {
        if let Some(id) = &task.token {
            return self.holder(id, now);
        }
        let table = self.table.read();
        let tokens = table.valid(now).filter(|token| token.user == task.owner);
        tokens.max_by_key(|token| token.role == Role::Admin).map(|token| self.caller_of(token, None))
    }

    /// Changes whenever a token is revoked or rotated.
    pub(crate) fn revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }

    /// Counts a wrong token or code from `peer`; `true` if that is one too many.
    pub(super) fn is_one_too_many(&self, peer: IpAddr) -> bool {
        let verdict = self.attempts.count(peer, self.start.elapsed());
        if verdict == (Verdict::Refused { first: true }) {
            wire::log_with!(
                warn,
                [address = peer],
                "too many wrong tokens from {peer}: further ones get 429"
            );
        }
        verdict != Verdict::Allowed
    }

    /// Whether a token expired after `from`, up to `to`.
    pub(crate) fn has_expired(&self, from: Timestamp, to: Timestamp) -> bool {
        let is_between = |end: Timestamp| from < end && end <= to;
        self.table.read().all().any(|token| token.expires_at.is_some_and(is_between))
    }

    /// The user's name as its oldest token spells it; unchanged for a user without tokens.
    pub(crate) fn spelling(&self, user: String) -> String {
        self.user(&user).unwrap_or(user)
    }

    /// The name of a user that has, or had, a token, as its oldest token spells it.
    pub(crate) fn user(&self, user: &str) -> Option<String> {
        self.table.read().user(user).map(str::to_owned)
    }

    /// Whether `user` is an admin's name, or reserved for the hub's own admin token.
    fn is_admins_name(&self, user: &str, now: Timestamp) -> bool {
        let is_same = |name: &str| name.eq_ignore_ascii_case(user);
        let is_admins = |token: &Token| token.role == Role::Admin && is_same(&token.user);
        is_same(ADMIN) || self.table.read().valid(now).any(is_admins)
    }

    /// Creates a token, valid and stored when this returns. The secret is kept nowhere else.
    pub(crate) async fn create(&self, new: NewToken) -> Result<(Token, TokenSecret), CreateError> {
        self.create_with(new, None).await
    }

    async fn create_with(
        &self,
        mut new: NewToken,
        link: Option<EndingHash>,
    ) -> Result<(Token, TokenSecret), CreateError> {
        let _creating = self.creating.lock().await;
        new.user = self.spelling(new.user);
        if new.role == Role::Member && self.is_admins_name(&new.user, clock::now()) {
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
            old: None,
            link,
        };
        let owner = LimitOwner::Token(token.id.clone());
        let limits = (!new.limits.is_none()).then(|| CallerLimits::change(owner.clone(), new.limits.clone()));
        self.store.write(limits.into_iter().chain([Change::PutToken(token.clone())]).collect()).await?;
        self.limits.put(owner, new.limits, Day::of(token.created_at), 0);
        self.table.write().insert(token.clone());
        Ok((token, secret))
    }

    /// Revokes a token at once, and resolves when that is stored. Idempotent.
    pub(crate) async fn revoke(&self, id: &str) -> Result<Token, RevokeError> {
        if self.environment.as_deref() == Some(id) {
            return Err(RevokeError::Environment);
        }
        let token = {
            let mut table = self.table.write();
            let now = clock::now();
            if table.is_last_admin(id, now) {
                return Err(RevokeError::LastAdmin);
            }
            let token = table.revoke(id, now).ok_or(RevokeError::Unknown)?;
            self.revocations.fetch_add(1, Ordering::Release);
            token
        };
        self.revoked.send_replace(());
        self.store.write_behind(vec![Change::PutToken(token.clone())]).await?;
        Ok(token)
    }

    /// The token with this id, valid or not.
    pub(crate) fn get(&self, id: &str) -> Option<Token> {
        self.table.read().get(id).cloned()
    }

    /// All tokens, newest first.
    pub(crate) fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<_> = self.table.read().all().cloned().collect();
        tokens.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        tokens
    }
}
