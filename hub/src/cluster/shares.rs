//! Hubs tell each other what they used of the limits of users and tokens.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::frame::Frame;
use super::shared::Shared;
use crate::clock;
use crate::hub::Hub;
use crate::limits::Share;
use crate::model::{Day, LimitOwner};
use crate::news::news;

/// The kind of the message.
pub(super) const KIND: &str = "used";
/// Time between two tellings of what has changed.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Number of tellings after which all is told again, and what hubs without a network used is read.
const ALL_AFTER: u32 = 150;
/// Most limits that are told in a message: some 150 KB.
const MOST: usize = 1000;

/// Tells the others what this hub used, and all of it when another hub is there.
pub(super) async fn tell(hub: &Hub, shared: &Shared) {
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_u32;
    loop {
        let is_begin = tokio::select! {
            _ = ticks.tick() => false,
            () = shared.tell_shares.notified() => true,
        };
        number += 1;
        let is_all = is_begin || number.is_multiple_of(ALL_AFTER);
        for shares in hub.tokens.limits().tell(is_all).chunks(MOST) {
            shared.peers.tell_all(KIND, &(), serde_json::to_vec(shares).unwrap_or_default().into());
        }
        if is_all && !shared.peers.members.lock().has_echo() {
            learn(hub, shared).await;
        }
    }
}

/// Reads what others have written.
async fn learn(hub: &Hub, shared: &Shared) {
    let today = Day::of(clock::now());
    match shared.spent(today, None).await {
        Ok(spent) => hub.tokens.limits().learn(&spent, shared.peers.hub(), today),
        Err(error) => {
            news!(
                error,
                "shares of other hubs",
                "the store",
                "what other hubs used of limits is not read: {error}"
            );
        }
    }
}

/// Takes over what another hub tells.
pub(super) fn told(hub: &Hub, frame: &Frame) {
    if let Ok(shares) = serde_json::from_slice::<Vec<(LimitOwner, Share)>>(&frame.body) {
        hub.tokens.limits().told(frame.from, shares, hub.now());
    }
}
