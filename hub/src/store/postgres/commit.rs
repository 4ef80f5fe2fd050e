//! How the writer commits lists, and what follows from the outcome.

use super::connection::Failure;
use super::large::{Entry, queue_of_pending, record_of};
use super::transaction::{self, List};
use super::writer::Writer;
use crate::news::news;
use crate::store::job::written_bytes;
use crate::store::pending::GROUP_CHANGES;
use crate::store::writer::GROUP_BYTES;
use crate::store::{Change, StoreError};

impl Writer {
    /// Writes what is pending, then the group in one transaction, and replies to each.
    pub(super) async fn commit(&mut self, mut group: Vec<Entry>) {
        let only_asks = |entry: &Entry| entry.is_write_behind && entry.changes.is_empty();
        if self.pending.write_behind.is_empty() && !group.is_empty() && group.iter().all(only_asks) {
            // They ask whether all earlier changes are written: an unchanged registration needs no database.
            return group.iter_mut().for_each(|entry| entry.answer(Ok(())));
        }
        let results = match self.write_pending().await {
            Ok(true) if group.is_empty() => Vec::new(),
            Ok(_) => {
                let lists: Vec<_> = group.iter().map(List::from).collect();
                self.transact(&lists).await
            }
            Err(error) => vec![Err(Failure::Broken(error)); group.len().max(1)],
        };
        let broken = results.iter().find_map(|result| match result {
            Err(Failure::Broken(error)) => Some(error.clone()),
            _ => None,
        });
        self.state.probes.lock().answer(&broken.clone().map_or(Ok(()), Err));
        if let Some(error) = broken {
            news!(error, "failed writes", "the store", "{error}");
        }
        for (entry, result) in group.into_iter().zip(results) {
            self.settle(entry, result);
        }
    }

    /// Does what follows from the outcome of a list, and replies to it.
    fn settle(&mut self, mut entry: Entry, result: Result<(), Failure>) {
        match &result {
            Ok(()) => self.cleanup.expect(&entry.changes),
            Err(Failure::Refused(error)) => log_refused(error),
            Err(Failure::Conflict(_) | Failure::Broken(_)) => {}
        }
        if let Some(queue) = entry.queue.take() {
            // A queue waits for each of its lists.
            return drop(queue.send((entry, result)));
        }
        let is_pending = entry.is_write_behind && matches!(result, Err(Failure::Broken(_)));
        if is_pending {
            let tasks = entry.changes.iter().filter_map(record_of);
            self.large.unwritten.lock().extend(tasks.map(str::to_owned));
        }
        entry.answer(result.map_err(Failure::into_error));
        if is_pending {
            match queue_of_pending(&entry.changes) {
                Some(owner) => self.large.push(owner, entry),
                None => self.pending.write_behind.add(entry.changes),
            }
        }
    }

    /// Writes what is pending, in transactions of at most 8 MiB or one change each. Each change is pending until its transaction is
    /// committed. Returns whether there was one.
    ///
    /// New lists come afterwards: a change may need that an earlier one is written, such as one that frees a name.
    async fn write_pending(&mut self) -> Result<bool, StoreError> {
        let mut changes = std::mem::take(&mut self.pending.write_behind).into_changes();
        let had_pending = !changes.is_empty();
        let mut broken = None;
        while broken.is_none() && !changes.is_empty() {
            let rest = changes.split_off(batch(&changes));
            let lists: Vec<_> = changes.chunks(1).map(List::from).collect();
            let results = self.transact(&lists).await;
            let mut written = Vec::new();
            for (change, result) in changes.into_iter().zip(results) {
                match result {
                    Ok(()) => written.push(change),
                    Err(Failure::Refused(error)) => {
                        log_refused(&error);
                        written.push(change);
                    }
                    Err(Failure::Conflict(error) | Failure::Broken(error)) => {
                        self.pending.write_behind.add(vec![change]);
                        broken = Some(error);
                    }
                }
            }
            self.cleanup.expect(&written);
            let mut unwritten = self.large.unwritten.lock();
            for task in written.iter().filter_map(record_of) {
                unwritten.remove(task);
            }
            changes = rest;
        }
        self.pending.write_behind.add(changes);
        broken.map_or(Ok(had_pending), Err)
    }

    /// Commits `lists` together. If the database refuses one of them, their halves are committed apart, so that all others are
    /// written.
    async fn transact(&mut self, lists: &[List<'_>]) -> Vec<Result<(), Failure>> {
        let mut results = Vec::with_capacity(lists.len());
        let mut waiting = vec![lists];
        while let Some(part) = waiting.pop() {
            let outcome = match results.last() {
                Some(Err(Failure::Broken(error))) => Err(Failure::Broken(StoreError::clone(error))),
                _ => transaction::run(&mut self.connection, &self.lease, part).await,
            };
            match outcome {
                Ok(of_part) => results.extend(of_part.into_iter().map(|of| of.map_err(Failure::Refused))),
                Err(Failure::Refused(_)) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.extend([second, first]);
                }
                Err(failure) => results.extend(vec![Err(failure); part.len().max(1)]),
            }
        }
        results
    }
}

/// Number of the first changes that are written together.
fn batch(changes: &[Change]) -> usize {
    let mut bytes = 0;
    let fit = changes.iter().take(GROUP_CHANGES).take_while(|change| {
        bytes += written_bytes(change);
        bytes <= GROUP_BYTES
    });
    fit.count().max(1)
}

/// Logs that a list was refused, unless its caller learns of it as of a quota.
fn log_refused(error: &StoreError) {
    if !matches!(error, StoreError::OverQuota(_)) {
        news!(error, "changes not written", "the store", "a change was not written: {error}");
    }
}
