//! One transaction for a group of writes, with a savepoint for each list of changes.

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use super::connection::failed;
use super::job::Write;
use super::{Change, StoreError, failpoint, rows, tasks};
use crate::news::news;

/// Writes `write_behind`, then `group`, and commits. Returns the result of each list of `group`; an error means that nothing
/// was written.
pub(super) fn write(
    conn: &mut Connection,
    write_behind: &[Change],
    group: &[Write],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    // Rolled back when dropped.
    let mut tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for change in write_behind {
        // A violated constraint is logged and not retried: it would fail again.
        let _ = apply(&mut tx, std::slice::from_ref(change))?;
    }
    let results = group.iter().map(|write| apply(&mut tx, &write.changes)).collect::<Result<_, _>>()?;
    failpoint::reach("before commit");
    tx.commit().map_err(failed)?;
    failpoint::reach("after commit");
    Ok(results)
}

/// Applies one list, whole or not at all. The inner error concerns this list only; the outer one fails the transaction.
fn apply(tx: &mut Transaction<'_>, changes: &[Change]) -> Result<Result<(), StoreError>, StoreError> {
    let savepoint = tx.savepoint().map_err(failed)?;
    for change in changes {
        if let Change::NewTask { task, max_bytes } = change {
            let stored = tasks::stored(&savepoint, &task.owner).map_err(failed)?;
            let open = stored.all.saturating_sub(stored.ended);
            if open.saturating_add(tasks::size(task)) > *max_bytes {
                return Ok(Err(StoreError::OverQuota(open)));
            }
        }
    }
    match changes.iter().try_for_each(|change| rows::apply(&savepoint, change)) {
        Ok(()) => {
            savepoint.commit().map_err(failed)?;
            Ok(Ok(()))
        }
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => {
            drop(savepoint);
            let error = failed(error);
            news!(error, "changes not written", "the store", "a change was not written: {error}");
            Ok(Err(error))
        }
        // A full disk, for example.
        Err(error) => Err(failed(error)),
    }
}
