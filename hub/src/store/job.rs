//! Jobs of the writer thread, and the transaction that writes a group of them: a savepoint for each list of changes.

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::apply::apply as apply_change;
use super::reader::ReadFn;
use super::{Change, RetentionLimits, StoreError, tasks};
use crate::model::{SessionRecord, Token};
use crate::news::news;

/// Bytes that a deletion counts for when the size of the row cannot be read.
const UNKNOWN_SIZE: u64 = 1 << 20;

/// Bytes that a change writes beside its texts: fixed columns and index entries.
const CHANGE_BYTES: u64 = 256;

/// Takes the result of a job. Its receiver may have been dropped.
pub(super) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A job of a writer.
pub(super) enum Job<W> {
    Write(Write),
    Expire(RetentionLimits, Reply<()>),
    /// Writes what is in the [`Coalescer`](super::write_behind::Coalescer).
    WriteCoalesced,
    /// Answers the [`Probes`], if no commit has answered them yet.
    Probe,
    /// Runs after the commit of all earlier jobs.
    Work(W),
}

/// Work on the `SQLite` file.
pub(super) enum Work {
    /// Runs on the reader thread.
    Read(ReadFn),
    /// Runs on the writer's connection.
    Run(Box<dyn FnOnce(&mut Connection) + Send>),
}

/// Calls of [`Store::probe`](super::Store::probe) that wait for a commit.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) waiting: Vec<Reply<()>>,
    /// A [`Job::Probe`] is in the queue.
    pub(super) is_scheduled: bool,
    /// Number of waiting calls after which those whose callers left are removed.
    clean_at: usize,
}

impl Probes {
    /// Adds a call. Those whose callers left are removed when the number has doubled: each call costs a constant time, and
    /// at most twice as many wait as have callers, but for the first 64.
    pub(super) fn add(&mut self, reply: Reply<()>) {
        if self.waiting.len() >= self.clean_at {
            self.waiting.retain(|waiting| !waiting.is_closed());
            self.clean_at = 64.max(2 * self.waiting.len());
        }
        self.waiting.push(reply);
    }

    /// Takes note that [`Job::Probe`] left the queue. Returns whether a call still waits.
    pub(super) fn take_scheduled(&mut self) -> bool {
        self.is_scheduled = false;
        !self.waiting.is_empty()
    }

    /// Answers the calls that wait.
    pub(super) fn answer(&mut self, result: &Result<(), StoreError>) {
        for waiting in self.waiting.drain(..) {
            drop(waiting.send(result.clone()));
        }
    }
}

/// A list of changes, applied whole or not at all.
pub(super) struct Write {
    pub(super) changes: Vec<Change>,
    pub(super) reply: Reply<()>,
    /// The registry has applied the changes already: they are never refused, and retried after an error.
    pub(super) is_write_behind: bool,
    /// The number of the turn in which a hub of several changes the table of LLMs: without the turn nothing is written.
    pub(super) turn: Option<i64>,
}

impl<W> Job<W> {
    pub(super) fn changes(&self) -> &[Change] {
        if let Self::Write(write) = self { &write.changes } else { &[] }
    }

    pub(super) fn is_write_behind(&self) -> bool {
        matches!(self, Self::Write(Write { is_write_behind: true, .. }))
    }
}

impl Job<Work> {
    /// Bytes that the job writes, or overwrites because of `secure_delete`. Texts in parts are deleted later, by
    /// [`Cleanup`](super::cleanup::Cleanup), and are not counted.
    pub(super) fn weight(&self, conn: &Connection) -> u64 {
        let overwritten = |change: &Change| match change {
            Change::PutTask(task) => deleted(conn, &task.id),
            Change::DeleteTask(id) => deleted(conn, id),
            _ => 0,
        };
        self.changes()
            .iter()
            .map(|change| written_bytes(change).saturating_add(overwritten(change)))
            .fold(0, u64::saturating_add)
    }
}

fn deleted(conn: &Connection, task: &str) -> u64 {
    tasks::text_bytes_in_row(conn, task).unwrap_or(UNKNOWN_SIZE)
}

/// Bytes that a change writes.
pub(super) fn written_bytes(change: &Change) -> u64 {
    let texts = match change {
        Change::PutTask(task) | Change::NewTask { task, .. } => tasks::size(task),
        Change::PutLlm(llm) => llm.bytes() as u64,
        Change::PutAgent(agent) => agent.bytes() as u64,
        Change::PutName(record) => record.bytes() as u64,
        Change::PutAlias(alias) => alias.bytes() as u64,
        Change::Audit(record) => record.bytes() as u64,
        Change::AddUsage { sum, .. } => sum.bytes() as u64,
        Change::PutSession(SessionRecord { id, owner, .. })
        | Change::PutToken(Token { id, user: owner, .. }) => (id.len() + owner.len()) as u64,
        Change::PutLimits(record) => record.bytes() as u64,
        Change::DeleteLlm(_)
        | Change::DeleteAgent(_)
        | Change::DeleteSession(_)
        | Change::DeleteName(_)
        | Change::DeleteAlias { .. }
        | Change::DeleteLimits(_)
        | Change::ClaimTask { .. }
        | Change::UnclaimTask(_)
        | Change::DeleteTask(_)
        | Change::EnforceTaskQuota { .. } => 0,
    };
    texts.saturating_add(CHANGE_BYTES)
}

/// Writes `write_behind`, then `group`, and commits. Returns the result of each list of `group`; an error means that nothing
/// was written.
pub(super) fn write(
    conn: &mut Connection,
    write_behind: &[Change],
    group: &[Write],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    // Rolled back when dropped.
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for change in write_behind {
        // A violated constraint is logged and not retried: it would fail again.
        let _ = apply(&mut tx, std::slice::from_ref(change))?;
    }
    let results = group.iter().map(|write| apply(&mut tx, &write.changes)).collect::<Result<_, _>>()?;
    reach("before commit");
    tx.commit()?;
    reach("after commit");
    Ok(results)
}

/// Applies one list, whole or not at all. The inner error concerns this list only; the outer one fails the transaction.
fn apply(tx: &mut Transaction<'_>, changes: &[Change]) -> Result<Result<(), StoreError>, StoreError> {
    let savepoint = tx.savepoint()?;
    for change in changes {
        if let Change::NewTask { task, max_bytes } = change {
            let stored = tasks::stored(&savepoint, &task.owner)?;
            let open = stored.all.saturating_sub(stored.ended);
            if open.saturating_add(tasks::size(task)) > *max_bytes {
                return Ok(Err(StoreError::OverQuota(open)));
            }
        }
    }
    match changes.iter().try_for_each(|change| apply_change(&savepoint, change)) {
        Ok(()) => {
            savepoint.commit()?;
            Ok(Ok(()))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            drop(savepoint);
            let error = StoreError::from(error);
            news!(error, "changes not written", "the store", "a change was not written: {error}");
            Ok(Err(error))
        }
        // A full disk, for example.
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(test))]
const fn reach(_: &str) {}

/// Kills the process at the point named in [`DIE_AT`], after passing it [`DIE_AFTER`] times.
#[cfg(test)]
fn reach(point: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    static REACHED: AtomicUsize = AtomicUsize::new(0);

    if std::env::var(DIE_AT).is_ok_and(|name| name == point) {
        let times: usize = std::env::var(DIE_AFTER).unwrap().parse().unwrap();
        if REACHED.fetch_add(1, Ordering::Relaxed) == times {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
}

/// Environment variable: the point at which to die.
#[cfg(test)]
pub(super) const DIE_AT: &str = "VIRTUAL_LLM_TEST_DIE_AT";
/// Environment variable: the number of times that the point is survived.
#[cfg(test)]
pub(super) const DIE_AFTER: &str = "VIRTUAL_LLM_TEST_DIE_AFTER";

#[cfg(test)]
mod tests {
    use super::*;

    /// A27: calls that were given up are removed, but not looked at by every further call.
    #[test]
    fn given_up_probes_are_removed_at_each_doubling() {
        let mut probes = Probes::default();
        let mut cleaned = 0;
        for _ in 0..10_000 {
            let before = probes.waiting.len();
            probes.add(oneshot::channel().0);
            cleaned += usize::from(probes.waiting.len() <= before);
            assert!(probes.waiting.len() <= 64);
        }
        assert!(cleaned <= 10_000 / 64, "{cleaned}");
        let held: Vec<_> = (0..10_000).map(|_| oneshot::channel()).collect();
        let mut receivers = Vec::new();
        let mut looks = 0;
        for (reply, receiver) in held {
            looks += usize::from(probes.waiting.len() >= probes.clean_at);
            probes.add(reply);
            receivers.push(receiver);
        }
        assert!(looks <= 9, "{looks}");
    }
}
