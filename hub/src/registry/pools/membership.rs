//! Membership: who may name a pool, which rows serve it, and how its owner admits and removes rows.
//!
//! A pool belongs to its name's owner. Under `--pools ask`, another user's row that names it is pending, and a pool of its
//! own, until the owner admits it.

use wire::texts;

use super::PoolView;
use crate::clock::Now;
use crate::model::{Caller, Llm, PoolAdmission, Role};
use crate::options::PoolPolicy;
use crate::registry::{ManageError, Registry};
use crate::store::Change;

/// Capacity of an admission if none was registered or reported: a registrar's default `maxConcurrency`.
const DEFAULT_CAPACITY: u32 = 4;

/// A pool after a change of its members, and the changes to store.
type PoolUpdate = Result<(PoolView, Vec<Change>), ManageError>;

impl Registry {
    /// Checks whether a row `name` of `caller` may name `pool` (SPEC.md section 5, pools).
    ///
    /// The text of a refusal tells no more of the pool than the caller sees.
    pub(in crate::registry) fn check_pool_name(
        &self,
        caller: &Caller,
        name: &str,
        pool: Option<&str>,
    ) -> Result<(), String> {
        let Some((pool, record)) = pool.and_then(|pool| Some((pool, self.names.record(pool)?))) else {
            return Ok(());
        };
        if record.owner == caller.user {
            return Ok(());
        }
        let refused = |text: String| match self.visible_kind(caller, pool) {
            Some(_) => Err(text),
            None => Err(texts::name_taken(pool)),
        };
        // An admission outlives changes of the pool's visibility.
        let is_admitted = self.admission(name, &caller.user, pool).is_some();
        if !record.pool && !is_admitted {
            let kind = self.visible_kind(caller, pool).unwrap_or_default();
            return refused(format!("poolName '{pool}' is the name of another user's {kind}"));
        }
        if self.policy == PoolPolicy::Owner {
            return refused(format!("pool '{pool}' belongs to another user"));
        }
        // Other users do not know of a pool without public rows.
        if !record.shared && !is_admitted {
            return refused(format!("pool '{pool}' has private LLMs only: it is its owner's"));
        }
        Ok(())
    }

    /// Checks whether `user` may have `new` more rows in `pool`. More rows of an older version stay.
    pub(in crate::registry) fn check_pool_rows(
        &self,
        user: &str,
        pool: &str,
        new: usize,
    ) -> Result<(), String> {
        let current = self.pools.get(pool).and_then(|rows| rows.per_user.get(user)).copied().unwrap_or(0);
        let most = self.limits.pool_rows;
        if new == 0 || current + new <= most {
            return Ok(());
        }
        Err(format!("poolName '{pool}': a pool has at most {most} LLMs of one user"))
    }

    /// The admission of `owner`'s row `name` into `pool`: void once either name changes hands.
    fn admission(&self, name: &str, owner: &str, pool: &str) -> Option<&PoolAdmission> {
        let record = self.names.record(name).filter(|record| record.owner == owner)?;
        let is_current = |admitted: &&PoolAdmission| {
            admitted.pool == pool && self.names.owner(pool) == Some(&admitted.pool_owner)
        };
        record.admitted.as_ref().filter(is_current)
    }

    /// Whether the row serves the pool that it names, and the bound on its capacity there.
    pub(super) fn membership(&self, llm: &Llm, pool: &str) -> (bool, Option<u32>) {
        let Some(record) = self.names.record(pool) else { return (false, None) };
        if record.owner == llm.owner {
            return (true, None);
        }
        match self.policy {
            PoolPolicy::Ask => {
                let admission = self.admission(&llm.name, &llm.owner, pool);
                (admission.is_some(), admission.and_then(|admission| admission.room))
            }
            PoolPolicy::Members => (record.shared, None),
            PoolPolicy::Owner => (false, None),
        }
    }

    /// Admits a row that names `pool` with its present capacity: for the pool's owner and admins.
    pub fn admit_member(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> PoolUpdate {
        let owner = self.managed_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        let llm = llm.ok_or_else(|| unknown_row(row))?;
        if llm.owner != owner {
            // A later, greater claim of its owner does not count.
            let capacity = self.llms.get(row).and_then(|entry| entry.registered_capacity);
            let room = Some(capacity.unwrap_or(DEFAULT_CAPACITY));
            self.names.change(row, |record| {
                record.admitted = Some(PoolAdmission { pool: pool.to_owned(), pool_owner: owner, room });
            });
        }
        Ok(self.pool_update(caller, pool, now))
    }

    /// Ends the admission of another user's row, also of an absent one: it is pending from then on.
    pub fn remove_member(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> PoolUpdate {
        let owner = self.managed_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        if llm.is_some_and(|llm| llm.owner == owner) {
            return Err(ManageError::Conflict(format!(
                "LLM {row} belongs to the owner of pool '{pool}': change its poolName"
            )));
        }
        let admitted = self.names.record(row).and_then(|record| record.admitted.as_ref());
        if llm.is_none() && admitted.is_none_or(|admitted| admitted.pool != pool) {
            return Err(unknown_row(row));
        }
        self.names.change(row, |record| record.admitted = None);
        Ok(self.pool_update(caller, pool, now))
    }

    /// The owner of a pool whose members `caller` may admit and remove.
    fn managed_pool(&self, caller: &Caller, pool: &str) -> Result<String, ManageError> {
        let record = self.names.record(pool).filter(|record| record.pool);
        match record {
            Some(record) if record.owner == caller.user || caller.role == Role::Admin => match self.policy {
                PoolPolicy::Ask => Ok(record.owner.clone()),
                PoolPolicy::Members => Err(ManageError::Conflict(
                    "any user's LLM serves the pool that it names (--pools members)".into(),
                )),
                PoolPolicy::Owner => Err(ManageError::Conflict(
                    "a pool is served by its owner's LLMs only (--pools owner)".into(),
                )),
            },
            Some(_) if self.pool_view(caller, pool).is_some() => Err(ManageError::Forbidden),
            _ => Err(ManageError::Unknown),
        }
    }

    /// Places the pool's rows after a change of an admission.
    fn pool_update(&mut self, caller: &Caller, pool: &str, now: Now) -> (PoolView, Vec<Change>) {
        self.place_all_rows(pool, now);
        let owner_id = self.names.owner(pool).cloned();
        let empty = PoolView { name: pool.into(), owner_id, members: Vec::new(), waiting: Vec::new() };
        (self.pool_view(caller, pool).unwrap_or(empty), self.names.drain_changes())
    }
}

fn unknown_row(row: &str) -> ManageError {
    ManageError::UnknownRow(row.to_owned())
}
