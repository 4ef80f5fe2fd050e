//! Lists of changes in one transaction, whose ending is known even if the connection breaks during the commit.

use std::time::Duration;

use futures_util::future::join;
use tokio::time::{Instant, sleep};

use super::connection::{Connection, Failure, Session, size};
use super::large::{Entry, Texts};
use super::lease::Lease;
use super::parts::TaskTexts;
use super::quotas::Quotas;
use super::{tasks, turns};
use crate::store::columns::StoredRow;
use crate::store::rows::{self, Statement};
use crate::store::{Change, StoreError};

/// Statements that are sent without waiting for the one before.
const PIPELINED: usize = 30;
/// Bytes of their values, above which they are waited for: all are in memory once more while they are sent.
const PIPELINED_BYTES: u64 = 1 << 20;
/// Attempts to commit, if all but the last meet a deadlock.
const ATTEMPTS: u32 = 3;
/// Time to learn how a commit ended whose answer was lost.
const DOUBT: Duration = Duration::from_secs(5);
/// Time between two questions for that.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A list of changes, which is applied whole or not at all.
#[derive(Debug, Clone, Copy)]
pub(super) struct List<'a> {
    pub(super) changes: &'a [Change],
    /// The texts of its tasks that are in parts.
    texts: Option<&'a Texts>,
    /// The turn in which it is valid, if it is not always.
    turn: Option<i64>,
}

impl<'a> From<&'a [Change]> for List<'a> {
    fn from(changes: &'a [Change]) -> Self {
        Self { changes, texts: None, turn: None }
    }
}

impl<'a> From<&'a Entry> for List<'a> {
    fn from(entry: &'a Entry) -> Self {
        Self { changes: &entry.changes, texts: Some(&entry.texts), turn: entry.turn }
    }
}

impl<'a> List<'a> {
    /// Bytes of the texts in parts of the change at `position`.
    pub(super) fn bytes_in_parts(&self, position: usize) -> u64 {
        self.texts.and_then(|texts| texts.get(&position)).map_or(0, TaskTexts::bytes)
    }

    fn statements(self) -> impl Iterator<Item = Statement<'a>> {
        self.changes.iter().enumerate().filter_map(move |(position, change)| {
            let texts = self.texts.and_then(|texts| texts.get(&position)).copied().unwrap_or_default();
            rows::statement(change, '$').or_else(|| tasks::statement(change, texts))
        })
    }
}

/// Applies `lists` and commits, at the third attempt if two meet a deadlock: hubs write for the same users in any order. Lists over
/// a quota are left out, of the others all are written or none. Without a list, it only asks whether a commit succeeds.
pub(super) async fn run(
    connection: &mut Connection,
    lease: &Lease,
    lists: &[List<'_>],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    for _ in 1..ATTEMPTS {
        match attempt(connection, lease, lists).await {
            Err(Failure::Conflict(_)) => {}
            outcome => return outcome,
        }
    }
    attempt(connection, lease, lists).await.map_err(|failure| match failure {
        Failure::Conflict(error) => Failure::Broken(error),
        other => other,
    })
}

async fn attempt(
    connection: &mut Connection,
    lease: &Lease,
    lists: &[List<'_>],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let session = connection.session().await.map_err(Failure::Broken)?;
    let applied = match begin(&session, lease, lists).await {
        Ok((transaction, quotas)) => match turn_of(&session, lease, lists).await {
            Ok(turn) => apply_all(&session, lists, quotas, turn).await.map(|results| (transaction, results)),
            Err(failure) => Err(failure),
        },
        Err(failure) => Err(failure),
    };
    let (failure, committing) = match applied {
        Ok((transaction, results)) => match session.batch("COMMIT").await {
            Ok(()) => return Ok(results),
            Err(failure) => (failure, Some((transaction, results))),
        },
        Err(failure) => (failure, None),
    };
    if let Failure::Refused(_) | Failure::Conflict(_) = failure
        && session.batch("ROLLBACK").await.is_ok()
    {
        return Err(failure);
    }
    connection.close();
    match committing {
        Some((transaction, results)) if was_committed(connection, &transaction).await => Ok(results),
        _ => Err(failure),
    }
}

/// Begins a transaction and checks the lease. Returns the transaction's id, and the quotas that its lists concern.
async fn begin(session: &Session, lease: &Lease, lists: &[List<'_>]) -> Result<(String, Quotas), Failure> {
    let (begun, (transaction, quotas)) =
        join(session.batch("BEGIN"), join(lease.check(session), Quotas::of(session, lists))).await;
    begun?;
    let transaction = transaction?.ok_or_else(|| Failure::Broken(lease.lost()))?;
    Ok((transaction, quotas?))
}

/// The turn that this process has, if a list needs one. It cannot end before the commit.
async fn turn_of(session: &Session, lease: &Lease, lists: &[List<'_>]) -> Result<Option<i64>, Failure> {
    if lists.iter().all(|list| list.turn.is_none()) {
        return Ok(None);
    }
    turns::held(session, lease.process()).await
}

/// Applies the lists in order. Those over a quota, and those of another turn, are left out.
async fn apply_all(
    session: &Session,
    lists: &[List<'_>],
    mut quotas: Quotas,
    turn: Option<i64>,
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let mut results = Vec::with_capacity(lists.len());
    let mut pipeline = Pipeline { session, waiting: Vec::with_capacity(PIPELINED), bytes: 0 };
    'lists: for list in lists {
        if list.turn.is_some() && list.turn != turn {
            results.push(Err(turns::over()));
            continue;
        }
        while let Some(excess) = quotas.excess(list) {
            if excess.is_exact {
                results.push(Err(StoreError::OverQuota(excess.bytes)));
                continue 'lists;
            }
            pipeline.send().await?;
            quotas.read_again(session, &excess.owner).await?;
        }
        quotas.count(list);
        for statement in list.statements() {
            pipeline.push(statement).await?;
        }
        results.push(Ok(()));
    }
    pipeline.send().await?;
    Ok(results)
}

/// Statements that are sent together.
struct Pipeline<'a> {
    session: &'a Session,
    waiting: Vec<Statement<'a>>,
    /// Bytes of their values.
    bytes: u64,
}

impl<'a> Pipeline<'a> {
    async fn push(&mut self, statement: Statement<'a>) -> Result<(), Failure> {
        self.bytes += size(&statement.values);
        self.waiting.push(statement);
        let is_full = self.waiting.len() == PIPELINED || self.bytes >= PIPELINED_BYTES;
        if is_full { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        self.session.execute_all(&std::mem::take(&mut self.waiting)).await
    }
}

/// Asks how a transaction ended whose commit was sent, but not answered.
async fn was_committed(connection: &mut Connection, transaction: &str) -> bool {
    let deadline = Instant::now() + DOUBT;
    while Instant::now() < deadline {
        if let Ok(session) = connection.session().await
            && let Ok(rows) =
                session.query("SELECT pg_xact_status($1::text::xid8) AS status", &[transaction.into()]).await
            && let Some(row) = rows.first()
        {
            match row.field::<Option<String>>("status").ok().flatten().as_deref() {
                Some("committed") => return true,
                // The server has not noticed yet that the connection is gone.
                Some("in progress") => {}
                _ => return false,
            }
        }
        sleep(ASK_EVERY).await;
    }
    log::warn!("store: the database did not say in time whether a transaction was committed");
    false
}
