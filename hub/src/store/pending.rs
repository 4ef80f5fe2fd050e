//! Changes that wait at the writer, and when they may be written.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::job::Write;
use super::write_behind::{Coalescer, WriteBehind};

/// Number of changes after which no further job joins a commit: some 10 ms.
pub(super) const GROUP_CHANGES: usize = 1024;
/// Interval between the beginnings of two rounds of coalesced changes.
const COALESCE_FOR: Duration = Duration::from_secs(1);

/// What waits at the writer.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) write_behind: WriteBehind,
    pub(super) jobs_done: u64,
    pub(super) has_coalesced: bool,
    /// When the last round of coalesced changes began.
    round_began_at: Option<Instant>,
    /// Whether the round may have more changes than were written.
    pub(super) round_has_more: bool,
    is_last_round: bool,
}

impl Pending {
    /// Time until the next batch of coalesced changes may be written.
    pub(super) fn until_coalesced(&self) -> Duration {
        let began_at = self.round_began_at.filter(|_| !self.round_has_more);
        began_at.map_or(Duration::ZERO, |at| COALESCE_FOR.saturating_sub(at.elapsed()))
    }

    /// Takes a batch of coalesced changes: of the round under way if it has more, else of a new one.
    pub(super) fn take_coalesced(&mut self, coalescer: &Mutex<Coalescer>) -> Write {
        let mut coalescer = coalescer.lock();
        if !self.round_has_more {
            coalescer.begin_round();
            self.round_began_at = Some(Instant::now());
        }
        let changes = coalescer.take(self.jobs_done, GROUP_CHANGES);
        self.has_coalesced = coalescer.is_scheduled;
        self.round_has_more = changes.len() == GROUP_CHANGES;
        Write { changes, reply: oneshot::channel().0, is_write_behind: true, turn: None }
    }

    /// As [`take_coalesced`](Self::take_coalesced), when all jobs are done and one round has all changes that are left. `None` after
    /// the last batch.
    pub(super) fn take_last_coalesced(&mut self, coalescer: &Mutex<Coalescer>) -> Option<Write> {
        let begins = !std::mem::replace(&mut self.is_last_round, true);
        self.round_has_more &= !begins;
        let has_more = self.has_coalesced && (begins || self.round_has_more);
        has_more.then(|| self.take_coalesced(coalescer))
    }
}
