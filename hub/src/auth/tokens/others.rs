//! Tokens that other hubs make, change and check.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wire::row::Timestamp;

use super::{TokenCheck, Tokens};
use crate::auth::table::hash;
use crate::clock;
use crate::model::{Caller, Day, LimitOwner, Token};

/// Most tokens that are looked up in a second.
const LOOKUPS: u32 = 100;

/// The lookups of a second.
#[derive(Default)]
pub(super) struct Lookups(parking_lot::Mutex<(u64, u32)>);

impl Lookups {
    /// Counts a lookup at `now`, unless there are too many.
    fn allows(&self, now: Duration) -> bool {
        let mut counted = self.0.lock();
        if counted.0 != now.as_secs() {
            *counted = (now.as_secs(), 0);
        }
        counted.1 += 1;
        counted.1 <= LOOKUPS
    }
}

impl Tokens {
    /// Takes over a token as it is stored.
    pub(crate) fn merge(&self, token: Token) {
        if self.environment.as_deref() == Some(&token.id) {
            return;
        }
        let is_changed = self.table.write().merge(token);
        if is_changed {
            self.revocations.fetch_add(1, Ordering::Release);
            self.revoked.send_replace(());
        }
    }

    /// Reads the token of an unknown secret, which another hub may have made just now. At most a few each second are read:
    /// others wait for the news of it.
    pub(crate) async fn look_up(&self, secret: &str) {
        let hash = hash(secret);
        if self.table.read().knows(&hash) || !self.lookups.allows(self.start.elapsed()) {
            return;
        }
        if let Ok(Some((token, limits))) = self.store.token(hash).await {
            let owner = LimitOwner::Token(token.id.clone());
            // Its calls at other hubs are told.
            self.limits.put(owner, limits, Day::of(clock::now()), 0);
            self.merge(token);
        }
    }

    /// The caller of the token with this id, and what [`is_still_valid`](Self::is_still_valid) needs later.
    pub(in crate::auth) fn check_id(&self, id: &str, now: Timestamp) -> Option<(Caller, TokenCheck)> {
        let table = self.table.read();
        let token = table.by_id(id, now)?;
        let revocations = self.revocations.load(Ordering::Acquire);
        Some((self.caller_of(token, None), TokenCheck { revocations, expires: token.expires_at.is_some() }))
    }
}
