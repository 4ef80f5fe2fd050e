//! How much one user may have at once, whatever the number of its tokens: what one of them does, or whoever stole it,
//! leaves room for everybody else. Every default is several times what a large team needs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{ApiError, ErrorKind};
use crate::memory::Memory;
use crate::model::UserId;

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
    /// Bytes of requests and results that are read or held, and again of answers that are not read, of tasks on channels
    /// that are not read, of durable requests that are sent out, and of durable answers that are not written down yet:
    /// fifty of 20 MB. Each has a number of its own, so that none waits for another.
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

/// Places, or bytes, that users take and leave. A user who has none is not in it, so that it is as large as what it counts.
#[derive(Default)]
pub struct Seats {
    taken: Mutex<HashMap<UserId, usize>>,
    /// Where bytes count for the hub as a whole.
    memory: Option<Arc<Memory>>,
}

/// Some of them, until it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    user: UserId,
    size: usize,
}

impl Seats {
    /// Bytes, which count for all users together, too.
    pub fn of(memory: &Arc<Memory>) -> Arc<Self> {
        Arc::new(Self { taken: Mutex::default(), memory: Some(memory.clone()) })
    }

    /// A place for `user`, unless it has `most` already; `what` it has too many of is for the error's text.
    pub fn take(self: &Arc<Self>, user: &str, most: usize, what: &str) -> Result<Seat, ApiError> {
        let mut seat = self.none(user);
        if seat.grow(1, most) { Ok(seat) } else { Err(too_many(most, what)) }
    }

    /// Nothing yet, to grow.
    pub fn none(self: &Arc<Self>, user: &str) -> Seat {
        Seat { seats: self.clone(), user: user.to_owned(), size: 0 }
    }

    #[cfg(test)]
    pub(crate) fn taken_by(&self, user: &str) -> usize {
        self.taken.lock().get(user).copied().unwrap_or(0)
    }

    #[cfg(test)]
    fn users(&self) -> usize {
        self.taken.lock().len()
    }
}

impl Seat {
    /// Takes `more`, unless its user would have more than `most` then.
    pub fn grow(&mut self, more: usize, most: usize) -> bool {
        let mut taken = self.seats.taken.lock();
        let count = taken.get(&self.user).copied().unwrap_or(0).saturating_add(more);
        if count > most {
            return false;
        }
        if more > 0 {
            taken.insert(self.user.clone(), count);
            self.size += more;
            if let Some(memory) = &self.seats.memory {
                memory.take(more);
            }
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(memory) = self.seats.memory.as_ref().filter(|_| self.size > 0) {
            memory.give(self.size);
        }
        let mut taken = self.seats.taken.lock();
        if let Some(count) = taken.get_mut(&self.user) {
            *count = count.saturating_sub(self.size);
            if *count == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

/// Whom bytes are counted for.
#[derive(Clone)]
pub struct Account {
    seats: Arc<Seats>,
    user: UserId,
    most: usize,
    what: &'static str,
}

/// Bytes of one body, for as long as they are held. The default counts nothing.
#[derive(Default)]
pub struct Held {
    seat: Option<Seat>,
    most: usize,
    what: &'static str,
}

impl Account {
    /// Of a user who may have `most` in all; of `what`, and what to do when it has too much, is for the error's text.
    pub fn new(seats: &Arc<Seats>, user: &str, most: usize, what: &'static str) -> Self {
        Self { seats: seats.clone(), user: user.to_owned(), most, what }
    }

    /// No bytes yet.
    pub fn none(&self) -> Held {
        Held { seat: Some(self.seats.none(&self.user)), most: self.most, what: self.what }
    }

    /// So many, if the user has room for them.
    pub fn hold(&self, size: usize) -> Result<Held, ApiError> {
        let mut held = self.none();
        held.grow(size)?;
        Ok(held)
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.seat.as_ref().map_or(0, |seat| seat.size)).finish()
    }
}

impl Held {
    /// So many more.
    pub fn grow(&mut self, more: usize) -> Result<(), ApiError> {
        if self.seat.as_mut().is_none_or(|seat| seat.grow(more, self.most)) {
            return Ok(());
        }
        let text = format!("you have {} MiB of {}", self.most >> 20, self.what);
        Err(ApiError::new(ErrorKind::Busy, text))
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
    use super::*;

    /// A27: a user's places are counted, are its own, and come back when they are left.
    #[test]
    fn a_user_has_so_many_places_and_takes_none_of_anothers() {
        let seats = Arc::new(Seats::default());
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
}
