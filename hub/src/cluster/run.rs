//! What a process does with what it learns of the other hubs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Process;
use super::bus::Incoming;
use super::calls::About;
use super::digest;
use super::members::{Beat, Event};
use super::pulse::{self, Learned};
use super::relay;
use super::served::{Handler, asked};
use super::shared::Shared;
use super::shares;
use crate::hub::Hub;
use crate::news::news;
use crate::registry::Told;
use crate::store::Merge;
use crate::tasks::run_orphans;

/// Time between two looks at the feed, if nothing is heard.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Time between two looks at a feed that could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Time between two reports of what changes all the time.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Time between two looks at the network: that of some beats.
const NETWORK_EVERY: Duration = Duration::from_secs(4);
/// Time after which all is told again.
const TELL_ALL_EVERY: Duration = Duration::from_secs(30);

/// Lives with the other hubs, until this process has to end. `handler` serves their calls.
pub(crate) async fn run(hub: Arc<Hub>, handler: Handler) {
    let Some(shared) = hub.shared.clone() else { return std::future::pending().await };
    let inbox = shared.inbox.lock().take();
    let losing = shared.losing.lock().take();
    let (Some(mut inbox), Some(losing)) = (inbox, losing) else { return };
    let (sender, mut learned) = mpsc::unbounded_channel();
    let tell_all = Notify::new();
    let pulse = async {
        loop {
            let describe = || {
                let report = hub.report(&shared);
                shared.store.reports().say(report.clone());
                Beat {
                    term: shared.peers.term,
                    is_draining: report.is_draining,
                    digest: shared.changes.load(Ordering::Relaxed),
                    protocol: [1, 1],
                    features: Vec::new(),
                    report,
                }
            };
            let known = |process| shared.read.lock().get(&process).copied().unwrap_or(0);
            let ended = pulse::run(
                shared.peers.process,
                shared.peers.bus.clone(),
                &mut inbox,
                &shared.peers.members,
                describe,
                known,
                &sender,
            );
            match ended.await {
                Some(Event::Fence) => fence(&hub, &shared, &tell_all),
                Some(Event::Superseded(process)) => {
                    return log::error!("another process ({process}) has this hub's id: this one ends");
                }
                _ => return log::error!("the network between hubs has ended"),
            }
        }
    };
    let learning = async {
        while let Some(learned) = learned.recv().await {
            match learned {
                Learned::Event(event) => heard(&hub, &shared, event, &tell_all),
                Learned::Message(message) => arrived(&hub, &shared, &handler, message),
            }
        }
    };
    tokio::select! {
        () = pulse => (),
        () = learning => (),
        () = look(&hub, &shared) => (),
        () = tell(&hub, &shared, &tell_all) => (),
        () = watch_network(&shared) => (),
        () = digest::keep(&hub, &shared) => (),
        () = shares::tell(&hub, &shared) => (),
        () = run_orphans(&hub, &shared) => (),
        () = lose(&hub, &shared, losing) => (),
    }
}

/// Ends what others may have given up while this process was stopped. What runs at its own publishers goes on.
pub(super) fn fence(hub: &Arc<Hub>, shared: &Shared, tell_all: &Notify) {
    log::warn!(
        "this hub was stopped for a while: its calls at other hubs end, and what others have changed is read"
    );
    shared.peers.calls.lose_all();
    shared.peers.served.lose_all();
    // Others have given up what they had at the registrars of this hub, or have it there at another one.
    shared.peers.hosts.greet_all_again();
    hub.lose_relayed(shared.peers.hub());
    // They have dropped what this process told them.
    tell_all.notify_one();
    shared.tell_shares.notify_one();
    shared.look.notify_one();
    shared.look_for_orphans.notify_one();
}

pub(super) fn heard(hub: &Arc<Hub>, shared: &Arc<Shared>, event: Event, tell_all: &Notify) {
    match event {
        Event::Alive(process) => {
            news!(info, "hubs", process.hub(), "hub {process} is there");
            tell_all.notify_one();
            shared.tell_shares.notify_one();
            shared.look.notify_one();
        }
        Event::Suspect(process) => {
            news!(warn, "hubs", process.hub(), "hub {process} is silent");
            shared.peers.lose(process);
        }
        Event::Dead(process) => {
            news!(warn, "hubs", process.hub(), "hub {process} is gone");
            shared.peers.lose(process);
            shared.read.lock().remove(&process);
            shared.peers.bus.forget(process);
            hub.bury_later(shared, process);
            hub.registry.lock().hub_left(process.hub(), hub.now());
            hub.tokens.limits().gone(process.hub());
            shared.look_for_orphans.notify_one();
        }
        Event::Drifted(process) => {
            if let Some(beat) = shared.peers.members.lock().last_beat(process) {
                shared.read.lock().insert(process, beat.digest);
            }
            shared.look.notify_one();
        }
        // They end the pulse.
        Event::Superseded(_) | Event::Fence => {}
    }
}

pub(super) fn arrived(hub: &Arc<Hub>, shared: &Arc<Shared>, handler: &Handler, message: Incoming) {
    match message {
        Incoming::Told(frame) if frame.from == shared.peers.process => {}
        Incoming::Told(frame) => match &*frame.kind {
            "changed" => {
                if let Some(changes) = frame.data() {
                    shared.read.lock().insert(frame.from, changes);
                }
                shared.look.notify_one();
            }
            "told" => {
                if let Ok(told) = serde_json::from_slice::<Told>(&frame.body) {
                    take_told(hub, frame.from, &told);
                }
            }
            shares::KIND => shares::told(hub, &frame),
            "cancel" => {
                if let Some(About::<()> { call, .. }) = frame.data() {
                    shared.peers.served.cancel(frame.from, call);
                }
            }
            _ => {}
        },
        Incoming::Asked(frame, reply) => {
            let Some(reply) = relay::asked(hub, &shared.peers, &frame, reply) else { return };
            if let Some((reply, arrival)) =
                asked(&shared.peers, handler, |user| hub.results_of(user).empty(), &frame, reply)
            {
                shared.peers.reply(reply, arrival);
            }
        }
    }
}

/// Takes over what another hub tells, and offers the capacity that it tells of to the callers who wait here.
fn take_told(hub: &Hub, from: Process, told: &Told) {
    let mut registry = hub.registry.lock();
    registry.told(from.hub(), told.clone(), hub.now());
    hub.offer_rows(&mut registry, told.rows());
    for session in told.sessions() {
        hub.channel_opened(&registry, session);
        hub.offer_rows_of(&mut registry, session);
    }
}

impl Hub {
    /// Takes over what others have changed in the table of LLMs.
    pub(super) fn take_records(&self, shared: &Shared, records: Vec<Merge>) {
        if records.is_empty() {
            return;
        }
        let now = self.now();
        let mut registry = self.registry.lock();
        let lost = registry.merge(records, now);
        shared.version.fetch_add(1, Ordering::Relaxed);
        self.end_taken_over(&mut registry);
        drop(registry);
        for session in lost {
            drop(shared.lost.send((session, now)));
        }
        self.offer_all();
    }
}

/// Reads what others have changed: when they tell, and now and then.
async fn look(hub: &Hub, shared: &Shared) {
    let mut wait = LOOK_EVERY;
    loop {
        drop(tokio::time::timeout(wait, shared.look.notified()).await);
        wait = match hub.read_changes().await {
            Ok(()) => LOOK_EVERY,
            Err(error) => {
                news!(
                    error,
                    "changes of other hubs",
                    "the store",
                    "what other hubs have changed is not read: {error}"
                );
                sleep(LOOK_AGAIN).await;
                Duration::ZERO
            }
        };
    }
}

/// Tells the others what changes all the time here.
async fn tell(hub: &Hub, shared: &Shared, tell_all: &Notify) {
    let (mut cursor, mut all_at) = (0, Instant::now());
    let mut ticks = interval(TELL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = tell_all.notified() => cursor = 0,
        }
        if all_at.elapsed() > TELL_ALL_EVERY {
            (cursor, all_at) = (0, Instant::now());
        }
        loop {
            let (told, more) = hub.registry.lock().tell(&mut cursor);
            if told != Told::default() {
                let body = serde_json::to_vec(&told).unwrap_or_default();
                shared.peers.tell_all("told", &(), body.into());
            }
            if !more {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Logs when this process does not hear itself any more, and when it does again.
async fn watch_network(shared: &Shared) {
    let mut was_there = true;
    loop {
        sleep(NETWORK_EVERY).await;
        let is_there = shared.peers.members.lock().has_echo();
        match (was_there, is_there) {
            (true, false) => {
                log::warn!(
                    "no NATS server answers (--nats-url): publishers of other hubs are out of reach until one does"
                );
            }
            (false, true) => log::info!("NATS answers: other hubs are within reach"),
            _ => {}
        }
        was_there = is_there;
    }
}

/// Closes the channels of sessions that belong to another hub now.
pub(super) async fn lose(
    hub: &Arc<Hub>,
    shared: &Shared,
    mut losing: mpsc::UnboundedReceiver<(String, crate::clock::Now)>,
) {
    while let Some((session, since)) = losing.recv().await {
        if hub.registry.lock().hub_of(&session) == Some(shared.peers.hub()) {
            // It has come back. Its channel is the newest.
            continue;
        }
        // Of a hub that stops, what runs on its channels may end. The other hub may have begun a relay.
        if !hub.is_leaving() && !shared.peers.homes.has(&session) {
            hub.channels.supersede(&session);
        }
        hub.regain(&shared.peers, &session);
        hub.clone().lose_later(session, since);
    }
    std::future::pending::<()>().await;
}
