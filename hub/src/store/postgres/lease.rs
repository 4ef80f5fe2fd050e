//! The lease of a hub: while it holds, this hub alone writes. It is kept by the database's clock.

use std::time::Duration;

use super::connection::{Failure, Session};
use super::schema::LOCK;
use crate::cluster::Process;
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

impl Lease {
    /// Takes the lease for `process`. An older process of the same hub loses its own; another hub's is respected.
    pub(super) async fn take(session: &Session, process: Process) -> Result<Self, StoreError> {
        let lease = Self { process };
        lease.write(session).await.map_err(Failure::into_error)?;
        Ok(lease)
    }

    async fn write(&self, session: &Session) -> Result<(), Failure> {
        session.batch(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await?;
        let sql = "SELECT id, ceil(extract(epoch FROM until - now()))::bigint AS seconds
            FROM hubs WHERE id <> $1 AND until > now() LIMIT 1";
        if let Some(row) = session.query(sql, &[self.process.hub().into()]).await?.first() {
            let other = || Ok::<_, StoreError>((row.field::<String>("id")?, row.field::<i64>("seconds")?));
            let (other, seconds) = other().map_err(Failure::Broken)?;
            session.batch("ROLLBACK").await?;
            return Err(Failure::Refused(StoreError::Database(format!(
                "hub '{other}' of the cluster uses it: stop that one, or try again when its lease has ended, \
                 in {seconds} s if it is dead"
            ))));
        }
        let sql = "INSERT INTO hubs (id, boot, until, version) VALUES ($1, $2, now() + interval '15 s', $3)
            ON CONFLICT (id) DO UPDATE SET boot = excluded.boot, until = excluded.until, version = excluded.version,
                started_at = now()";
        session
            .execute(
                sql,
                &[self.process.hub().into(), self.process.boot().into(), env!("CARGO_PKG_VERSION").into()],
            )
            .await?;
        session.batch("COMMIT").await
    }

    /// Renews the lease. `false` if it has ended: another process took over.
    pub(super) async fn renew(&self, session: &Session) -> Result<bool, Failure> {
        let sql = "UPDATE hubs SET until = now() + interval '15 s' WHERE id = $1 AND boot = $2";
        Ok(session.execute(sql, &self.key()).await? > 0)
    }

    /// Checks the lease within a transaction, which keeps it from ending before the commit. Returns the transaction's id, or
    /// `None` without a lease.
    pub(super) async fn check(&self, session: &Session) -> Result<Option<String>, Failure> {
        let sql = "SELECT pg_current_xact_id()::text AS xid FROM hubs WHERE id = $1 AND boot = $2 FOR SHARE";
        let rows = session.query(sql, &self.key()).await?;
        rows.first().map(|row| row.field("xid")).transpose().map_err(Failure::Broken)
    }

    /// Ends the lease, so that another hub can start at once.
    pub(super) async fn release(&self, session: &Session) -> Result<(), Failure> {
        let sql = "DELETE FROM hubs WHERE id = $1 AND boot = $2";
        session.execute(sql, &self.key()).await.map(drop)
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
