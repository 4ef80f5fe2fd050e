//! The state that all routes and background tasks share.
//!
//! Lock order: registry, then capacity or tasks, then tokens. Dispatches, wakes and channels are locked alone or behind the
//! registry. Of the other hubs, what is known by their beats and then `Shared::read` may be locked behind the registry, and
//! `Shared::turn` alone. No synchronous lock is held over an await. In debug builds `RankedMutex` checks the order of
//! registry, dispatches and wakes.

use std::convert::Infallible;
use std::hash::RandomState;
use std::sync::Arc;

use actix_web::web::Data;
use backend::FairSemaphore;
use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use crate::auth::Tokens;
use crate::channels::Channels;
use crate::clock::{Clock, Now};
use crate::cluster::{Cluster, Shared, TableTurn};
use crate::connections;
use crate::dispatch::{Capacity, DispatchTable, OutboundCalls, WakeTable};
use crate::error::ApiError;
use crate::links::Links;
use crate::locks::RankedMutex;
use crate::model::{AuditRecord, Caller, UserId};
use crate::options::HubOptions;
use crate::quota::{MistakeBudgets, UserQuotas};
use crate::registry::Registry;
use crate::store::{AuditQuery, Change, Store, StoreFuture, UsageQuery, UsageTable};
use crate::tasks::DurableTasks;
use crate::telemetry::{Limit, Watch};

/// Searches of the audit read up to 200,000 rows: one runs at a time, users in turn.
static SEARCHES: FairSemaphore = FairSemaphore::new(1, 1);

/// Largest body, in bytes, of a call that takes a turn of [`ChangeTurns::small`]: some 50 rows.
const SMALL_CHANGE: usize = 2 << 10;
/// Most rows and agents of its session that such a call may drop: as many as it may name.
const SMALL_DROP: usize = 50;

/// Turns of calls that register or change rows, agents, pools and names. Each lasts until its changes are committed, so that
/// they bound the changes of a user, and of all users, that wait for the store.
pub(crate) struct ChangeTurns {
    small: &'static FairSemaphore,
    /// For up to 256 rows and 256 agents, which keep the store busy for some 10 ms.
    large: &'static FairSemaphore,
}

impl Default for ChangeTurns {
    fn default() -> Self {
        // Leaked, since permits borrow it for ever: once for each hub, of which a process has one.
        let new = |all, of_user| -> &'static _ { Box::leak(Box::new(FairSemaphore::new(all, of_user))) };
        Self { small: new(64, 16), large: new(8, 1) }
    }
}

impl ChangeTurns {
    /// The turns of calls with a body of `size` bytes that drop at most `dropped` rows and agents.
    pub(crate) fn of(&self, size: usize, dropped: usize) -> &'static FairSemaphore {
        if Self::is_small(size, dropped) { self.small } else { self.large }
    }

    /// Whether such calls take the turns of small ones.
    pub(crate) fn is_small(size: usize, dropped: usize) -> bool {
        size <= SMALL_CHANGE && dropped <= SMALL_DROP
    }
}

/// Names of other users that a user's refused calls may have at once: a large team's registrars that all have one name
/// too many.
pub(crate) const MISNAMED_BURST: u32 = 256;
/// Names added to that budget each second.
pub(crate) const MISNAMED_PER_SECOND: u32 = 4;

/// The hub. [`Hub::start`] makes one; routes hold it in an `Arc`.
pub struct Hub {
    pub(crate) options: HubOptions,
    pub(crate) cluster: Cluster,
    /// What it shares with other hubs; `None` without `--nats-url`.
    pub(crate) shared: Option<Arc<Shared>>,
    pub(crate) clock: Clock,
    pub(crate) registry: RankedMutex<Registry, 0>,
    pub(crate) dispatches: RankedMutex<DispatchTable, 1>,
    pub(crate) wakes: RankedMutex<WakeTable, 1>,
    pub(crate) channels: Channels,
    pub(crate) links: Links,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) tasks: DurableTasks,
    pub(crate) quotas: UserQuotas,
    /// The key of the hashes by which conversations are known.
    pub(crate) affinity_keys: RandomState,
    /// Refused calls of each user that named what others own.
    pub(crate) misnamed: MistakeBudgets<UserId>,
    pub(crate) capacity: Capacity,
    pub(crate) outbound: OutboundCalls,
    /// Turns of calls that change the registry.
    pub(crate) change_turns: ChangeTurns,
    /// Signalled when a dispatch ends: shutdown waits for the last one.
    pub(crate) dispatch_ended: watch::Sender<()>,
    pub(crate) phase: watch::Sender<Phase>,
}

/// The hub, as an extractor of handlers.
pub(crate) type HubData = Data<Hub>;

/// Progress of the hub's shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Not shutting down.
    Serving,
    /// Calls are served or passed on to other hubs, to which load balancers and registrars are sent. New control
    /// channels and registrations are refused. A hub alone has no such phase.
    Leaving,
    /// New calls get 503, running ones continue.
    Draining,
    /// Running streams end.
    Stopping,
}

impl Hub {
    pub(crate) fn new(
        options: HubOptions,
        (cluster, shared): (Cluster, Option<Arc<Shared>>),
        clock: Clock,
        registry: Registry,
        store: Arc<dyn Store>,
        tokens: Arc<Tokens>,
        watch: Arc<Watch>,
    ) -> Self {
        let quotas = UserQuotas::new(options.machine.max_memory, watch.machine.clone());
        Self {
            options,
            cluster,
            shared,
            clock,
            registry: RankedMutex::new(registry),
            dispatches: RankedMutex::default(),
            wakes: RankedMutex::default(),
            channels: Channels::new(&quotas.memory),
            links: Links::default(),
            store,
            tokens,
            watch,
            tasks: DurableTasks::default(),
            quotas,
            affinity_keys: RandomState::new(),
            misnamed: MistakeBudgets::new(MISNAMED_BURST, MISNAMED_PER_SECOND),
            capacity: Capacity::default(),
            outbound: OutboundCalls::default(),
            change_turns: ChangeTurns::default(),
            dispatch_ended: watch::Sender::new(()),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    /// Reads the hub's clock.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Searches the audit for `caller`. The result includes inferences that have just ended.
    pub(crate) async fn search(
        &self,
        caller: &Caller,
        query: AuditQuery,
    ) -> Result<Vec<AuditRecord>, ApiError> {
        let limit = self.options.limits.searches;
        let _permit =
            self.quotas.searches.take(&caller.user, limit, "searches under way", Limit::Searches)?;
        self.watch.flush().await;
        let _turn =
            if query.is_lookup() { None } else { Some(connections::turn(&SEARCHES, &caller.user).await) };
        Ok(self.store.audit(query).await?)
    }

    /// Adds up sums for `caller`. They include inferences that have just ended.
    pub(crate) async fn usage(&self, caller: &Caller, query: UsageQuery) -> Result<UsageTable, ApiError> {
        let limit = self.options.limits.searches;
        let _permit =
            self.quotas.searches.take(&caller.user, limit, "searches under way", Limit::Searches)?;
        self.watch.flush().await;
        let _turn = connections::turn(&SEARCHES, &caller.user).await;
        Ok(self.store.usage(query).await?)
    }

    /// Applies `change` to the registry in `turn` and enqueues its writes under one lock, so that the store sees changes in the
    /// registry's order. Await the result for durability: without changes, it waits for those of earlier calls, whose commit
    /// may have failed.
    pub(crate) fn try_change<T, E>(
        &self,
        turn: &TableTurn,
        change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), E>,
    ) -> Result<(T, StoreFuture<()>), E> {
        let (value, written) = self.apply(Some(turn), change)?;
        let written = written.unwrap_or_else(|| {
            let store = self.store.clone();
            Box::pin(async move { store.write_behind(Vec::new()).await })
        });
        Ok((value, written))
    }

    /// Infallible [`try_change`](Self::try_change), which need not be awaited by a hub alone.
    pub(crate) fn change_in<T>(
        &self,
        turn: &TableTurn,
        change: impl FnOnce(&mut Registry) -> (T, Vec<Change>),
    ) -> (T, Option<StoreFuture<()>>) {
        let Ok(changed) = self.apply(Some(turn), |registry| Ok::<_, Infallible>(change(registry)));
        changed
    }

    /// Infallible [`try_change`](Self::try_change) that does not wait for the store. Of several hubs none stores it: such
    /// changes concern what is told to others ([`Registry::tell`]), and after a start is as after a loss.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Registry) -> (T, Vec<Change>)) -> T {
        let Ok((value, _)) = self.apply(None, |registry| Ok::<_, Infallible>(change(registry)));
        value
    }

    /// Applies `change` and enqueues its writes under one lock; `None` without writes.
    fn apply<T, E>(
        &self,
        turn: Option<&TableTurn>,
        change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), E>,
    ) -> Result<(T, Option<StoreFuture<()>>), E> {
        let mut registry = self.registry.lock();
        let (value, changes) = change(&mut registry)?;
        let written = match (turn, &self.shared) {
            (Some(turn @ TableTurn::Shared(_)), _) => turn.write(changes),
            (_, Some(_)) => None,
            (_, None) => (!changes.is_empty()).then(|| self.store.write_behind(changes)),
        };
        self.end_taken_over(&mut registry);
        Ok((value, written))
    }

    /// Like [`change`](Self::change), for frequent changes such as heartbeats: the store may merge several into one write.
    pub(crate) fn note<T, E>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), E>,
    ) -> Result<T, E> {
        let mut registry = self.registry.lock();
        let (value, changes) = change(&mut registry)?;
        if !changes.is_empty() && self.shared.is_none() {
            self.store.write_coalesced(changes);
        }
        Ok(value)
    }

    /// Tells other hubs that there is something to read in the store.
    pub(crate) fn tell_changed(&self) {
        if let Some(shared) = &self.shared {
            shared.tell_changed();
        }
    }

    /// Enqueues `changes` without waiting: the store retries until they are written.
    pub(crate) fn save(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            drop(self.store.write_behind(changes));
        }
    }

    /// Whether new calls are refused: from [`Phase::Draining`] on.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.phase.borrow() > Phase::Leaving
    }

    /// Whether new control channels and registrations are refused: from [`Phase::Leaving`] on.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.phase.borrow() > Phase::Serving
    }

    /// Resolves when new control channels are refused: from [`Phase::Leaving`] on.
    pub(crate) fn leaving(&self) -> LocalBoxFuture<'static, ()> {
        let mut phase = self.phase.subscribe();
        // The sender is gone with the hub only.
        Box::pin(async move { drop(phase.wait_for(|phase| *phase > Phase::Serving).await) })
    }

    /// Resolves when streams have to end.
    pub(crate) async fn stopping(&self) {
        let mut phase = self.phase.subscribe();
        // `self` owns the sender, so the wait cannot fail.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    }

    /// Resolves when the streams of `caller` have to end: its token is no longer valid, or the hub stops.
    pub(crate) fn end_for(self: &Arc<Self>, caller: &Caller) -> LocalBoxFuture<'static, ()> {
        let (hub, caller) = (self.clone(), caller.clone());
        Box::pin(async move {
            tokio::select! {
                () = hub.tokens.ended(&caller) => (),
                () = hub.stopping() => (),
            }
        })
    }
}
