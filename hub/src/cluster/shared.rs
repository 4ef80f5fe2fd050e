//! What a process has of the other hubs of its cluster, and its turn to change the table of LLMs.

mod failed;
#[cfg(test)]
pub(super) mod unstored;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard, mpsc};
use tokio::time::Instant;

use failed::Failed;

use super::Process;
use super::bus::Inbox;
use super::nats::{Nats, NatsOptions};
use super::peers::Peers;
use crate::clock::Now;
use crate::hub::Hub;
use crate::limits::Spent;
use crate::model::Day;
use crate::options::ClusterOptions;
use crate::store::{Merge, PostgresStore, StoreError, StoreFuture};

/// Time for which calls of this hub join a turn that has begun. Then it is another hub's.
const JOINED_FOR: Duration = Duration::from_millis(20);
/// Time after which the feed may lack what is to be read: all is read anew.
const FEED_FOR: Duration = Duration::from_hours(12);

/// What a process has of the others.
pub(crate) struct Shared {
    pub(crate) peers: Arc<Peers>,
    pub(super) inbox: Mutex<Option<Inbox>>,
    pub(crate) store: Arc<PostgresStore>,
    /// Held while this process reads the feed, and during its turn.
    feed: Arc<AsyncMutex<Feed>>,
    turn: Mutex<Weak<Turn>>,
    /// Tells those who wait for a turn that one has begun which they may join.
    turn_begun: Notify,
    /// Whether a change that memory has could not be written: what is stored counts.
    is_doubtful: AtomicBool,
    /// Number of changes that this process has made: its digest in beats.
    pub(super) changes: AtomicU64,
    /// Of other processes, how many have been read.
    pub(super) read: Mutex<HashMap<Process, u64>>,
    /// Number of times that the table was changed, here or by others.
    pub(super) version: AtomicU64,
    /// Digest of the table; `None` until it is known.
    pub(super) digest: Mutex<Option<String>>,
    /// Asks for a look for open tasks of hubs that are gone.
    pub(crate) look_for_orphans: Notify,
    /// Asks for all shares of limits to be told.
    pub(super) tell_shares: Notify,
    /// Asks for a look at the feed.
    pub(super) look: Notify,
    /// Sessions whose channel belongs to another hub now.
    pub(super) lost: mpsc::UnboundedSender<(String, Now)>,
    pub(super) losing: Mutex<Option<mpsc::UnboundedReceiver<(String, Now)>>>,
    /// Number of looks at the feed.
    #[cfg(test)]
    looks: AtomicU64,
    /// The table of hubs without a database.
    #[cfg(test)]
    pub(super) unstored: std::sync::OnceLock<unstored::Reader>,
}

/// The place in the feed up to which this process has read it.
struct Feed {
    cursor: String,
    /// When that look began.
    at: Instant,
    /// How the last look and the last turn failed, if they did.
    look: Failed,
    turn: Failed,
}

impl Feed {
    fn new(cursor: String) -> Self {
        Self { cursor, at: Instant::now(), look: Failed::default(), turn: Failed::default() }
    }
}

impl Shared {
    /// Connects to the others. That no server is there now is no error.
    pub(crate) async fn connect(
        options: &ClusterOptions,
        store: Arc<PostgresStore>,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let Some(nats) = &options.nats else { return Ok(None) };
        let process = store.process();
        let cursor = store.cursor().await?;
        let term = store.term().await?;
        let nats = NatsOptions {
            url: nats.url.clone(),
            cluster: options.cluster.clone(),
            credentials: nats.credentials.clone(),
        };
        let (bus, inbox) = Nats::connect(&nats, process)
            .await
            .map_err(|error| StoreError::Network(format!("{error}; check --nats-url")))?;
        Ok(Some(Self::over(Peers::new(process, term, Arc::new(bus)), inbox, store, cursor)))
    }

    /// What a process has that hears `peers` by `inbox`, and has read the feed up to `cursor`.
    pub(super) fn over(peers: Peers, inbox: Inbox, store: Arc<PostgresStore>, cursor: String) -> Arc<Self> {
        let (lost, losing) = mpsc::unbounded_channel();
        Arc::new(Self {
            peers: Arc::new(peers),
            inbox: Mutex::new(Some(inbox)),
            store,
            feed: Arc::new(AsyncMutex::new(Feed::new(cursor))),
            turn: Mutex::default(),
            turn_begun: Notify::new(),
            is_doubtful: AtomicBool::new(false),
            changes: AtomicU64::new(0),
            read: Mutex::default(),
            version: AtomicU64::new(1),
            digest: Mutex::default(),
            look_for_orphans: Notify::new(),
            tell_shares: Notify::new(),
            look: Notify::new(),
            lost,
            losing: Mutex::new(Some(losing)),
            #[cfg(test)]
            looks: AtomicU64::new(0),
            #[cfg(test)]
            unstored: std::sync::OnceLock::new(),
        })
    }

    /// Whether tasks for `session` go over another hub.
    pub(crate) fn has_relay(&self, session: &str) -> bool {
        self.peers.homes.has(session)
    }

    /// What each hub used on `day`, as far as it has written that: of the user `user`, or of all.
    pub(crate) async fn spent(&self, day: Day, user: Option<String>) -> Result<Vec<Spent>, StoreError> {
        self.store.spent(day, user).await
    }

    /// Tells the others that there is something to read.
    pub(crate) fn tell_changed(&self) {
        let changes = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        self.version.fetch_add(1, Ordering::Relaxed);
        self.peers.tell_all("changed", &changes, Bytes::new());
    }
}

/// The right to change the table of LLMs.
#[derive(Clone)]
pub(crate) enum TableTurn {
    /// There is no other hub.
    Alone,
    Shared(Arc<Turn>),
}

/// A turn of this process. It ends with its last holder, whose changes have been written.
pub(crate) struct Turn {
    number: i64,
    begun: Instant,
    shared: Arc<Shared>,
    // In this order: the end is ordered before another turn can begin.
    _end: EndTurn,
    _feed: OwnedMutexGuard<Feed>,
}

/// Ends a turn, also one whose begin nobody waits for any more.
struct EndTurn(Arc<PostgresStore>);

impl Drop for EndTurn {
    fn drop(&mut self) {
        self.0.end_turn();
    }
}

impl TableTurn {
    /// Writes `changes` that the registry has applied in this turn, whether or not anybody waits for that. `None` for a hub alone.
    pub(crate) fn write(&self, changes: Vec<crate::store::Change>) -> Option<StoreFuture<()>> {
        let Self::Shared(turn) = self else { return None };
        if changes.is_empty() {
            return Some(Box::pin(async { Ok(()) }));
        }
        let (turn, written) = (turn.clone(), turn.shared.store.write_in_turn(changes, turn.number));
        // Spawned, since the turn lasts until then, also if the caller has left.
        let written = tokio::spawn(async move {
            let result = written.await;
            match &result {
                Ok(()) => turn.shared.tell_changed(),
                Err(_) => turn.shared.doubt(),
            }
            result
        });
        Some(Box::pin(async move {
            written.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
        }))
    }
}

impl Shared {
    /// Has all records read anew, since memory may have what is not stored.
    fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Relaxed);
        self.look.notify_one();
    }
}

impl Hub {
    /// Waits for the turn of this hub to change the table of LLMs, in which memory has all that others have changed.
    pub(crate) async fn table_turn(&self) -> Result<TableTurn, StoreError> {
        let Some(shared) = &self.shared else { return Ok(TableTurn::Alone) };
        loop {
            let begun = shared.turn_begun.notified();
            let current = shared.turn.lock().upgrade();
            if let Some(turn) = current.filter(|turn| turn.begun.elapsed() < JOINED_FOR) {
                return Ok(TableTurn::Shared(turn));
            }
            tokio::select! {
                () = begun => {}
                feed = shared.feed.clone().lock_owned() => return self.begin_turn(shared, feed).await,
            }
        }
    }

    async fn begin_turn(
        &self,
        shared: &Arc<Shared>,
        mut feed: OwnedMutexGuard<Feed>,
    ) -> Result<TableTurn, StoreError> {
        feed.turn.check()?;
        let end = EndTurn(shared.store.clone());
        let number = shared.store.begin_turn().await;
        feed.turn.note(&number);
        let number = number?;
        self.read_feed(shared, &mut feed).await?;
        let begun = Instant::now();
        let turn = Arc::new(Turn { number, begun, shared: shared.clone(), _end: end, _feed: feed });
        *shared.turn.lock() = Arc::downgrade(&turn);
        shared.turn_begun.notify_waiters();
        Ok(TableTurn::Shared(turn))
    }

    /// Reads what other hubs have changed. Of many that ask at the same time, one reads for all.
    pub(crate) async fn read_changes(&self) -> Result<(), StoreError> {
        let Some(shared) = &self.shared else { return Ok(()) };
        #[cfg(test)]
        if let Some(table) = shared.unstored.get() {
            self.take_records(shared, table.unread());
            return Ok(());
        }
        let asked = Instant::now();
        let mut feed = shared.feed.clone().lock_owned().await;
        if feed.at > asked && !shared.is_doubtful.load(Ordering::Relaxed) {
            return Ok(());
        }
        feed.look.check()?;
        self.read_feed(shared, &mut feed).await
    }

    async fn read_feed(&self, shared: &Shared, feed: &mut Feed) -> Result<(), StoreError> {
        #[cfg(test)]
        shared.looks.fetch_add(1, Ordering::Relaxed);
        let at = Instant::now();
        let is_all = shared.is_doubtful.load(Ordering::Relaxed) || feed.at.elapsed() > FEED_FOR;
        let pulled =
            if is_all { shared.store.pull_all() } else { shared.store.pull(feed.cursor.clone()) }.await;
        feed.look.note(&pulled);
        let pulled = pulled?;
        (feed.cursor, feed.at) = (pulled.cursor, at);
        // Only now, since the caller may have left before. In the meantime nothing was written: a turn has the feed.
        shared.is_doubtful.store(false, Ordering::Relaxed);
        let mut records = pulled.records;
        for record in &records {
            if let Merge::Token(token) = record {
                self.tokens.merge(token.clone());
            }
        }
        if pulled.is_all {
            records.extend(self.tokens.limits().missing(&records));
        }
        for record in &records {
            if let Merge::Limits(owner, limits) = record {
                self.merge_limits(owner.clone(), limits.clone()).await?;
            }
        }
        if pulled.is_all {
            records.extend(self.registry.lock().missing(&records));
        }
        self.take_records(shared, records);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
