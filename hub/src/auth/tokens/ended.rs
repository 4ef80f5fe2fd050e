//! The end of a token, for what it has begun.

use std::time::Duration;

use wire::row::Timestamp;

use super::Tokens;
use crate::clock;
use crate::model::{Caller, SecretMark};

/// Open streams check their token at least this often: tokens expire by the wall clock, which may be set.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

impl Tokens {
    /// Resolves when `caller`'s token is revoked or expires, or when the secret that it sent ends: everything opened with it has
    /// to end.
    pub(crate) async fn ended(&self, caller: &Caller) {
        self.ended_with(caller, caller.secret).await;
    }

    /// Resolves when `caller`'s token is revoked or expires. Its accepted tasks outlast its secret.
    pub(crate) async fn revoked(&self, caller: &Caller) {
        self.ended_with(caller, None).await;
    }

    async fn ended_with(&self, caller: &Caller, secret: Option<SecretMark>) {
        let mut revoked = self.revoked.subscribe();
        while let Some(left) = self.time_left(&caller.token_id, secret, clock::now()) {
            // The sender lives in self. Whether it timed out or not, the next check decides.
            let _ = tokio::time::timeout(left.min(CHECK_INTERVAL), revoked.changed()).await;
        }
    }

    /// The time until the token with this id, or its `secret`, ends; `None` if that is over.
    pub(super) fn time_left(&self, id: &str, secret: Option<SecretMark>, now: Timestamp) -> Option<Duration> {
        let table = self.table.read();
        let token = table.by_id(id, now)?;
        let is_old = secret.is_some_and(|secret| secret != SecretMark::of(&token.hash));
        let end = if is_old {
            let old = token.old.filter(|old| secret == Some(SecretMark::of(&old.hash)) && now < old.until)?;
            Some(token.expires_at.map_or(old.until, |end| end.min(old.until)))
        } else {
            token.expires_at
        };
        Some(end.map_or(Duration::MAX, |end| Duration::from_millis(end.millis_since(now))))
    }
}
