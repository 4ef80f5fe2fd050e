//! Sign-in links, and other secrets for tokens: a token keeps its id, and what is kept by it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::row::Timestamp;

use super::{NewToken, Tokens, hash};
use crate::auth::bootstrap::BOOTSTRAP;
use crate::auth::table::TokenSecret;
use crate::auth::tokens::CreateError;
use crate::clock;
use crate::model::{Caller, EndingHash, SecretMark, Token, UserId};
use crate::quota::Verdict;
use crate::store::{Change, StoreError};

/// Time for which a sign-in link works: a message is read, and a link that was forgotten in one is of no use to others.
const LINK_LIFE: Duration = Duration::from_mins(15);

/// The reason why a token got no other secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ChangeError {
    /// There is no valid token with the id, or no link with the code.
    #[error("no such token")]
    Unknown,
    /// The secret is kept outside of the store.
    #[error(
        "this is the hub's own admin token: put another one into the file admin-token or VIRTUAL_LLM_ADMIN_TOKEN, and start \
         the hub again"
    )]
    OwnToken,
    /// The store cannot write it; nothing has changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Tokens {
    /// When the token with this id expires.
    pub(crate) fn expiry(&self, id: &str) -> Option<Timestamp> {
        self.table.read().by_id(id, clock::now())?.expires_at
    }

    /// Creates a token whose secret nobody knows, and the code of a link by which its user gets one.
    pub(crate) async fn create_link(&self, new: NewToken) -> Result<(Token, TokenSecret), CreateError> {
        let code = TokenSecret::code();
        let until = clock::now().plus_millis(i64::try_from(LINK_LIFE.as_millis()).unwrap_or(0));
        let (token, _) = self.create_with(new, Some(EndingHash { hash: code.hash(), until })).await?;
        Ok((token, code))
    }

    /// Whether `caller` sent the secret that its token has now, and not the one before.
    pub(crate) fn has_present_secret(&self, caller: &Caller) -> bool {
        let table = self.table.read();
        table.get(&caller.token_id).is_some_and(|token| caller.secret == Some(SecretMark::of(&token.hash)))
    }

    /// Counts a rotation by `user`, each of which has all that is open look at its token again; `true` if it is one too many.
    pub(crate) fn rotates_too_often(&self, user: &UserId) -> bool {
        self.rotations.spend(user.clone(), self.start.elapsed()) != Verdict::Allowed
    }

    /// Whether `code` is that of a sign-in link that nobody has used.
    pub(crate) fn is_link(&self, code: &str) -> bool {
        self.table.read().by_link(&hash(code), clock::now()).is_some()
    }

    /// Gives a token another secret, and takes a link's code for it: a code works once.
    pub(crate) async fn sign_in(&self, code: &str) -> Result<(Token, TokenSecret), ChangeError> {
        let _creating = self.creating.lock().await;
        let token = self.table.read().by_link(&hash(code), clock::now()).cloned();
        let token = token.ok_or(ChangeError::Unknown)?;
        self.with_new_secret(Token { link: None, ..token }).await
    }

    /// Gives a token another secret. The present one is valid for `grace`.
    pub(crate) async fn rotate(
        &self,
        id: &str,
        grace: Duration,
    ) -> Result<(Token, TokenSecret), ChangeError> {
        if id == BOOTSTRAP || self.environment.as_deref() == Some(id) {
            return Err(ChangeError::OwnToken);
        }
        let _creating = self.creating.lock().await;
        let now = clock::now();
        let token = self.table.read().by_id(id, now).cloned().ok_or(ChangeError::Unknown)?;
        let until = now.plus_millis(i64::try_from(grace.as_millis()).unwrap_or(i64::MAX));
        let old = Some(EndingHash { hash: token.hash, until });
        self.with_new_secret(Token { old, link: None, ..token }).await
    }

    /// Stores `token` with a new secret, then uses it.
    async fn with_new_secret(&self, mut token: Token) -> Result<(Token, TokenSecret), ChangeError> {
        let secret = TokenSecret::random();
        token.hash = secret.hash();
        self.store.write(vec![Change::PutToken(token.clone())]).await?;
        let is_revoked = {
            let mut table = self.table.write();
            // Revoked while it was written: it stays so.
            token.revoked_at = table.revoked_at(&token.id);
            table.replace(token.clone());
            self.revocations.fetch_add(1, Ordering::Release);
            token.revoked_at.is_some()
        };
        self.revoked.send_replace(());
        if is_revoked {
            self.store.write_behind(vec![Change::PutToken(token)]).await?;
            return Err(ChangeError::Unknown);
        }
        Ok((token, secret))
    }
}
