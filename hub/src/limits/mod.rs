//! What admins allow a user or a token: models, tokens a day, requests a minute and calls at a time (SPEC.md section 5,
//! limits of a caller). The limits of a token and of its user both hold.
//!
//! Limits that protect the hub itself, and hold for everybody, are in [`crate::quota`].
//!
//! A call that passes [`CallerLimits::admit`] has taken one request of its minute, and has a [`Slot`] until it ends. Its tokens are
//! counted when it ends, in `telemetry/inference.rs`, where the sums of the day are: [`CallerLimits::count`]. Refusals are counted
//! as those of other limits are, by `http/middleware/trace.rs`. Several hubs tell each other what they counted ([`shares`]). While
//! nobody has a limit, each of these costs one
//! branch.

mod bucket;
mod headers;
mod holder;
mod set;
mod shares;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::clock::Now;
use crate::error::ApiError;
use crate::model::{AllowedModels, CallLimits, Caller, Day, LimitOwner, LimitRecord, UserId};
use holder::Holder;
pub(crate) use set::LimitsPatch;
pub(crate) use shares::Share;
pub use shares::Spent;

/// The limits of all users and tokens that have any.
#[derive(Default)]
pub(crate) struct CallerLimits {
    /// Whether anybody has a limit.
    is_any: AtomicBool,
    holders: RwLock<Holders>,
    /// Held while limits are changed, from the look at the old ones until the new ones hold.
    changing: tokio::sync::Mutex<()>,
}

/// A user or a token with its limits, and what it has used.
type SharedHolder = Arc<Mutex<Holder>>;

#[derive(Default)]
struct Holders {
    of_users: HashMap<UserId, SharedHolder>,
    of_tokens: HashMap<String, SharedHolder>,
}

impl Holders {
    fn get(&self, owner: &LimitOwner) -> Option<&SharedHolder> {
        match owner {
            LimitOwner::User(user) => self.of_users.get(user),
            LimitOwner::Token(id) => self.of_tokens.get(id),
        }
    }

    fn put(&mut self, owner: LimitOwner, holder: Holder) {
        let holder = Arc::new(Mutex::new(holder));
        match owner {
            LimitOwner::User(user) => self.of_users.insert(user, holder),
            LimitOwner::Token(id) => self.of_tokens.insert(id, holder),
        };
    }

    fn all(&self) -> impl Iterator<Item = (LimitOwner, &SharedHolder)> {
        let of_users = self.of_users.iter().map(|(user, holder)| (LimitOwner::User(user.clone()), holder));
        let of_tokens = self.of_tokens.iter().map(|(id, holder)| (LimitOwner::Token(id.clone()), holder));
        of_users.chain(of_tokens)
    }

    fn remove(&mut self, owner: &LimitOwner) {
        match owner {
            LimitOwner::User(user) => self.of_users.remove(user),
            LimitOwner::Token(id) => self.of_tokens.remove(id),
        };
    }

    /// The holders of a call: its user, then its token. They are always locked in this order.
    fn of(&self, user: &str, token: &str) -> [Option<SharedHolder>; 2] {
        [self.of_users.get(user).cloned(), self.of_tokens.get(token).cloned()]
    }
}

/// A call under way, among those that its user and its token may have at a time. Dropping it ends that.
#[derive(Default)]
pub(crate) struct Slot([Option<SharedHolder>; 2]);

impl Drop for Slot {
    fn drop(&mut self) {
        for holder in self.0.iter().flatten() {
            holder.lock().release();
        }
    }
}

impl CallerLimits {
    /// The limits in the store of the hub `own`. `spent` is what was used on the day `today`: a restart gives nobody a new budget.
    pub(crate) fn load(records: Vec<LimitRecord>, spent: &[Spent], own: &str, today: Day) -> Self {
        let limits = Self::default();
        for LimitRecord { owner, limits: of_owner } in records {
            limits.put_shared(&owner, of_owner, today, spent, own);
        }
        limits
    }

    fn of(&self, user: &str, token: &str) -> [Option<SharedHolder>; 2] {
        if self.is_any() { self.holders.read().of(user, token) } else { [None, None] }
    }

    /// Whether anybody has a limit.
    pub(crate) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Relaxed)
    }

    /// The models that a caller may use.
    pub(crate) fn models(&self, user: &str, token: &str) -> AllowedModels {
        let [of_user, of_token] = self
            .of(user, token)
            .map(|holder| holder.and_then(|holder| holder.lock().limits().models.clone()));
        AllowedModels { of_user, of_token }
    }

    /// Admits a call, unless its user or its token is at a limit. A refused call takes nothing.
    pub(crate) fn admit(&self, caller: &Caller, now: Now) -> Result<Slot, ApiError> {
        self.take(caller, now, |holder| holder.refusal(now), |holder| holder.begin(now)).map(Slot)
    }

    /// Admits a durable task: it takes one request now, and a [slot](Self::start) when it runs.
    pub(crate) fn accept(&self, caller: &Caller, now: Now) -> Result<(), ApiError> {
        self.take(caller, now, |holder| holder.refusal_of_request(now), |holder| holder.request(now))
            .map(drop)
    }

    /// A slot for a durable task that is about to run; `None` if it has to wait.
    pub(crate) fn start(&self, caller: &Caller, now: Now) -> Option<Slot> {
        self.take(caller, now, |holder| holder.refusal_of_run(now), Holder::start).ok().map(Slot)
    }

    fn take(
        &self,
        caller: &Caller,
        now: Now,
        refusal: impl Fn(&Holder) -> Option<ApiError>,
        take: impl Fn(&mut Holder),
    ) -> Result<[Option<SharedHolder>; 2], ApiError> {
        let holders = self.of(&caller.user, &caller.token_id);
        let mut locked = holders.each_ref().map(|holder| holder.as_ref().map(|holder| holder.lock()));
        for holder in locked.iter_mut().flatten() {
            holder.renew(Day::of(now.wall));
        }
        if let Some(error) = locked.iter().flatten().find_map(|holder| refusal(holder)) {
            return Err(error);
        }
        locked.iter_mut().flatten().for_each(|holder| take(holder));
        drop(locked);
        Ok(holders)
    }

    /// Counts the tokens of a call that has ended.
    pub(crate) fn count(&self, user: &str, token: &str, day: Day, tokens: u64) {
        for holder in self.of(user, token).iter().flatten() {
            let mut holder = holder.lock();
            holder.renew(day);
            holder.count(tokens);
        }
    }

    /// The limits of a user or a token, and the tokens that it has used today if it has any limit.
    pub(crate) fn get(&self, owner: &LimitOwner, today: Day) -> (CallLimits, Option<u64>) {
        let holders = self.holders.read();
        let Some(holder) = holders.get(owner) else { return (CallLimits::default(), None) };
        let mut holder = holder.lock();
        holder.renew(today);
        (holder.limits().clone(), Some(holder.used()))
    }

    /// Replaces the limits of a user or a token. `used` are the tokens that it has used today, if it had no limit.
    pub(crate) fn put(&self, owner: LimitOwner, limits: CallLimits, today: Day, used: u64) {
        let mut holders = self.holders.write();
        match holders.get(&owner) {
            _ if limits.is_none() => holders.remove(&owner),
            Some(holder) => holder.lock().set_limits(limits),
            None => holders.put(owner, Holder::new(limits, today, used)),
        }
        let is_any = !(holders.of_users.is_empty() && holders.of_tokens.is_empty());
        self.is_any.store(is_any, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
