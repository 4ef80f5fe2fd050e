//! How much one user may have at once, whatever the number of its tokens: what one of them does, or whoever stole it,
//! leaves room for everybody else. Every default is several times what a large team needs.

pub(crate) mod memory;
pub(crate) mod refusals;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{ApiError, ErrorKind};
use crate::model::UserId;
use memory::{Memory, Purpose};

/// Limits of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions, with a channel or not. Four times a herd of 1,000 registrars under one token.
    pub sessions: usize,
    /// LLM rows, and again agents: two for each session.
    pub rows: usize,
    /// Rows that name one pool: whoever calls it costs a look at each.
    pub pool_rows: usize,
    /// Bytes of rows and agents, by their texts and 128 for each: 64 of the longest prompts, or all rows without any.
    pub row_bytes: usize,
    /// Names that are kept and nothing has: a herd's, once; then the one that was left first is free.
    pub names: usize,
    /// Bytes of each [`ByteKind`]: fifty of 20 MB. Each has a number of its own, so that none waits for another. Of all of
    /// them a user has at most as much as is left of the hub's memory for others.
    pub bytes: usize,
    /// Inferences that run or wait, and readers of durable tasks. Eight times the 512 callers of a busy service.
    pub calls: usize,
    /// Durable tasks that have not ended: more than anybody waits for.
    pub open_tasks: usize,
    /// Bytes on disk of requests, results and errors of durable tasks, and 512 for each task: enough for fifty of 20 MB.
    /// Where they have no room, those that ended first go, but for the newest; what has not ended never goes, and keeps
    /// new tasks out.
    pub disk: u64,
    /// Audit rows, of all users together: some 300 MB. Of more those go that are the oldest of the user who has most.
    pub audit_rows: u64,
    /// Searches of the audit: each reads for some 100 ms, one after the other.
    pub searches: usize,
    /// Watchers of `/api/v1/events`: a browser tab each, and one in thirty of those that the hub has seats for.
    pub watchers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 4096,
            rows: 8192,
            pool_rows: 256,
            row_bytes: 4 << 20,
            names: 1024,
            bytes: 1 << 30,
            calls: 4096,
            open_tasks: 1000,
            disk: 1 << 30,
            audit_rows: 1_000_000,
            searches: 4,
            watchers: 8,
        }
    }
}

/// What bytes are of. Each kind has a number of its own, so that none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteKind {
    /// Requests that are read or held.
    Requests,
    /// Requests of durable tasks that are sent out.
    Out,
    /// Heads of requests.
    Heads,
    /// Results, and whatever else a publisher or a caller sends that begins no call.
    Results,
    /// Answers that are not read.
    Unread,
    /// Tasks on a user's own channels that are not read.
    Tasks,
    /// A caller's tasks that are not read, on whosever channels.
    Sent,
    /// Durable answers that are not written down yet.
    Unfinished,
}

impl ByteKind {
    /// How many there are.
    const MANY: usize = 8;

    /// Who asks for memory.
    fn body(self) -> Purpose {
        match self {
            Self::Requests | Self::Out | Self::Heads => Purpose::New,
            Self::Results => Purpose::Ongoing,
            Self::Unread | Self::Tasks | Self::Sent | Self::Unfinished => Purpose::Answer,
        }
    }
}

/// What one user has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserUsage {
    /// Places, or bytes of each [`ByteKind`].
    of: [usize; ByteKind::MANY],
    /// Bytes of each [`ByteKind`] that count elsewhere for the memory.
    shared: [usize; ByteKind::MANY],
}

impl UserUsage {
    /// Of these, with what is shared.
    fn all_of(&self, kind: ByteKind) -> usize {
        self.of[kind as usize].saturating_add(self.shared[kind as usize])
    }

    /// Bytes that keep others out who ask for such: all, or but for the requests.
    fn beside(&self, body: Purpose) -> usize {
        let first = if body == Purpose::New { 0 } else { ByteKind::Results as usize };
        self.of[first..].iter().fold(0, |sum: usize, bytes| sum.saturating_add(*bytes))
    }

    fn add(&mut self, kind: ByteKind, own: usize, shared: usize) {
        let (of, beside) = (&mut self.of[kind as usize], &mut self.shared[kind as usize]);
        *of = of.saturating_add(own);
        *beside = beside.saturating_add(shared);
    }

    fn leave(&mut self, kind: ByteKind, own: usize, shared: usize) {
        let (of, beside) = (&mut self.of[kind as usize], &mut self.shared[kind as usize]);
        *of = of.saturating_sub(own);
        *beside = beside.saturating_sub(shared);
    }
}

/// What each user has who has anything.
pub(crate) type Users = Arc<Mutex<HashMap<UserId, UserUsage>>>;

/// Places, or bytes, that users take and leave. A user who has none is not in it, so that it is as large as what it counts.
pub struct Quota {
    users: Users,
    kind: ByteKind,
    /// Where bytes count for the hub as a whole.
    memory: Option<Arc<Memory>>,
}

impl Default for Quota {
    /// Places of whatever kind.
    fn default() -> Self {
        Self { users: Users::default(), kind: ByteKind::Requests, memory: None }
    }
}

/// Some of them, until it is dropped.
pub struct QuotaPermit {
    seats: Arc<Quota>,
    /// Shared with its account: a small event has several of them.
    user: Arc<str>,
    size: usize,
    shared: usize,
}

/// Why there are no more for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Full {
    /// It has as many as anybody may have.
    User,
    /// It has as much of the hub's memory as is left for others, or there is none.
    Hub,
}

impl Quota {
    /// Bytes of one kind, which count for all users together, too.
    pub fn of(memory: &Arc<Memory>, kind: ByteKind) -> Arc<Self> {
        Arc::new(Self { users: memory.users.clone(), kind, memory: Some(memory.clone()) })
    }

    /// A place for `user`, unless it has `most` already; `what` it has too many of is for the error's text.
    pub fn take(self: &Arc<Self>, user: &str, most: usize, what: &str) -> Result<QuotaPermit, ApiError> {
        let mut seat = self.none(user);
        if seat.grow(1, most) { Ok(seat) } else { Err(too_many(most, what)) }
    }

    /// Nothing yet, to grow.
    pub fn none(self: &Arc<Self>, user: &str) -> QuotaPermit {
        self.none_of(user.into())
    }

    fn none_of(self: &Arc<Self>, user: Arc<str>) -> QuotaPermit {
        QuotaPermit { seats: self.clone(), user, size: 0, shared: 0 }
    }

    /// Whether one who has `counts` with these `own` bytes may have them: then they count for the hub as a whole.
    fn admit(&self, counts: &UserUsage, own: usize, most: usize) -> Result<(), Full> {
        if counts.all_of(self.kind) > most {
            return Err(Full::User);
        }
        if let Some(memory) = self.memory.as_ref().filter(|_| own > 0) {
            // A few heads cost little, and whoever has no room may still ask, and end what it began.
            let are_few = self.kind == ByteKind::Heads && memory.are_few(counts.all_of(self.kind));
            let body = self.kind.body();
            if !are_few && !memory.admits(counts.beside(body), own, body) {
                return Err(Full::Hub);
            }
            memory.take(own);
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn taken_by(&self, user: &str) -> usize {
        self.users.lock().get(user).map_or(0, |counts| counts.all_of(self.kind))
    }

    #[cfg(test)]
    fn users(&self) -> usize {
        self.users.lock().len()
    }
}

impl QuotaPermit {
    /// Takes `more`, unless its user would have more than `most` then.
    pub fn grow(&mut self, more: usize, most: usize) -> bool {
        self.take(more, 0, most).is_ok()
    }

    /// Takes `own` bytes, and `shared` that are counted elsewhere for the memory.
    fn take(&mut self, own: usize, shared: usize, most: usize) -> Result<(), Full> {
        let kind = self.seats.kind;
        let mut users = self.seats.users.lock();
        if let Some(counts) = users.get_mut(&*self.user) {
            counts.add(kind, own, shared);
            if let Err(full) = self.seats.admit(counts, own, most) {
                counts.leave(kind, own, shared);
                return Err(full);
            }
        } else {
            let mut counts = UserUsage::default();
            counts.add(kind, own, shared);
            self.seats.admit(&counts, own, most)?;
            if own > 0 || shared > 0 {
                users.insert((*self.user).to_owned(), counts);
            }
        }
        self.size += own;
        self.shared += shared;
        Ok(())
    }
}

impl QuotaPermit {
    /// Leaves `own` bytes of those that it has.
    fn leave(&mut self, own: usize) {
        let own = own.min(self.size);
        self.size -= own;
        self.give(own, 0);
    }

    fn give(&self, own: usize, shared: usize) {
        if own == 0 && shared == 0 {
            return;
        }
        if let Some(memory) = &self.seats.memory {
            memory.give(own);
        }
        let mut users = self.seats.users.lock();
        if let Some(counts) = users.get_mut(&*self.user) {
            counts.leave(self.seats.kind, own, shared);
            // Mostly there is more of this kind: the others are not compared then.
            if counts.all_of(self.seats.kind) == 0 && *counts == UserUsage::default() {
                users.remove(&*self.user);
            }
        }
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        self.give(self.size, self.shared);
    }
}

/// Whom bytes are counted for.
#[derive(Clone)]
pub struct ByteQuota {
    seats: Arc<Quota>,
    user: Arc<str>,
    most: usize,
    what: &'static str,
}

/// Bytes of one body, for as long as they are held. The default counts nothing.
#[derive(Default)]
pub struct BytesPermit {
    seat: Option<QuotaPermit>,
    most: usize,
    what: &'static str,
}

impl ByteQuota {
    /// Of a user who may have `most` in all; of `what`, and what to do when it has too much, is for the error's text.
    pub fn new(seats: &Arc<Quota>, user: &str, most: usize, what: &'static str) -> Self {
        Self { seats: seats.clone(), user: user.into(), most, what }
    }

    /// No bytes yet.
    pub fn none(&self) -> BytesPermit {
        BytesPermit { seat: Some(self.seats.none_of(self.user.clone())), most: self.most, what: self.what }
    }

    /// So many, if the user has room for them.
    pub fn hold(&self, size: usize) -> Result<BytesPermit, ApiError> {
        self.hold_beside(size, 0)
    }

    /// So many, and `shared` that the hub's memory counts already.
    pub fn hold_beside(&self, own: usize, shared: usize) -> Result<BytesPermit, ApiError> {
        let mut held = self.none();
        held.take(own, shared)?;
        Ok(held)
    }
}

impl fmt::Debug for BytesPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BytesPermit").field(&self.size()).finish()
    }
}

impl BytesPermit {
    /// So many more.
    pub fn grow(&mut self, more: usize) -> Result<(), ApiError> {
        self.take(more, 0)
    }

    /// So many fewer of those that it counts for the memory.
    pub fn shrink(&mut self, less: usize) {
        if let Some(seat) = &mut self.seat {
            seat.leave(less);
        }
    }

    /// So many of something else, counted for the same user.
    pub fn another(&self, size: usize) -> Result<Self, ApiError> {
        let seat = self.seat.as_ref().map(|seat| seat.seats.none_of(seat.user.clone()));
        let mut held = Self { seat, most: self.most, what: self.what };
        held.grow(size)?;
        Ok(held)
    }

    /// Its bytes.
    pub fn size(&self) -> usize {
        self.seat.as_ref().map_or(0, |seat| seat.size)
    }

    fn take(&mut self, own: usize, shared: usize) -> Result<(), ApiError> {
        let Some(seat) = &mut self.seat else { return Ok(()) };
        seat.take(own, shared, self.most).map_err(|full| match (full, &seat.seats.memory) {
            (Full::Hub, Some(memory)) => memory.refusal(),
            _ => ApiError::new(ErrorKind::Busy, format!("you have {} MiB of {}", self.most >> 20, self.what)),
        })
    }
}

/// What one who has too much is told.
pub fn too_many(most: usize, what: &str) -> ApiError {
    ApiError::new(ErrorKind::Busy, format!("you have {most} {what} already: wait for some to end"))
}

/// What one is told whose rows and agents have too many bytes.
pub fn too_large(most: usize) -> ApiError {
    let text = format!(
        "your LLMs and agents have {} KiB, as much as one user may have: shorten prompts and descriptions, or delete some",
        most >> 10
    );
    ApiError::new(ErrorKind::Busy, text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::telemetry::Metrics;

    /// A27: a user's places are counted, are its own, and come back when they are left.
    #[test]
    fn a_user_has_so_many_places_and_takes_none_of_anothers() {
        let seats = Arc::new(Quota::default());
        let take = |user| seats.take(user, 2, "calls");
        let held = [take("alice").unwrap(), take("alice").unwrap()];
        let refused = take("alice").err().unwrap();
        assert_eq!(refused.message, "you have 2 calls already: wait for some to end");
        assert_eq!(refused.kind, ErrorKind::Busy);
        let other = take("bob").unwrap();
        drop(held);
        let mut bytes = seats.none("alice");
        assert!(bytes.grow(1, 2) && bytes.grow(1, 2) && !bytes.grow(1, 2));
        assert!(take("alice").is_err());
        drop(bytes);
        assert!(take("alice").is_ok());
        drop(other);
        assert_eq!(seats.users(), 0, "nothing is kept of those who have nothing");
    }

    const ALL: [ByteKind; ByteKind::MANY] = [
        ByteKind::Requests,
        ByteKind::Out,
        ByteKind::Heads,
        ByteKind::Results,
        ByteKind::Unread,
        ByteKind::Tasks,
        ByteKind::Sent,
        ByteKind::Unfinished,
    ];

    /// Whose requests have all that they get still has room for the answers to them, and for what it sends on.
    #[test]
    fn a_users_own_requests_leave_room_for_its_results() {
        const MOST: usize = 1 << 44;
        let memory = Arc::new(Memory::new(Some(MOST as u64), Metrics::new().unwrap().of_machine().unwrap()));
        let account = |kind| ByteQuota::new(&Quota::of(&memory, kind), "alice", usize::MAX, "it");
        let mut requests = account(ByteKind::Requests).none();
        while requests.grow(MOST / 64).is_ok() {}
        assert_eq!(requests.size(), MOST / 2);
        for kind in [ByteKind::Results, ByteKind::Unread, ByteKind::Tasks, ByteKind::Unfinished] {
            assert!(account(kind).hold(MOST / 4).is_ok(), "{kind:?}");
        }
        assert!(account(ByteKind::Out).hold(1).is_err(), "no more of what begins");
    }

    /// A task that waits on a channel counts there in full, though its request counts elsewhere for the memory.
    #[test]
    fn what_is_counted_elsewhere_counts_for_the_limit_of_its_kind() {
        let memory = Arc::new(Memory::new(Some(1 << 44), Metrics::new().unwrap().of_machine().unwrap()));
        let tasks = ByteQuota::new(&Quota::of(&memory, ByteKind::Tasks), "alice", 10, "tasks");
        let first = tasks.hold_beside(1, 5).unwrap();
        assert_eq!(tasks.hold_beside(1, 4).unwrap_err().kind, ErrorKind::Busy);
        let second = tasks.hold_beside(1, 3).unwrap();
        drop((first, second));
        assert!(tasks.hold_beside(1, 9).is_ok());
    }

    proptest! {
        /// A24, A27: whatever one user takes and gives back, in any order, another one may have a twentieth of the hub's
        /// memory for its requests and three for their answers, and in the end nothing is kept of either.
        #[test]
        fn one_user_leaves_memory_to_another(
            ops in prop::collection::vec((0..ByteKind::MANY, 1..300_usize, prop::bool::weighted(0.1)), 1..300),
        ) {
            // No process of a test is as large as a share of it.
            const UNIT: usize = 1 << 34;
            const MOST: usize = 1024 * UNIT;
            let machine = Metrics::new().unwrap().of_machine().unwrap();
            let memory = Arc::new(Memory::new(Some(MOST as u64), machine));
            let seats = ALL.map(|kind| Quota::of(&memory, kind));
            let account = |kind: usize, user: &str| ByteQuota::new(&seats[kind], user, usize::MAX, "it");
            let mut held = Vec::new();
            for (kind, size, goes) in ops {
                if goes && !held.is_empty() {
                    held.swap_remove(size % held.len());
                }
                held.extend(account(kind, "mallory").hold(size * UNIT));
                for (kind, share) in (0..ByteKind::MANY).map(|kind| (kind, if kind < ByteKind::Results as usize { 51 } else { 154 })) {
                    let room = account(kind, "bob").hold(share * UNIT);
                    prop_assert!(room.is_ok(), "{:?} beside {:?}", ALL[kind], held);
                }
                let taken: usize = seats.iter().map(|seats| seats.taken_by("mallory")).sum();
                prop_assert_eq!(taken, held.iter().map(BytesPermit::size).sum::<usize>());
            }
            drop(held);
            prop_assert_eq!(seats[0].users(), 0);
            prop_assert!(account(0, "bob").hold(MOST / 2).is_ok());
        }
    }
}
