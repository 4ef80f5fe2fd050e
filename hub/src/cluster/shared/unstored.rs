//! A table of LLMs that hubs share in a test without a database.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::store::Merge;

/// The changes of a table, in their order.
pub type Table = Arc<Mutex<Vec<Merge>>>;

/// A hub that has read a part of the table.
pub struct Reader {
    table: Table,
    read: AtomicUsize,
}

impl Reader {
    pub fn new(table: &Table) -> Self {
        Self { table: table.clone(), read: AtomicUsize::new(0) }
    }

    /// What it has not read yet. Sessions come first, each as it is now, as in the feed.
    pub fn unread(&self) -> Vec<Merge> {
        let table = self.table.lock();
        let unread = &table[self.read.swap(table.len(), Ordering::Relaxed)..];
        let (mut records, mut sessions) = (Vec::new(), BTreeMap::new());
        for record in unread {
            match record {
                Merge::Session(id, session) => drop(sessions.insert(id, session)),
                other => records.push(other.clone()),
            }
        }
        let sessions = sessions.into_iter().map(|(id, session)| Merge::Session(id.clone(), session.clone()));
        sessions.chain(records).collect()
    }

    /// Adds changes of its own, when it has read all.
    pub fn change(&self, records: impl IntoIterator<Item = Merge>) {
        let mut table = self.table.lock();
        table.extend(records);
        self.read.store(table.len(), Ordering::Relaxed);
    }
}
