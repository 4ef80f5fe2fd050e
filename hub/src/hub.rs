//! What all routes share: the table, the live tasks, the channels, the store, the tokens.
//!
//! Each part has its own lock, held for a few lines and never over an await. Who needs two takes the registry's first,
//! then that of those who wait for room or of the queue, then the tokens'.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;

use backend::Turns;
use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::auth::Tokens;
use crate::channels::Channels;
use crate::clock::{Clock, Now};
use crate::connections;
use crate::dispatch::{Capacity, DispatchTable, Wakes};
use crate::error::ApiError;
use crate::http::naming;
use crate::model::{AuditRecord, Caller, UserId};
use crate::options::HubOptions;
use crate::quota::memory::Memory;
use crate::quota::refusals::Budgets;
use crate::quota::{ByteKind, ByteQuota, Quota, QuotaPermit};
use crate::registry::Registry;
use crate::store::{AuditQuery, Change, Pending, Store};
use crate::tasks::DurableTasks;
use crate::telemetry::Watch;

/// Searches of the audit look through up to 200,000 rows, one after the other, and users in turn.
static SEARCHES: Turns = Turns::of(1, 1);

/// The hub. Routes hold it in an `Arc`.
pub struct Hub {
    /// What it was told.
    pub options: HubOptions,
    /// Its clock.
    pub clock: Clock,
    /// Who publishes what.
    pub registry: Mutex<Registry>,
    /// The dispatches under way.
    pub dispatches: Mutex<DispatchTable>,
    /// The wake tasks under way.
    pub wakes: Mutex<Wakes>,
    /// The way to the publishers.
    pub channels: Channels,
    /// Where records live.
    pub store: Arc<dyn Store>,
    /// Who may.
    pub tokens: Arc<Tokens>,
    /// What runs now, and what it counts for.
    pub watch: Arc<Watch>,
    /// Durable tasks that have not ended.
    pub tasks: DurableTasks,
    /// The calls of each user.
    pub calls: Arc<Quota>,
    /// The searches of each user.
    pub searches: Arc<Quota>,
    /// The bytes of each user's requests.
    pub bytes: Arc<Quota>,
    /// The bytes of each user's results, and of all else that it sends.
    pub results: Arc<Quota>,
    /// The bytes of answers that each user has not read.
    pub unread: Arc<Quota>,
    /// The bytes of requests of each user's durable tasks that are sent out.
    pub out: Arc<Quota>,
    /// The bytes of heads of each user's requests.
    pub heads: Arc<Quota>,
    /// The bytes of each user's durable answers that have not ended.
    pub unfinished: Arc<Quota>,
    /// The bytes of all users together.
    pub memory: Arc<Memory>,
    /// The calls of each user that gave a name and were refused.
    pub(crate) misnamed: Budgets<UserId>,
    /// Callers who wait for room at a publisher.
    pub capacity: Capacity,
    /// Sends when a dispatch has ended: for a hub that is about to stop.
    pub task_ended: watch::Sender<()>,
    /// How far the hub is on its way down.
    pub phase: watch::Sender<Phase>,
}

/// How far the hub is on its way down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Up.
    Serving,
    /// New calls get 503, running ones go on.
    Draining,
    /// Streams end.
    Stopping,
}

impl Hub {
    /// A hub with an empty past.
    pub fn new(
        options: HubOptions,
        clock: Clock,
        registry: Registry,
        store: Arc<dyn Store>,
        tokens: Arc<Tokens>,
        watch: Arc<Watch>,
    ) -> Self {
        let memory = Arc::new(Memory::new(options.machine.max_memory, watch.machine.clone()));
        Self {
            options,
            clock,
            registry: Mutex::new(registry),
            dispatches: Mutex::default(),
            wakes: Mutex::default(),
            channels: Channels::new(&memory),
            store,
            tokens,
            watch,
            tasks: DurableTasks::default(),
            calls: Arc::default(),
            searches: Arc::default(),
            bytes: Quota::of(&memory, ByteKind::Requests),
            results: Quota::of(&memory, ByteKind::Results),
            unread: Quota::of(&memory, ByteKind::Unread),
            out: Quota::of(&memory, ByteKind::Out),
            heads: Quota::of(&memory, ByteKind::Heads),
            unfinished: Quota::of(&memory, ByteKind::Unfinished),
            memory,
            misnamed: naming::budgets(),
            capacity: Capacity::default(),
            task_ended: watch::Sender::new(()),
            phase: watch::Sender::new(Phase::Serving),
        }
    }

    /// A reading of the clock.
    pub fn now(&self) -> Now {
        self.clock.now()
    }

    /// A place among the calls that `user` may have at once.
    pub fn call_of(&self, user: &UserId) -> Result<QuotaPermit, ApiError> {
        self.calls.take(user, self.options.limits.calls, "calls under way")
    }

    /// The audit records that `caller` asks for.
    pub async fn search(&self, caller: &Caller, wanted: AuditQuery) -> Result<Vec<AuditRecord>, ApiError> {
        let _seat = self.searches.take(&caller.user, self.options.limits.searches, "searches under way")?;
        // What ended just now is in the answer, too.
        self.watch.flush().await;
        let _turn =
            if wanted.is_lookup() { None } else { Some(connections::turn(&SEARCHES, &caller.user).await) };
        Ok(self.store.audit(wanted).await?)
    }

    /// Where the bytes of `user`'s requests are counted.
    pub fn bytes_of(&self, user: &str) -> ByteQuota {
        let what = "requests under way: wait for some to end";
        ByteQuota::new(&self.bytes, user, self.options.limits.bytes, what)
    }

    /// Where the bytes of `user`'s results are counted, and of all that it sends and that begins no call.
    pub fn results_of(&self, user: &str) -> ByteQuota {
        let what = "results under way: wait for some to end";
        ByteQuota::new(&self.results, user, self.options.limits.bytes, what)
    }

    /// Where the bytes of answers are counted that `user` has not read.
    pub fn unread_of(&self, user: &str) -> ByteQuota {
        ByteQuota::new(&self.unread, user, self.options.limits.bytes, "answers unread: read some first")
    }

    /// Where the bytes of requests are counted that `user`'s durable tasks are sent out with. A task that finds no room
    /// waits.
    pub fn out_of(&self, user: &str) -> ByteQuota {
        ByteQuota::new(&self.out, user, self.options.limits.bytes, "durable tasks under way")
    }

    /// Where the bytes of heads of `user`'s requests are counted.
    pub fn heads_of(&self, user: &str) -> ByteQuota {
        let what = "heads of requests under way: wait for some to end";
        ByteQuota::new(&self.heads, user, self.options.limits.bytes, what)
    }

    /// Where the bytes of answers are counted that `user`'s durable tasks have had so far.
    pub fn unfinished_of(&self, user: &str) -> ByteQuota {
        let what = "unfinished answers: wait for some tasks to end";
        ByteQuota::new(&self.unfinished, user, self.options.limits.bytes, what)
    }

    /// Changes the table of rows and gives the store what changed, while the table is held: of two who change it at once
    /// on two threads, the store is given in the order in which the table was. Who promises that it is written waits for
    /// it.
    pub fn try_change<T, E>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), E>,
    ) -> Result<(T, Pending<()>), E> {
        let mut registry = self.registry.lock();
        let (given, changes) = change(&mut registry)?;
        let written =
            if changes.is_empty() { Box::pin(ready(Ok(()))) } else { self.store.write_behind(changes) };
        Ok((given, written))
    }

    /// As [`try_change`](Self::try_change), for what cannot be refused and nobody waits for.
    pub fn change<T>(&self, change: impl FnOnce(&mut Registry) -> (T, Vec<Change>)) -> T {
        let Ok((given, _)) = self.try_change(|registry| Ok::<_, Infallible>(change(registry)));
        given
    }

    /// As [`change`](Self::change), for what may change again at once: signs of life, and what follows from them.
    pub fn note<T, E>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<(T, Vec<Change>), E>,
    ) -> Result<T, E> {
        let mut registry = self.registry.lock();
        let (given, changes) = change(&mut registry)?;
        if !changes.is_empty() {
            self.store.note(changes);
        }
        Ok(given)
    }

    /// Writes `changes` some time soon, after all that was given before: the table in memory is the truth, and the store
    /// owes them until it can write.
    pub fn save(&self, changes: Vec<Change>) {
        if !changes.is_empty() {
            drop(self.store.write_behind(changes));
        }
    }

    /// Whether new calls are refused.
    pub fn is_stopping(&self) -> bool {
        *self.phase.borrow() > Phase::Serving
    }

    /// Resolves when streams have to end.
    pub async fn stopping(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in self, so the wait ends for no other reason.
        let _ = phase.wait_for(|phase| *phase == Phase::Stopping).await;
    }

    /// Resolves when what `caller` holds open has to end: its token does not count any more, or streams end.
    pub fn end_for(self: &Arc<Self>, caller: &Caller) -> LocalBoxFuture<'static, ()> {
        let (hub, caller) = (self.clone(), caller.clone());
        Box::pin(async move {
            tokio::select! {
                () = hub.tokens.ended(&caller) => (),
                () = hub.stopping() => (),
            }
        })
    }
}
