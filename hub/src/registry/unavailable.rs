//! Why nobody answers for a name now, as far as the caller may see: of a row that is hidden from it behind an agent
//! nothing is told.

use std::cmp::Reverse;

use wire::row::{Status, Timestamp};

use super::{LlmEntry, Registry, Target};
use crate::model::Caller;

/// Why no member of a target takes a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnavailableReason {
    /// No publisher has its channel open.
    PublisherAway,
    /// A publisher is on its way down.
    PublisherStopping,
    /// A publisher is there, its backend is not.
    BackendDown,
    /// A publisher's owner has paused it, until then.
    Paused(Option<Timestamp>),
}

impl UnavailableReason {
    /// The more there is to say, the higher; of two pauses the one that ends first.
    fn rank(self) -> (u8, Reverse<Timestamp>) {
        match self {
            Self::PublisherAway => (0, Reverse(Timestamp(0))),
            Self::PublisherStopping => (1, Reverse(Timestamp(0))),
            Self::BackendDown => (2, Reverse(Timestamp(0))),
            Self::Paused(until) => (3, Reverse(until.unwrap_or(Timestamp(i64::MAX)))),
        }
    }
}

impl Registry {
    /// Why no member of `target` takes a task of `caller`'s: of several reasons the one with the most to say.
    pub fn unavailable_reason(&self, caller: &Caller, target: &Target) -> UnavailableReason {
        let names = self.names(caller, target).into_iter();
        let entries = names.filter_map(|name| self.llms.get(name));
        let seen = entries.filter(|entry| {
            caller.sees(entry.llm.visibility, &entry.llm.owner)
                && target.only_owner.as_ref().is_none_or(|owner| *owner == entry.llm.owner)
        });
        seen.map(|entry| self.absence_of(entry))
            .max_by_key(|absence| absence.rank())
            .unwrap_or(UnavailableReason::PublisherAway)
    }

    fn absence_of(&self, entry: &LlmEntry) -> UnavailableReason {
        let session = entry.llm.session.as_ref().and_then(|id| self.sessions.get(id));
        let Some(session) = session.filter(|session| session.is_open() && !session.silent) else {
            return UnavailableReason::PublisherAway;
        };
        if session.draining {
            return UnavailableReason::PublisherStopping;
        }
        match entry.report.filter(|_| entry.llm.registered) {
            Some(report) if report.paused => UnavailableReason::Paused(report.paused_until),
            Some(report) if report.status == Status::Inactive => UnavailableReason::BackendDown,
            _ => UnavailableReason::PublisherAway,
        }
    }
}
