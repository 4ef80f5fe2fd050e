//! A list of changes on its way to a commit.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::store::job::{Reply, Write};
use crate::store::postgres::connection::Failure;
use crate::store::postgres::parts::TaskTexts;
use crate::store::{Change, StoreError};

/// The texts of a list's tasks that are in parts, by the position of their change.
pub(in crate::store::postgres) type Texts = BTreeMap<usize, TaskTexts>;

/// A list to commit.
pub(in crate::store::postgres) struct Entry {
    pub(in crate::store::postgres) changes: Vec<Change>,
    pub(in crate::store::postgres) texts: Texts,
    /// `None` once it is used: the first error is told, the change is tried again.
    pub(in crate::store::postgres) reply: Option<Reply<()>>,
    pub(in crate::store::postgres) is_write_behind: bool,
    pub(in crate::store::postgres) turn: Option<i64>,
    /// Where the list goes after an attempt, with its outcome. `None` for one without large texts.
    pub(in crate::store::postgres) queue: Option<oneshot::Sender<(Entry, Result<(), Failure>)>>,
}

impl From<Write> for Entry {
    fn from(write: Write) -> Self {
        let Write { changes, reply, is_write_behind, turn } = write;
        Self { changes, texts: Texts::new(), reply: Some(reply), is_write_behind, turn, queue: None }
    }
}

impl Entry {
    /// Answers the caller, who may have left.
    pub(in crate::store::postgres) fn answer(&mut self, result: Result<(), StoreError>) {
        if let Some(reply) = self.reply.take() {
            drop(reply.send(result));
        }
    }
}
