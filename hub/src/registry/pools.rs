//! Pools: rows with the same effective key answer for one another (SPEC.md section 5).
//!
//! A pool is its name's owner's. Another user's row may name it, and serves it once it was let in: until then it waits,
//! and is a pool of its own.

use std::collections::BTreeSet;

use serde::Serialize;
use wire::row::LlmRow;
use wire::texts;

use super::feed::Thing;
use super::{CurateError, LlmEntry, Registry};
use crate::clock::Now;
use crate::model::{Caller, Llm, NameOf, Role};
use crate::options::PoolPolicy;
use crate::store::Change;

/// The rows that name a pool as theirs, by name.
#[derive(Default)]
pub(super) struct PoolRows {
    pub(super) members: BTreeSet<String>,
    /// Other users' rows that were not let in.
    pub(super) waiting: BTreeSet<String>,
}

/// A pool as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// Whose it is; `null` where the caller sees nothing that serves it.
    pub owner_id: Option<String>,
    /// The names of the rows that serve it, as far as the caller sees them.
    pub members: Vec<String>,
    /// Those that wait to be let in: all that its owner and admins see, of others their own.
    pub waiting: Vec<Waiting>,
}

/// A row that waits to be let into a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub owner_id: String,
}

impl Registry {
    /// Whether a row `name` of `caller`'s may name `pool` as its pool.
    pub(super) fn may_join(&self, caller: &Caller, name: &str, pool: Option<&str>) -> Result<(), String> {
        let Some((pool, record)) = pool.and_then(|pool| Some((pool, self.names.record(pool)?))) else {
            return Ok(());
        };
        if record.owner == caller.user {
            return Ok(());
        }
        let refused = |text: String| match self.seen_as(caller, pool) {
            Some(_) => Err(text),
            None => Err(texts::name_taken(pool)),
        };
        if !record.pool {
            let what = self.seen_as(caller, pool).unwrap_or_default();
            return refused(format!("poolName '{pool}' is the name of another user's {what}"));
        }
        if self.policy == PoolPolicy::Owner {
            return refused(format!("pool '{pool}' belongs to another user"));
        }
        // A pool that nobody else knows of is nobody else's to join; one who was let in before knows of it.
        if !record.shared && !self.was_admitted(name, &caller.user, pool) {
            return refused(format!("pool '{pool}' has private LLMs only: it is its owner's"));
        }
        Ok(())
    }

    /// Whether the row `name` of `owner`'s was let into `pool`, by who has the pool now.
    fn was_admitted(&self, name: &str, owner: &str, pool: &str) -> bool {
        let record = self.names.record(name).filter(|record| record.owner == owner);
        record
            .and_then(|record| record.admitted.as_ref())
            .is_some_and(|admitted| admitted.name == pool && self.names.owner(pool) == Some(&admitted.owner))
    }

    /// Whether the row serves the pool that it names.
    fn serves_pool(&self, llm: &Llm, pool: &str) -> bool {
        self.names.owner(pool).is_some_and(|owner| {
            *owner == llm.owner
                || match self.policy {
                    PoolPolicy::Ask => self.was_admitted(&llm.name, &llm.owner, pool),
                    PoolPolicy::Members => true,
                    PoolPolicy::Owner => false,
                }
        })
    }

    /// Puts the row among the members of `pool`, or among those that wait.
    pub(super) fn place(&mut self, pool: &str, row: &str) {
        let Some(entry) = self.llms.get(row) else { return };
        let serves = self.serves_pool(&entry.llm, pool);
        let Some(entry) = self.llms.get_mut(row) else { return };
        if std::mem::replace(&mut entry.member, serves) != serves {
            self.feed.change(&mut entry.version, || Thing::Llm(row.into()));
        }
        let rows = self.pools.entry(pool.to_owned()).or_default();
        let (to, from) = if serves {
            (&mut rows.members, &mut rows.waiting)
        } else {
            (&mut rows.waiting, &mut rows.members)
        };
        from.remove(row);
        to.insert(row.to_owned());
    }

    /// Places all rows that name `pool` anew: it has changed hands, or somebody was let in.
    pub(super) fn place_all(&mut self, pool: &str, now: Now) {
        let Some(rows) = self.pools.get(pool) else { return };
        let rows: Vec<String> = rows.members.iter().chain(&rows.waiting).cloned().collect();
        for row in rows {
            self.place(pool, &row);
        }
        self.settle_name(pool, now);
    }

    pub(super) fn leave_pool(&mut self, pool: &str, row: &str) {
        if let Some(rows) = self.pools.get_mut(pool) {
            rows.members.remove(row);
            rows.waiting.remove(row);
            if rows.members.is_empty() && rows.waiting.is_empty() {
                self.pools.remove(pool);
            }
        }
    }

    /// The rows that serve `pool` because they name it.
    pub(super) fn pool_rows(&self, pool: &str) -> impl Iterator<Item = &Llm> {
        let rows = self.pools.get(pool).map(|rows| &rows.members);
        rows.into_iter().flatten().filter_map(|name| Some(&self.llms.get(name)?.llm))
    }

    /// All rows with the effective key `key`.
    pub(super) fn keyed(&self, key: &str) -> impl Iterator<Item = &Llm> {
        let own = self.llms.get(key).filter(|entry| !entry.member).map(|entry| &entry.llm);
        own.into_iter().chain(self.pool_rows(key))
    }

    /// The pool that the row serves, if it serves one.
    pub fn pool_of(&self, llm: &Llm) -> Option<&str> {
        self.llms.get(&llm.name).filter(|entry| entry.member)?.llm.pool_name.as_deref()
    }

    /// For whom the row waits: who has the pool that it names and does not serve. For its owner, the pool's and admins.
    pub(super) fn waits_for(&self, caller: &Caller, entry: &LlmEntry) -> Option<&str> {
        let pool = entry.llm.pool_name.as_ref().filter(|_| !entry.member)?;
        let record = self.names.record(pool)?;
        let concerns = [&entry.llm.owner, &record.owner].contains(&&caller.user);
        (concerns || caller.role == Role::Admin).then_some(record.owner.as_str())
    }

    /// What the owner of rows is told of those that wait.
    pub(super) fn waiting(&self, caller: &Caller, rows: &[Llm]) -> Vec<String> {
        let text = |llm: &Llm| {
            let entry = self.llms.get(&llm.name)?;
            Some(texts::waits_for(&llm.name, llm.pool_name.as_deref()?, self.waits_for(caller, entry)?))
        };
        rows.iter().filter_map(text).collect()
    }

    /// The row with its pool as `caller` reads it: one that it waits for is told to those alone whom it concerns.
    pub(super) fn with_pool(&self, caller: &Caller, llm: &Llm, row: LlmRow) -> LlmRow {
        match self.llms.get(&llm.name).filter(|entry| !entry.member) {
            Some(entry) => {
                let waits_for = self.waits_for(caller, entry).map(str::to_owned);
                let told = waits_for.is_some() || llm.owner == caller.user;
                LlmRow { waits_for, pool_name: row.pool_name.filter(|_| told), ..row }
            }
            None => row,
        }
    }

    /// The pools of which `caller` sees something, by name.
    pub fn pools(&self, caller: &Caller) -> Vec<PoolView> {
        let mut views: Vec<_> = self.pools.keys().filter_map(|pool| self.pool_view(caller, pool)).collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// One of them.
    pub fn pool_view(&self, caller: &Caller, pool: &str) -> Option<PoolView> {
        let rows = self.pools.get(pool)?;
        let owner = self.names.owner(pool);
        let rules = caller.role == Role::Admin || owner == Some(&caller.user);
        let members: Vec<String> = self
            .pool_rows(pool)
            .filter(|llm| caller.sees(llm.visibility, &llm.owner))
            .map(|llm| llm.name.clone())
            .collect();
        let waiting: Vec<Waiting> = rows
            .waiting
            .iter()
            .filter_map(|name| self.llm(caller, name))
            .filter(|llm| rules || llm.owner == caller.user)
            .map(|llm| Waiting { name: llm.name.clone(), owner_id: llm.owner.clone() })
            .collect();
        if members.is_empty() && waiting.is_empty() {
            return None;
        }
        let owner_id = owner.filter(|_| rules || !members.is_empty()).cloned();
        Some(PoolView { name: pool.to_owned(), owner_id, members, waiting })
    }

    /// Lets a row that names `pool` serve it: the pool's owner does so, or an admin.
    pub fn admit(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> Admitted {
        let owner = self.ruled_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        let llm = llm.ok_or_else(|| unknown_row(row))?;
        if llm.owner != owner {
            self.names.change(row, |record| {
                record.admitted = Some(NameOf { name: pool.to_owned(), owner });
            });
        }
        Ok(self.placed(caller, pool, now))
    }

    /// Takes another user's row out of `pool`, also one that is not there now: it waits from then on.
    pub fn dismiss(&mut self, caller: &Caller, pool: &str, row: &str, now: Now) -> Admitted {
        let owner = self.ruled_pool(caller, pool)?;
        let llm = self.llm(caller, row).filter(|llm| llm.pool_name.as_deref() == Some(pool));
        if llm.is_some_and(|llm| llm.owner == owner) {
            return Err(CurateError::Conflict(format!(
                "LLM {row} belongs to the owner of pool '{pool}': change its poolName"
            )));
        }
        let admitted = self.names.record(row).and_then(|record| record.admitted.as_ref());
        if llm.is_none() && admitted.is_none_or(|admitted| admitted.name != pool) {
            return Err(unknown_row(row));
        }
        self.names.change(row, |record| record.admitted = None);
        Ok(self.placed(caller, pool, now))
    }

    /// The owner of a pool that `caller` may let rows into.
    fn ruled_pool(&self, caller: &Caller, pool: &str) -> Result<String, CurateError> {
        let record = self.names.record(pool).filter(|record| record.pool);
        match record {
            Some(record) if record.owner == caller.user || caller.role == Role::Admin => match self.policy {
                PoolPolicy::Ask => Ok(record.owner.clone()),
                PoolPolicy::Members => Err(CurateError::Conflict(
                    "the hub lets every member's LLMs into a pool (--pools members)".into(),
                )),
                PoolPolicy::Owner => Err(CurateError::Conflict(
                    "the hub lets nobody's LLMs into another user's pool (--pools owner)".into(),
                )),
            },
            Some(_) if self.pool_view(caller, pool).is_some() => Err(CurateError::Forbidden),
            _ => Err(CurateError::Unknown),
        }
    }

    fn placed(&mut self, caller: &Caller, pool: &str, now: Now) -> (PoolView, Vec<Change>) {
        self.place_all(pool, now);
        let owner_id = self.names.owner(pool).cloned();
        let nothing = PoolView { name: pool.into(), owner_id, members: Vec::new(), waiting: Vec::new() };
        (self.pool_view(caller, pool).unwrap_or(nothing), self.names.take_changes())
    }
}

/// What came of letting a row into a pool, or of taking it out.
type Admitted = Result<(PoolView, Vec<Change>), CurateError>;

fn unknown_row(row: &str) -> CurateError {
    CurateError::UnknownRow(row.to_owned())
}

impl LlmEntry {
    /// The key by which the row is pooled.
    pub(super) fn key(&self) -> &str {
        self.llm.pool_name.as_deref().filter(|_| self.member).unwrap_or(&self.llm.name)
    }
}
