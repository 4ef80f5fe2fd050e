//! What is put in order beside the writes: what is kept no longer, or has no room, is deleted, and the file shrinks. All of
//! it in small steps, each a transaction of its own, between which whoever waits for the store has a turn.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::sqlite::{Reply, failed};
use super::{Change, Kept, StoreError, shrink, tasks};
use crate::model::UserId;

/// Audit records that are deleted at once.
const STEP: i64 = 1000;

/// What is to be done.
pub(super) struct Tidy {
    /// Whose tasks may take more than they may, and how much that is.
    owners: BTreeMap<UserId, u64>,
    /// Whose were deleted last.
    owner: UserId,
    /// What is kept no longer, and who waits for the end of that.
    expiry: Option<(Kept, Vec<Reply<()>>)>,
    /// How many audit records each user has; counted when that is first needed.
    audited: Option<HashMap<UserId, u64>>,
    shrinks: bool,
    /// There may be something that nothing leads to any more: after a start what the last one left.
    erases: bool,
    /// What had the last step.
    turn: Work,
    /// It could not be done: until something is asked for, nothing is tried again.
    waits: bool,
}

impl Default for Tidy {
    fn default() -> Self {
        Self {
            owners: BTreeMap::new(),
            owner: UserId::default(),
            expiry: None,
            audited: None,
            shrinks: false,
            erases: true,
            turn: Work::Shrink,
            waits: false,
        }
    }
}

/// The kinds of work, which have steps in turn: as long as others write there is one step after each commit, and none of
/// them has to wait until another has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Erase,
    MakeRoom,
    Expire,
    Shrink,
}

impl Work {
    fn next(self) -> Self {
        match self {
            Self::Erase => Self::MakeRoom,
            Self::MakeRoom => Self::Expire,
            Self::Expire => Self::Shrink,
            Self::Shrink => Self::Erase,
        }
    }
}

impl Tidy {
    pub(super) fn is_idle(&self) -> bool {
        self.owners.is_empty() && self.expiry.is_none() && !self.shrinks && !self.erases
    }

    /// These are written, or will be: what they may make necessary.
    pub(super) fn note(&mut self, changes: &[Change]) {
        for change in changes {
            let (owner, most) = match change {
                Change::NewTask { task, most } => (&task.owner, *most),
                Change::MakeRoom { owner, most } => (owner, *most),
                Change::PutTask(_) | Change::DeleteTask(_) => {
                    self.erases = true;
                    continue;
                }
                _ => continue,
            };
            self.owners.insert(owner.clone(), most);
        }
    }

    /// These are written: what there is more of.
    pub(super) fn wrote(&mut self, changes: &[Change]) {
        let Some(audited) = &mut self.audited else { return };
        for change in changes {
            if let Change::Audit(record) = change {
                *audited.entry(record.user.clone()).or_default() += 1;
            }
        }
    }

    /// From now on no more than this is kept.
    pub(super) fn expire(&mut self, kept: Kept, reply: Reply<()>) {
        let mut replies = self.expiry.take().map(|(_, replies)| replies).unwrap_or_default();
        replies.push(reply);
        self.expiry = Some((kept, replies));
        self.erases = true;
        self.waits = false;
    }

    /// In a quiet moment: whether there is something to do after all.
    pub(super) fn look(&mut self, conn: &Connection) -> bool {
        self.shrinks = !self.waits && (self.shrinks || shrink::is_worth_it(conn).unwrap_or(false));
        self.shrinks
    }

    /// The next step is one of erasing, if there is something to erase.
    pub(super) fn prefer_erasing(&mut self) {
        self.turn = Work::Shrink;
    }

    /// Does some of it. What fails is left, until it is asked for again: the disk may be full, and others need it more.
    /// `patience`: what whoever comes next has for another program that holds the file.
    pub(super) fn step(&mut self, conn: &mut Connection, patience: Duration) {
        // Another program that holds the file holds up nobody behind this.
        let done = conn.busy_timeout(Duration::ZERO).and_then(|()| self.some(conn));
        let _ = conn.busy_timeout(patience);
        if let Err(error) = done {
            log::debug!("store: not tidied: {error}");
            self.owners.clear();
            self.shrinks = false;
            self.erases = false;
            self.waits = true;
            self.audited = None;
            self.end_expiry(&Err(failed(error)));
        }
    }

    /// One step of the kind whose turn it is, among those that have something to do.
    fn some(&mut self, conn: &mut Connection) -> rusqlite::Result<()> {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let last = self.turn;
        loop {
            self.turn = self.turn.next();
            let has_done = match self.turn {
                Work::Erase => self.erase(&tx)?,
                Work::MakeRoom => self.make_room(&tx)?,
                Work::Expire => self.expire_some(&tx)?,
                Work::Shrink => self.shrink(&tx)?,
            };
            if has_done || self.turn == last {
                return tx.commit();
            }
        }
    }

    /// Each of these does a step, if there is something to do, and says whether it did.
    fn erase(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        self.erases = self.erases && tasks::erase_some(conn)?;
        Ok(self.erases)
    }

    /// Users in turn.
    fn make_room(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        loop {
            let behind = (Excluded(&self.owner), Unbounded);
            let next =
                self.owners.range::<UserId, _>(behind).next().or_else(|| self.owners.first_key_value());
            let Some((owner, most)) = next.map(|(owner, most)| (owner.clone(), *most)) else {
                return Ok(false);
            };
            if tasks::make_room(conn, &owner, most)? {
                self.owner = owner;
                self.erases = true;
                return Ok(true);
            }
            self.owners.remove(&owner);
        }
    }

    fn expire_some(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        let Some((kept, _)) = &self.expiry else { return Ok(false) };
        let kept = *kept;
        let has_done = tasks::expire(conn, kept.tasks_since)?
            || self.forget_old(conn, kept)?
            || self.forget_most(conn, kept.audit_rows)?;
        self.shrinks |= shrink::is_worth_it(conn)?;
        if has_done {
            self.erases = true;
        } else {
            // All that went has been committed before.
            self.end_expiry(&Ok(()));
        }
        Ok(has_done)
    }

    fn shrink(&mut self, conn: &Connection) -> rusqlite::Result<bool> {
        self.shrinks = self.shrinks && shrink::some(conn)?;
        Ok(self.shrinks)
    }

    fn end_expiry(&mut self, result: &Result<(), StoreError>) {
        for reply in self.expiry.take().map(|(_, replies)| replies).unwrap_or_default() {
            // Whoever did not wait has dropped the other end.
            let _ = reply.send(result.clone());
        }
    }

    fn forget_old(&mut self, conn: &Connection, kept: Kept) -> rusqlite::Result<bool> {
        let sql = "DELETE FROM audit WHERE seq IN
            (SELECT seq FROM audit WHERE created_at < ?1 ORDER BY created_at LIMIT ?2) RETURNING user";
        self.forget(conn, sql, (kept.audit_since.0, STEP))
    }

    /// Where there are too many, the oldest of the user who has most: nobody pushes out what others did.
    fn forget_most(&mut self, conn: &Connection, most: u64) -> rusqlite::Result<bool> {
        let audited = match &mut self.audited {
            Some(audited) => audited,
            none => none.insert(count(conn)?),
        };
        let excess = audited.values().sum::<u64>().saturating_sub(most);
        let Some((user, _)) = audited.iter().max_by_key(|(_, rows)| **rows).filter(|_| excess > 0) else {
            return Ok(false);
        };
        let sql = "DELETE FROM audit WHERE seq IN
            (SELECT seq FROM audit WHERE user = ?1 ORDER BY seq LIMIT ?2) RETURNING user";
        let some = i64::try_from(excess).unwrap_or(STEP).min(STEP);
        let user = user.clone();
        self.forget(conn, sql, (user, some))
    }

    fn forget(
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
            if let Some(audited) = &mut self.audited
                && let Some(rows) = audited.get_mut(&user)
            {
                *rows = rows.saturating_sub(1);
                if *rows == 0 {
                    audited.remove(&user);
                }
            }
        }
        Ok(any)
    }
}

fn count(conn: &Connection) -> rusqlite::Result<HashMap<UserId, u64>> {
    let mut statement = conn.prepare("SELECT user, count(*) FROM audit GROUP BY user")?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))?;
    rows.collect()
}
