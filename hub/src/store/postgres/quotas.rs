//! The bytes of owners' open tasks within a transaction, so that a new task over its quota leaves out its own list alone.

use std::collections::{BTreeMap, BTreeSet};

use super::connection::{Failure, Session};
use super::transaction::List;
use crate::store::columns::StoredRow;
use crate::store::{Change, tasks};

/// Bytes of the owners' open tasks.
const OPEN_BYTES: &str = "SELECT owner, (bytes - ended)::bigint AS bytes FROM stored
    WHERE owner IN (SELECT jsonb_array_elements_text($1::text::jsonb))";

/// Bytes of the open tasks of each owner of a new task.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    of: BTreeMap<String, Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// At least as many as the owner's open tasks have.
    bytes: u64,
    /// There may be fewer: a task may have ended or been deleted.
    is_upper_bound: bool,
}

impl Quotas {
    /// Reads the bytes of the owners that have a new task in `lists`.
    pub(super) async fn of(session: &Session, lists: &[List<'_>]) -> Result<Self, Failure> {
        let changes = lists.iter().flat_map(|list| list.changes);
        let owners: BTreeSet<&str> = changes
            .filter_map(|change| match change {
                Change::NewTask { task, .. } => Some(task.owner.as_str()),
                _ => None,
            })
            .collect();
        let mut quotas = Self::default();
        if !owners.is_empty() {
            quotas.of = owners.iter().map(|owner| ((*owner).to_owned(), Open::default())).collect();
            quotas.read(session, &owners).await?;
        }
        Ok(quotas)
    }

    async fn read(&mut self, session: &Session, owners: &BTreeSet<&str>) -> Result<(), Failure> {
        for owner in owners {
            self.of.insert((*owner).to_owned(), Open::default());
        }
        let names = serde_json::to_string(owners).unwrap_or_default();
        for row in session.query(OPEN_BYTES, &[names.into()]).await? {
            let read = || Ok((row.field::<String>("owner")?, row.field::<u64>("bytes")?));
            let (owner, bytes) = read().map_err(Failure::Broken)?;
            self.of.insert(owner, Open { bytes, is_upper_bound: false });
        }
        Ok(())
    }

    /// Bytes of the owner's open tasks if `list` would exceed the quota by them. `None` if it may be applied.
    ///
    /// `is_exact` tells whether the bytes are those in the database: else they have to be [read again](Self::read_again).
    pub(super) fn excess(&self, list: &List<'_>) -> Option<Excess> {
        list.changes.iter().enumerate().find_map(|(position, change)| {
            let Change::NewTask { task, max_bytes } = change else { return None };
            let open = self.of.get(&task.owner)?;
            let is_over =
                open.bytes.saturating_add(tasks::size(task) + list.bytes_in_parts(position)) > *max_bytes;
            is_over.then(|| Excess {
                owner: task.owner.clone(),
                bytes: open.bytes,
                is_exact: !open.is_upper_bound,
            })
        })
    }

    /// Reads the bytes of `owner` again, after all earlier changes have been sent.
    pub(super) async fn read_again(&mut self, session: &Session, owner: &str) -> Result<(), Failure> {
        self.read(session, &BTreeSet::from([owner])).await
    }

    /// Counts the changes of a list that is applied.
    pub(super) fn count(&mut self, list: &List<'_>) {
        for (position, change) in list.changes.iter().enumerate() {
            match change {
                Change::NewTask { task, .. } | Change::PutTask(task) => {
                    let Some(open) = self.of.get_mut(&task.owner) else { continue };
                    if !task.state.is_terminal() {
                        open.bytes =
                            open.bytes.saturating_add(tasks::size(task) + list.bytes_in_parts(position));
                    }
                    // It may replace a task of the same id.
                    open.is_upper_bound |= matches!(change, Change::PutTask(_));
                }
                Change::DeleteTask(_) => self.of.values_mut().for_each(|open| open.is_upper_bound = true),
                _ => {}
            }
        }
    }
}

/// A quota that a list would exceed.
#[derive(Debug)]
pub(super) struct Excess {
    pub(super) owner: String,
    /// Bytes of the owner's open tasks.
    pub(super) bytes: u64,
    pub(super) is_exact: bool,
}
