//! Reasons why no member answers, as far as the caller may know: hidden rows give no reason.

use std::cmp::Reverse;

use wire::row::{Status, Timestamp};

use super::entry::LlmEntry;
use super::{Registry, Target};
use crate::model::Caller;

/// Reason why no member of a target takes a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnavailableReason {
    /// No publisher has its channel open.
    PublisherAway,
    /// A publisher is draining.
    PublisherStopping,
    /// A publisher is connected, its backend is down.
    BackendDown,
    /// A publisher is paused by its owner, until this time if the pause has an end.
    Paused(Option<Timestamp>),
}

impl UnavailableReason {
    /// Orders reasons by how much they tell; of two pauses the one that ends first is greater.
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
    /// The most telling reason why no member of `target` that `caller` sees takes a task.
    pub fn unavailable_reason(&self, caller: &Caller, target: &Target) -> UnavailableReason {
        let rows = self.reachable_rows(caller, target).into_iter();
        rows.filter_map(|name| self.llms.get(name))
            .filter(|entry| {
                caller.sees(entry.llm.visibility, &entry.llm.owner) && target.allows_owner(&entry.llm)
            })
            .map(|entry| self.row_unavailable_reason(entry))
            .max_by_key(|reason| reason.rank())
            .unwrap_or(UnavailableReason::PublisherAway)
    }

    fn row_unavailable_reason(&self, entry: &LlmEntry) -> UnavailableReason {
        let session = self.session_of(entry);
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
