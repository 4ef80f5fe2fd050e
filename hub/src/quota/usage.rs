//! Counters of one user: permits, or bytes of each kind.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::model::UserId;
use crate::telemetry::Limit;

/// The kinds of bytes. Each has its own counter, so that none blocks another. Those of requests come first, since
/// [`UserUsage::counted_for`] leaves them out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByteKind {
    /// Request bodies that are read or held.
    Requests,
    /// Requests of durable tasks that are dispatched.
    Outgoing,
    /// Request heads.
    Heads,
    /// Results, and all other bodies that begin no call.
    Results,
    /// Answers that their caller has not read.
    Unread,
    /// Unread tasks on a publisher's own channels.
    Tasks,
    /// Unread tasks of a caller, on anybody's channels.
    Sent,
    /// Answers to durable tasks that are not stored yet.
    Unfinished,
}

impl ByteKind {
    pub(super) const COUNT: usize = 8;

    /// The limit of a user's bytes; `None` if a user beyond it waits, or if [`Channels`](crate::channels::Channels) names it.
    pub(super) fn limit(self) -> Option<Limit> {
        match self {
            Self::Requests | Self::Heads => Some(Limit::RequestBytes),
            Self::Results => Some(Limit::ResultBytes),
            Self::Unread => Some(Limit::UnreadAnswerBytes),
            Self::Unfinished => Some(Limit::UnstoredAnswerBytes),
            Self::Outgoing | Self::Tasks | Self::Sent => None,
        }
    }

    pub(super) fn memory_use(self) -> MemoryUse {
        match self {
            Self::Requests | Self::Outgoing | Self::Heads => MemoryUse::NewCall,
            Self::Results => MemoryUse::Upload,
            Self::Unread | Self::Tasks | Self::Sent | Self::Unfinished => MemoryUse::Delivery,
        }
    }
}

/// What memory is taken for, which decides how far beyond the budget it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemoryUse {
    /// Of a call that begins.
    NewCall,
    /// Of an upload that ends a call or keeps a publisher connected: a quarter beyond the budget, since it frees memory.
    Upload,
    /// On its way to its reader: it was admitted before, whatever the process has now.
    Delivery,
}

/// The usage of one user.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UserUsage {
    /// Permits, or bytes of each [`ByteKind`].
    own: [usize; ByteKind::COUNT],
    /// Bytes of each [`ByteKind`] that the hub's memory already counts under another kind.
    shared: [usize; ByteKind::COUNT],
}

impl UserUsage {
    pub(super) fn total(&self, kind: ByteKind) -> usize {
        self.own[kind as usize].saturating_add(self.shared[kind as usize])
    }

    /// Bytes that count against a new allocation: of all kinds for a new call, else of [`ByteKind::Results`] and the kinds after it.
    pub(super) fn counted_for(&self, purpose: MemoryUse) -> usize {
        let first = if purpose == MemoryUse::NewCall { 0 } else { ByteKind::Results as usize };
        self.own[first..].iter().fold(0, |sum: usize, bytes| sum.saturating_add(*bytes))
    }

    pub(super) fn add(&mut self, kind: ByteKind, own: usize, shared: usize) {
        let kind = kind as usize;
        self.own[kind] = self.own[kind].saturating_add(own);
        self.shared[kind] = self.shared[kind].saturating_add(shared);
    }

    pub(super) fn subtract(&mut self, kind: ByteKind, own: usize, shared: usize) {
        let kind = kind as usize;
        self.own[kind] = self.own[kind].saturating_sub(own);
        self.shared[kind] = self.shared[kind].saturating_sub(shared);
    }
}

/// Usage by user. Users at zero are removed.
pub(crate) type UsageByUser = Arc<Mutex<HashMap<UserId, UserUsage>>>;
