//! Cleanup between writes: deletes parts of deleted texts, ended tasks over their owner's quota, records past their
//! retention, and vacuums the file. Each step is a small transaction of its own, so that writes wait for one step at most.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::job::Reply;
use super::{Change, RetentionLimits, StoreError, parts, tasks, usage, vacuum};
use crate::model::UserId;

/// Maximum number of audit records, or of sums, deleted in one step.
const STEP: i64 = 1000;

/// The cleanup that is left to do.
pub(super) struct Cleanup {
    /// Task quotas to enforce, in bytes, by owner.
    quotas: BTreeMap<UserId, u64>,
    /// The owner of the last quota step; the next step takes the owner after it.
    last_owner: UserId,
    /// The retention to apply, and the replies to send when it is.
    expiry: Option<(RetentionLimits, Vec<Reply<()>>)>,
    /// Number of audit records of each user; counted when first needed.
    audit_rows: Option<HashMap<UserId, u64>>,
    vacuums: bool,
    /// There may be parts of deleted texts. `true` at the start: the last process may have left some.
    has_deleted_parts: bool,
    /// The kind of the last step.
    turn: Kind,
    /// A step failed: no vacuum begins until the next `expire`.
    is_paused: bool,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self {
            quotas: BTreeMap::new(),
            last_owner: UserId::default(),
            expiry: None,
            audit_rows: None,
            vacuums: false,
            has_deleted_parts: true,
            turn: Kind::Vacuum,
            is_paused: false,
        }
    }
}

/// The kinds of steps. They take turns, so that no kind starves while a busy store allows one step per commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    DeletedParts,
    Quotas,
    Expiry,
    Vacuum,
}

impl Kind {
    fn next(self) -> Self {
        match self {
            Self::DeletedParts => Self::Quotas,
            Self::Quotas => Self::Expiry,
            Self::Expiry => Self::Vacuum,
            Self::Vacuum => Self::DeletedParts,
        }
    }
}

impl Cleanup {
    pub(super) fn is_idle(&self) -> bool {
        self.quotas.is_empty() && self.expiry.is_none() && !self.vacuums && !self.has_deleted_parts
    }

    /// Schedules the cleanup that `changes` may make necessary. Called before they are written.
    pub(super) fn expect(&mut self, changes: &[Change]) {
        for change in changes {
            let (owner, max_bytes) = match change {
                Change::NewTask { task, max_bytes } => (&task.owner, *max_bytes),
                Change::EnforceTaskQuota { owner, max_bytes } => (owner, *max_bytes),
                Change::PutTask(_) | Change::DeleteTask(_) => {
                    self.has_deleted_parts = true;
                    continue;
                }
                _ => continue,
            };
            self.quotas.insert(owner.clone(), max_bytes);
        }
    }

    /// Counts the audit records among `changes`, which were written.
    pub(super) fn count_audit(&mut self, changes: &[Change]) {
        let Some(audit_rows) = &mut self.audit_rows else { return };
        for change in changes {
            if let Change::Audit(record) = change {
                *audit_rows.entry(record.user.clone()).or_default() += 1;
            }
        }
    }

    /// Schedules the deletion of what `retention` does not keep. A newer retention replaces one under way.
    pub(super) fn expire(&mut self, retention: RetentionLimits, reply: Reply<()>) {
        let mut replies = self.expiry.take().map(|(_, replies)| replies).unwrap_or_default();
        replies.push(reply);
        self.expiry = Some((retention, replies));
        self.has_deleted_parts = true;
        self.is_paused = false;
    }

    /// Schedules a vacuum if one is due. Returns whether one is scheduled.
    pub(super) fn check_vacuum(&mut self, conn: &Connection) -> bool {
        self.vacuums = !self.is_paused && (self.vacuums || vacuum::is_due(conn).unwrap_or(false));
        self.vacuums
    }

    /// Makes the next step delete parts, if there are any.
    pub(super) fn prefer_parts(&mut self) {
        self.turn = Kind::Vacuum;
    }

    /// Runs one step, without waiting for a locked file, and restores `busy_timeout`. After an error everything scheduled is
    /// dropped: the disk may be full, and writes need it more.
    pub(super) fn step(&mut self, conn: &mut Connection, busy_timeout: Duration) {
        let done = conn.busy_timeout(Duration::ZERO).and_then(|()| self.try_step(conn));
        let _ = conn.busy_timeout(busy_timeout);
        if let Err(error) = done {
            log::debug!("store: no cleanup: {error}");
            self.quotas.clear();
            self.vacuums = false;
            self.has_deleted_parts = false;
            self.is_paused = true;
            self.audit_rows = None;
            self.end_expiry(&Err(error.into()));
        }
    }

    /// Runs one step of the next kind that has something to do.
    fn try_step(&mut self, conn: &mut Connection) -> rusqlite::Result<()> {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = self.turn;
        loop {
            self.turn = self.turn.next();
            let has_worked = match self.turn {
                Kind::DeletedParts => self.delete_parts(&tx)?,
                Kind::Quotas => self.enforce_quotas(&tx)?,
                Kind::Expiry => self.expire_some(&tx)?,
                Kind::Vacuum => self.vacuum(&tx)?,
            };
            if has_worked || self.turn == last {
                return tx.commit();
            }
        }
    }

    fn delete_parts(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        self.has_deleted_parts = self.has_deleted_parts && parts::delete_some(conn)?;
        Ok(self.has_deleted_parts)
    }

    /// Deletes ended tasks of the next owner over quota. Owners take turns.
    fn enforce_quotas(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        loop {
            let after_last = (Excluded(&self.last_owner), Unbounded);
            let next =
                self.quotas.range::<UserId, _>(after_last).next().or_else(|| self.quotas.first_key_value());
            let Some((owner, max_bytes)) = next.map(|(owner, max_bytes)| (owner.clone(), *max_bytes)) else {
                return Ok(false);
            };
            if tasks::enforce_quota(conn, &owner, max_bytes)? {
                self.last_owner = owner;
                self.has_deleted_parts = true;
                return Ok(true);
            }
            self.quotas.remove(&owner);
        }
    }

    fn expire_some(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        let Some((retention, _)) = &self.expiry else { return Ok(false) };
        let retention = *retention;
        let has_deleted = tasks::expire(conn, retention.tasks_since)?
            || self.expire_audit(conn, retention)?
            || self.bound_audit(conn, retention.audit_rows)?
            || usage::expire(conn, retention.usage_since, STEP)?;
        self.vacuums |= vacuum::is_due(conn)?;
        if has_deleted {
            self.has_deleted_parts = true;
        } else {
            // Earlier steps have committed all deletions.
            self.end_expiry(&Ok(()));
        }
        Ok(has_deleted)
    }

    fn vacuum(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        self.vacuums = self.vacuums && vacuum::step(conn)?;
        Ok(self.vacuums)
    }

    fn end_expiry(&mut self, result: &Result<(), StoreError>) {
        for reply in self.expiry.take().map(|(_, replies)| replies).unwrap_or_default() {
            let _ = reply.send(result.clone());
        }
    }

    fn expire_audit(&mut self, conn: &Connection, retention: RetentionLimits) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM audit WHERE seq IN
            (SELECT seq FROM audit WHERE created_at < ?1 ORDER BY created_at LIMIT ?2) RETURNING user";
        self.delete_audit(conn, sql, (retention.audit_since.0, STEP))
    }

    /// With more than `max` records, deletes the oldest of the user with the most: no user displaces another's records.
    fn bound_audit(&mut self, conn: &Connection, max: u64) -> rusqlite::Result<bool> {
        let audit_rows = match &mut self.audit_rows {
            Some(audit_rows) => audit_rows,
            none => none.insert(count_audit_rows(conn)?),
        };
        let excess = audit_rows.values().sum::<u64>().saturating_sub(max);
        let Some((user, _)) = audit_rows.iter().max_by_key(|(_, rows)| **rows).filter(|_| excess > 0) else {
            return Ok(false);
        };
        let sql = "DELETE FROM audit WHERE seq IN
            (SELECT seq FROM audit WHERE user = ?1 ORDER BY seq LIMIT ?2) RETURNING user";
        let limit = i64::try_from(excess).unwrap_or(STEP).min(STEP);
        let user = user.clone();
        self.delete_audit(conn, sql, (user, limit))
    }

    fn delete_audit(
        &mut self,
        conn: &Connection,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> rusqlite::Result<bool> {
        let mut statement = conn.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut any = false;
        while let Some(row) = rows.next()? {
            any = true;
            let user: String = row.get(0)?;
            if let Some(audit_rows) = &mut self.audit_rows
                && let Some(rows) = audit_rows.get_mut(&user)
            {
                *rows = rows.saturating_sub(1);
                if *rows == 0 {
                    audit_rows.remove(&user);
                }
            }
        }
        Ok(any)
    }
}

fn count_audit_rows(conn: &Connection) -> rusqlite::Result<HashMap<UserId, u64>> {
    let mut statement = conn.prepare("SELECT user, count(*) FROM audit GROUP BY user")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?;
    rows.collect()
}
