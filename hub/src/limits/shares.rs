//! What the hubs of a cluster used of the limits of users and tokens. Each tells the others its own share in absolute numbers, so that
//! one that is lost is made good by the next, and adds up the shares of all.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::CallerLimits;
use super::holder::Holder;
use crate::clock::Now;
use crate::cluster::Process;
use crate::model::{CallLimits, Day, LimitOwner, UsageKey, UsageSum};
use crate::store::Merge;

/// What one hub used of the limits of a user or a token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Share {
    /// The day of `tokens`.
    pub(super) day: i64,
    /// Tokens of the calls that ended on that day.
    pub(super) tokens: u64,
    /// Calls under way.
    pub(super) running: u32,
    /// Requests since the process began to count.
    pub(super) requests: u64,
}

/// The shares of the other hubs.
#[derive(Debug, Default)]
pub(super) struct Others(HashMap<String, Known>);

/// What is known of another hub.
#[derive(Debug, Default)]
struct Known {
    share: Share,
    /// The process that told it; `None` if it is what the store has.
    told_by: Option<Process>,
}

impl Others {
    /// Their tokens of `day`.
    pub(super) fn tokens(&self, day: Day) -> u64 {
        let of_day = self.0.values().filter(|of| of.share.day == day.0);
        of_day.map(|of| of.share.tokens).fold(0, u64::saturating_add)
    }

    /// Their calls under way.
    pub(super) fn running(&self) -> u32 {
        self.0.values().map(|of| of.share.running).fold(0, u32::saturating_add)
    }

    /// Takes over what `process` tells. Returns the number of requests that it accepted since it told before.
    pub(super) fn told(&mut self, process: Process, share: Share) -> u64 {
        let known = self.0.entry(process.hub().to_owned()).or_default();
        let before = match known.told_by {
            Some(before) if before == process => known.share.requests,
            // It has started anew, and counts from zero.
            Some(_) => 0,
            // What it accepted before it was heard is over.
            None => share.requests,
        };
        // The store may have more of a day than a process that was killed and began with less.
        let tokens =
            if known.share.day == share.day { known.share.tokens.max(share.tokens) } else { share.tokens };
        *known = Known { share: Share { tokens, ..share }, told_by: Some(process) };
        share.requests.saturating_sub(before)
    }

    /// Takes over what the store has of the hub `hub`.
    fn stored(&mut self, hub: &str, day: Day, tokens: u64) {
        let share = &mut self.0.entry(hub.to_owned()).or_default().share;
        if share.day != day.0 {
            (share.day, share.tokens) = (day.0, 0);
        }
        share.tokens = share.tokens.max(tokens);
    }

    /// The hub `hub` is gone, and its calls with it.
    fn gone(&mut self, hub: &str) {
        if let Some(known) = self.0.get_mut(hub) {
            known.share.running = 0;
        }
    }
}

/// What a hub used on a day, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Spent {
    pub hub: String,
    pub user: String,
    pub token: String,
    pub tokens: u64,
}

impl Spent {
    /// What a hub alone used, by a sum of the day.
    pub(crate) fn here(sum: &UsageSum) -> Self {
        let UsageKey { user, token, .. } = &sum.key;
        Self { hub: String::new(), user: user.clone(), token: token.clone(), tokens: sum.counts.tokens() }
    }

    fn concerns(&self, owner: &LimitOwner) -> bool {
        match owner {
            LimitOwner::User(user) => self.user == *user,
            LimitOwner::Token(id) => self.token == *id,
        }
    }
}

/// Adds up what `owner` used, by hub.
fn by_hub<'a>(spent: &'a [Spent], owner: &LimitOwner) -> HashMap<&'a str, u64> {
    let mut sums = HashMap::new();
    for of in spent.iter().filter(|of| of.concerns(owner)) {
        let sum: &mut u64 = sums.entry(of.hub.as_str()).or_default();
        *sum = sum.saturating_add(of.tokens);
    }
    sums
}

impl Holder {
    /// Takes over what the store has of hubs other than `own`.
    fn learn(&mut self, owner: &LimitOwner, spent: &[Spent], own: &str, day: Day) {
        for (hub, tokens) in by_hub(spent, owner) {
            if hub != own {
                self.others_mut().stored(hub, day, tokens);
            }
        }
    }
}

impl CallerLimits {
    /// Replaces the limits of a user or a token. `spent` is what the hubs have used on the day `today`, if there were none before; `own`
    /// is this hub.
    pub(crate) fn put_shared(
        &self,
        owner: &LimitOwner,
        limits: CallLimits,
        today: Day,
        spent: &[Spent],
        own: &str,
    ) {
        let used = by_hub(spent, owner).get(own).copied().unwrap_or_default();
        self.put(owner.clone(), limits, today, used);
        if let Some(holder) = self.holders.read().get(owner) {
            holder.lock().learn(owner, spent, own, today);
        }
    }

    /// Takes over what the store has of the other hubs: those that cannot tell it.
    pub(crate) fn learn(&self, spent: &[Spent], own: &str, today: Day) {
        for (owner, holder) in self.holders.read().all() {
            holder.lock().learn(&owner, spent, own, today);
        }
    }

    /// What this hub used of each limit, as far as that was not told before, or `again`.
    pub(crate) fn tell(&self, again: bool) -> Vec<(LimitOwner, Share)> {
        if !self.is_any() {
            return Vec::new();
        }
        let holders = self.holders.read();
        let of_users = holders.of_users.iter().filter_map(|(user, holder)| {
            let share = holder.lock().tell(again)?;
            Some((LimitOwner::User(user.clone()), share))
        });
        let of_tokens = holders.of_tokens.iter().filter_map(|(id, holder)| {
            let share = holder.lock().tell(again)?;
            Some((LimitOwner::Token(id.clone()), share))
        });
        of_users.chain(of_tokens).collect()
    }

    /// Takes over what `process` tells of its shares.
    pub(crate) fn told(&self, process: Process, shares: Vec<(LimitOwner, Share)>, now: Now) {
        let holders = self.holders.read();
        for (owner, share) in shares {
            if let Some(holder) = holders.get(&owner) {
                holder.lock().told(process, share, now);
            }
        }
    }

    /// The hub `hub` is gone, and its calls with it.
    pub(crate) fn gone(&self, hub: &str) {
        for (_, holder) in self.holders.read().all() {
            holder.lock().others_mut().gone(hub);
        }
    }

    /// The limits that are here and not among `records`, which are all there are.
    pub(crate) fn missing(&self, records: &[Merge]) -> Vec<Merge> {
        let is_stored = |owner: &LimitOwner| {
            records.iter().any(|record| matches!(record, Merge::Limits(of, _) if of == owner))
        };
        let holders = self.holders.read();
        let gone = holders.all().map(|(owner, _)| owner).filter(|owner| !is_stored(owner));
        gone.map(|owner| Merge::Limits(owner, CallLimits::default())).collect()
    }
}
