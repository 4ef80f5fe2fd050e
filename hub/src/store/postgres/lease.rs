//! The lease of a hub: while it holds, this hub alone writes. It is kept by the database's clock.

use std::time::Duration;

use super::connection::{Failure, Session};
use super::processes;
use crate::cluster::{Process, Report};
use crate::store::StoreError;
use crate::store::columns::{StoredRow, Value};

/// Time between two renewals. A lease holds for 15 s from each.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(5);

/// The lease of one process of a hub.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// A newer process of the same hub ends the lease of the older.
    process: Process,
}

/// Whether other hubs may have leases at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// None: this hub knows of no network between hubs.
    Sole,
    /// Those that share it too.
    Shared,
}

impl Lease {
    /// Takes the lease for `process` within the transaction that opens the database, under its advisory lock. Every older
    /// lease ends: that of an older process of the same hub, and those that have expired. `migrate` runs when no process
    /// writes any more, or beside others that share the database.
    ///
    /// # Errors
    /// Another hub's lease still holds, and it or this one shares with nobody. Nothing has been changed.
    pub(super) async fn take(
        session: &Session,
        process: Process,
        sharing: Sharing,
        migrate: impl AsyncFnOnce() -> Result<(), StoreError>,
    ) -> Result<Self, StoreError> {
        let found = session.query("SELECT to_regclass('hubs') IS NOT NULL AS found", &[]).await;
        let found = found.map_err(Failure::into_error)?;
        if found.first().map_or(Ok(false), |row| row.field::<bool>("found"))? {
            Self::end_others(session, process, sharing).await?;
        }
        migrate().await?;
        let sql = "INSERT INTO hubs (id, boot, until, version, shared) VALUES ($1, $2, clock_timestamp() + interval '15 s', $3, $4)";
        let version = env!("CARGO_PKG_VERSION");
        let is_shared = sharing == Sharing::Shared;
        let values = [process.hub().into(), process.boot().into(), version.into(), is_shared.into()];
        session.execute(sql, &values).await.map_err(Failure::into_error)?;
        processes::begin(session, process, version).await.map_err(Failure::into_error)?;
        Ok(Self { process })
    }

    /// Deletes all leases that are over, or of an older process of the hub, unless one holds with which this one cannot be. A
    /// deletion waits for the transactions that have checked the lease.
    async fn end_others(session: &Session, process: Process, sharing: Sharing) -> Result<(), StoreError> {
        // The column may come with the migration.
        let sql = "SELECT id, ceil(extract(epoch FROM until - now()))::bigint AS seconds,
                coalesce((to_jsonb(hubs)->>'shared')::boolean, false) AS shared
            FROM hubs WHERE id <> $1 AND until > now() ORDER BY shared LIMIT 1";
        let others = session.query(sql, &[process.hub().into()]).await.map_err(Failure::into_error)?;
        if let Some(row) = others.first() {
            let (other, seconds) = (row.field::<String>("id")?, row.field::<i64>("seconds")?);
            let advice = match (sharing, row.field::<bool>("shared")?) {
                (Sharing::Shared, true) => None,
                (Sharing::Shared, false) => Some("it was started without --nats-url; stop that one"),
                (Sharing::Sole, true) => Some("give --nats-url to this one too, or stop that one"),
                (Sharing::Sole, false) => Some("stop that one, or give --nats-url to both"),
            };
            if let Some(advice) = advice {
                return Err(StoreError::Database(format!(
                    "hub '{other}' of the cluster uses it: {advice}, or try again when its lease has ended, \
                     in {seconds} s if it is dead"
                )));
            }
        }
        let sql = "DELETE FROM hubs WHERE id = $1 OR until <= now()";
        session.execute(sql, &[process.hub().into()]).await.map(drop).map_err(Failure::into_error)
    }

    /// The process that has the lease.
    pub(super) fn process(&self) -> Process {
        self.process
    }

    /// Renews the lease, with what this process says of itself. `false` if it has ended: another process took over.
    pub(super) async fn renew(&self, session: &Session, report: &Report) -> Result<bool, Failure> {
        let sql = "UPDATE hubs SET until = now() + interval '15 s' WHERE id = $1 AND boot = $2";
        let holds = session.execute(sql, &self.key()).await? > 0;
        if holds {
            processes::renew(session, self.process, report).await?;
        }
        Ok(holds)
    }

    /// Checks the lease within a transaction, which keeps it from ending before the commit. Returns the transaction's id, or
    /// `None` without a lease.
    pub(super) async fn check(&self, session: &Session) -> Result<Option<String>, Failure> {
        let sql = "SELECT pg_current_xact_id()::text AS xid FROM hubs WHERE id = $1 AND boot = $2 FOR SHARE";
        let rows = session.query(sql, &self.key()).await?;
        rows.first().map(|row| row.field("xid")).transpose().map_err(Failure::Broken)
    }

    /// SQL that checks the lease within a statement that is a transaction of its own.
    pub(super) fn held(&self) -> String {
        let (hub, boot) = (self.process.hub(), self.process.boot());
        format!("EXISTS (SELECT FROM hubs WHERE id = '{hub}' AND boot = '{boot}' FOR SHARE)")
    }

    /// Ends the lease, so that another hub can start at once.
    pub(super) async fn release(&self, session: &Session) -> Result<(), Failure> {
        let sql = "DELETE FROM hubs WHERE id = $1 AND boot = $2";
        if session.execute(sql, &self.key()).await? > 0 {
            processes::end(session, self.process).await?;
        }
        Ok(())
    }

    fn key(&self) -> [Value<'_>; 2] {
        [self.process.hub().into(), self.process.boot().into()]
    }

    /// The error of a hub without its lease.
    pub(super) fn lost(&self) -> StoreError {
        StoreError::Unavailable(format!(
            "another process has taken over the database from this hub ('{}')",
            self.process.hub()
        ))
    }
}
