//! The processes of hubs that had the lease, in the database: what they are, and how they ended.

use std::time::Duration;

use super::connection::{Failure, Session};
use crate::cluster::{Process, Report};
use crate::store::columns::StoredRow;
use crate::store::{ClusterRecord, ProcessRecord, StoreError};

/// Most processes that are told of, the newest first.
const MOST: i64 = 100;

/// Adds a process that takes the lease, and ends those whose lease is over. The caller's transaction holds the lock of leases.
pub(super) async fn begin(session: &Session, process: Process, version: &str) -> Result<(), Failure> {
    session
        .execute(
            "UPDATE processes SET until = clock_timestamp() WHERE until > clock_timestamp()
                AND NOT EXISTS (SELECT FROM hubs WHERE hubs.id = hub AND hubs.boot = processes.boot)",
            &[],
        )
        .await?;
    // Of an ended process nothing is told after a day. The last one of a hub stays, for its term.
    let sql = "DELETE FROM processes WHERE until < now() - interval '1 day'
        AND term < (SELECT max(term) FROM processes AS newer WHERE newer.hub = processes.hub)";
    session.execute(sql, &[]).await?;
    let sql = "INSERT INTO processes (hub, boot, term, version, until)
        SELECT $1, $2, coalesce(max(term), 0) + 1, $3, clock_timestamp() + interval '15 s' FROM processes WHERE hub = $1";
    session.execute(sql, &[process.hub().into(), process.boot().into(), version.into()]).await.map(drop)
}

/// Notes that a process has renewed the lease, and what it says of itself.
pub(super) async fn renew(session: &Session, process: Process, report: &Report) -> Result<(), Failure> {
    let sql = "UPDATE processes SET renewed_at = now(), until = now() + interval '15 s', report = $3
        WHERE hub = $1 AND boot = $2";
    let report = serde_json::to_string(report).unwrap_or_default();
    session.execute(sql, &[process.hub().into(), process.boot().into(), (&report).into()]).await.map(drop)
}

/// What the other processes with a lease said when they renewed it, and how long ago that was.
pub(super) async fn reports(
    session: &Session,
    process: Process,
) -> Result<Vec<(Process, Report, Duration)>, Failure> {
    let sql = "SELECT hub || '.' || boot AS process, report,
            (extract(epoch FROM clock_timestamp() - renewed_at) * 1000)::bigint AS age
        FROM processes WHERE until > now() AND report IS NOT NULL AND hub <> $1";
    let mut reports = Vec::new();
    for row in session.query(sql, &[process.hub().into()]).await? {
        let read = || {
            Ok((row.field::<String>("process")?, row.field::<String>("report")?, row.field::<i64>("age")?))
        };
        let (process, report, age) = read().map_err(Failure::Broken)?;
        // What a newer version writes is left out if it cannot be read.
        if let (Some(process), Ok(report)) = (Process::parse(&process), serde_json::from_str(&report)) {
            reports.push((process, report, Duration::from_millis(age.max(0).unsigned_abs())));
        }
    }
    Ok(reports)
}

/// Notes that a process has released the lease.
pub(super) async fn end(session: &Session, process: Process) -> Result<(), Failure> {
    let sql = "UPDATE processes SET until = now(), stopped = true WHERE hub = $1 AND boot = $2";
    session.execute(sql, &[process.hub().into(), process.boot().into()]).await.map(drop)
}

/// Reads what the database knows of the cluster. `address` is where it is.
pub(super) async fn record(session: &Session, address: String) -> Result<ClusterRecord, Failure> {
    let sql = "SELECT name, schema::bigint, current_setting('server_version') AS server FROM cluster";
    let found = session.query(sql, &[]).await?;
    let unreadable = || Failure::Broken(StoreError::Database("its table `cluster` is empty".into()));
    let cluster = found.first().ok_or_else(unreadable)?;
    // A process that was taken over from is superseded, also if it was lost before.
    let sql = "SELECT hub, processes.boot, term, processes.version,
            (extract(epoch FROM processes.started_at) * 1000)::bigint AS started_at,
            (extract(epoch FROM renewed_at) * 1000)::bigint AS renewed_at,
            (extract(epoch FROM processes.until) * 1000)::bigint AS until,
            CASE WHEN hubs.until > now() THEN 'serving' WHEN stopped THEN 'stopped'
                WHEN EXISTS (SELECT FROM processes AS newer WHERE newer.hub = processes.hub AND newer.term > processes.term)
                    THEN 'superseded'
                ELSE 'lost' END AS state
        FROM processes LEFT JOIN hubs ON hubs.id = hub AND hubs.boot = processes.boot
        WHERE processes.until > now() - interval '1 day'
            OR term = (SELECT max(term) FROM processes AS newest WHERE newest.hub = processes.hub)
        ORDER BY processes.started_at DESC, term DESC LIMIT $1";
    let rows = session.query(sql, &[MOST.into()]).await?;
    let process = |row: &tokio_postgres::Row| {
        Ok(ProcessRecord {
            hub: row.field("hub")?,
            boot: row.field("boot")?,
            term: row.field("term")?,
            state: row.field("state")?,
            version: row.field("version")?,
            started_at: row.field("started_at")?,
            renewed_at: row.field("renewed_at")?,
            lease_until: row.field("until")?,
        })
    };
    let read = || {
        Ok(ClusterRecord {
            name: cluster.field("name")?,
            address,
            server: cluster.field("server")?,
            schema: cluster.field("schema")?,
            processes: rows.iter().map(process).collect::<Result<_, StoreError>>()?,
        })
    };
    read().map_err(Failure::Broken)
}
