//! The links of sessions: the state of each, which outlives its connections. Not here: the connection that carries a link
//! (`http/registrar/link.rs`).

mod greeting;
mod session_link;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;
use wire::link::{Going, Resume, Tables};

use greeting::Greeting;
pub(crate) use session_link::{Arrival, CountedPiece, SessionLink};

/// The links of all sessions that have one.
#[derive(Default)]
pub(crate) struct Links {
    of: Mutex<HashMap<String, Arc<SessionLink>>>,
    /// Number of registrars that were told of the hub's shutdown, number of links at the first of them, and its time.
    told: Mutex<Option<(u32, u32, Instant)>>,
}

impl Links {
    /// Begins a connection of the session's link, which is new if it has none. Returns the link, the number of the
    /// connection and its hello, for a registrar that named `offered`, with what `others` have of their tasks. An older
    /// connection carries the link until the registrar has answered.
    pub(crate) fn connect(
        &self,
        session: &str,
        stream_id: &str,
        offered: &str,
        others: impl IntoIterator<Item = Tables>,
    ) -> (Arc<SessionLink>, u64, Greeting) {
        let link = self.of.lock().entry(session.to_owned()).or_default().clone();
        let (connection, mut tasks) = link.connect();
        tasks.extend(others.into_iter().flatten());
        (link, connection, Greeting::new(stream_id, offered, tasks))
    }

    /// Makes a relay the next connection of the session's link; returns the link and the connection's number. `None` if
    /// not: the resume is invalid, or there is none and the link has tasks.
    pub(crate) fn carry(&self, session: &str, resume: Option<Resume>) -> Option<(Arc<SessionLink>, u64)> {
        let mut links = self.of.lock();
        let link = links.entry(session.to_owned()).or_default().clone();
        if resume.is_none() && link.has_tasks() {
            return None;
        }
        let (connection, _) = link.connect();
        let is_carried = link.resume(connection, &resume.unwrap_or_default()) == Ok(true);
        if !is_carried {
            link.disconnect(connection);
            if link.is_unused() {
                links.remove(session);
            }
        }
        is_carried.then_some((link, connection))
    }

    /// Whether the session's link has tasks.
    pub(crate) fn has_tasks(&self, session: &str) -> bool {
        self.of.lock().get(session).is_some_and(|link| link.has_tasks())
    }

    /// What this hub has of the answers to the tasks on the session's link.
    pub(crate) fn tables(&self, session: &str) -> Tables {
        self.of.lock().get(session).map_or_else(Tables::new, |link| link.tables())
    }

    /// When the next registrar that is told of the hub's shutdown connects again.
    pub(crate) fn going(&self) -> Going {
        let mut told = self.told.lock();
        // Links are removed while others are told.
        let begin = || (0, u32::try_from(self.of.lock().len()).unwrap_or(u32::MAX), Instant::now());
        let (index, count, first) = told.unwrap_or_else(begin);
        *told = Some((index.saturating_add(1), count, first));
        Going::of(index, count, first.elapsed())
    }

    /// Whether the session has a link.
    pub(crate) fn has(&self, session: &str) -> bool {
        self.of.lock().contains_key(session)
    }

    /// Removes the session's link. Answers that have not ended break off.
    pub(crate) fn remove(&self, session: &str) {
        if let Some(link) = self.of.lock().remove(session) {
            link.remove();
        }
    }

    /// Removes the session's link if the connection `connection` of `link` carries it.
    pub(crate) fn remove_carried_by(&self, session: &str, link: &SessionLink, connection: u64) {
        let mut links = self.of.lock();
        if link.remove_if_carried_by(connection) {
            links.remove(session);
        }
    }

    /// Removes the session's link if it has neither a task nor a connection.
    pub(crate) fn remove_unused(&self, session: &str) {
        let mut links = self.of.lock();
        if links.get(session).is_some_and(|link| link.is_unused()) {
            links.remove(session);
        }
    }

    /// Whether the session's link has `task`.
    pub(crate) fn knows(&self, session: &str, task: &str) -> bool {
        self.of.lock().get(session).is_some_and(|link| link.knows(task))
    }

    /// Cancels a task of which a part was not sent. `false` if there is none.
    pub(crate) fn withdraw(&self, session: &str, task: &str) -> bool {
        self.of.lock().get(session).is_some_and(|link| link.withdraw(task))
    }

    /// Drops what the session's link keeps of a task that has ended; see [`SessionLink::ended`]. `false` if the session has no
    /// link, or its link does not know the task.
    pub(crate) fn ended(&self, session: &str, task: &str, by_answer: bool) -> bool {
        let link = self.of.lock().get(session).cloned();
        link.is_some_and(|link| link.ended(task, by_answer))
    }
}

#[cfg(test)]
impl Links {
    /// Memory in bytes of the frames of the session's link that wait to be written before credit and pieces.
    pub(crate) fn waiting_control(&self, session: &str) -> usize {
        self.of.lock()[session].waiting_control()
    }

    /// Number of the tasks that the session's link has, of the answers that have begun there, and of the bodies that count.
    pub(crate) fn kept(&self, session: &str) -> [usize; 3] {
        self.of.lock()[session].kept()
    }
}
