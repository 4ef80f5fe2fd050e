//! Statements for durable tasks.

use super::connection::{Failure, Session};
use super::parts::TaskTexts;
use crate::model::DurableTask;
use crate::store::Change;
use crate::store::columns::{StoredRow, columns, insert_sql, values};
use crate::store::rows::Statement;

/// Columns of a task without its request and result, for a list.
macro_rules! listed {
    ($($rest:tt)*) => {
        concat!(
            "SELECT id, owner, token, target, target_owner, CASE WHEN claimed AND NOT ended THEN 'claimed' ELSE state END AS state,
            NULL::bytea AS request, streaming, CASE WHEN claimed AND NOT ended THEN coalesce(claim_llm, llm) ELSE llm END AS llm,
            CASE WHEN claimed AND NOT ended THEN coalesce(claim_session, session) ELSE session END AS session, error, code, input_tokens, cached_tokens,
            output_tokens, counted, created_at,
            updated_at, ",
            $($rest)*
        )
    };
}

/// The open tasks that no other hub with a lease runs, oldest first.
pub(super) const OPEN: &str = listed!(
    "NULL::bigint AS result_status, NULL::bytea AS result_body FROM tasks
    WHERE NOT ended AND NOT EXISTS (SELECT FROM hubs WHERE hubs.id = tasks.hub AND hubs.id <> $1) ORDER BY seq"
);
/// Makes those tasks the hub's own.
pub(super) const ADOPT: &str = "UPDATE tasks SET hub = $1
    WHERE NOT ended AND hub IS DISTINCT FROM $1 AND NOT EXISTS (SELECT FROM hubs WHERE hubs.id = tasks.hub)";
/// Whether a task is the hub's own: another one may have taken it over, while this one did not renew its lease.
const OWN: &str = "tasks.hub IS NOT DISTINCT FROM virtual_llm_hub()";
/// Whether a task is open and another hub's, whose lease is over. `$1` is this hub. A scalar query: the condition is evaluated again
/// on a row that another hub has just taken, and the anti join of `NOT EXISTS` would find nothing then.
macro_rules! orphaned {
    () => {
        "NOT ended AND hub IS DISTINCT FROM $1
        AND coalesce((SELECT until <= now() FROM hubs WHERE hubs.id = tasks.hub), true)"
    };
}
/// Such tasks, those of each owner oldest first and of all owners in turns, and whether the lease has been over for a minute.
pub(super) const ORPHANS: &str = listed!(
    "NULL::bigint AS result_status, NULL::bytea AS result_body, NOT EXISTS (SELECT FROM processes
        WHERE processes.hub = tasks.hub AND until > now() - interval '1 min') AS is_old FROM tasks WHERE ",
    orphaned!(),
    " ORDER BY row_number() OVER (PARTITION BY owner ORDER BY seq), seq LIMIT $2"
);
/// Makes those of the JSON list `$2` that still are such tasks the hub's own, while its process `$3` has the lease.
pub(super) const ADOPT_ORPHANS: &str = concat!(
    "UPDATE tasks SET hub = $1 WHERE id IN (SELECT jsonb_array_elements_text($2::text::jsonb))
        AND EXISTS (SELECT FROM hubs WHERE id = $1 AND boot = $3 AND until > now() FOR SHARE) AND ",
    orphaned!(),
    " RETURNING id, claimed"
);
/// The open tasks of hub `$1`, oldest first.
pub(super) const OWN_OPEN: &str = listed!(
    "NULL::bigint AS result_status, NULL::bytea AS result_body FROM tasks WHERE NOT ended AND hub = $1 ORDER BY seq"
);
/// Of the tasks in the JSON list `$2` those that are another hub's than `$1`.
pub(super) const TAKEN_OVER: &str = "SELECT id FROM tasks
    WHERE hub IS DISTINCT FROM $1 AND id IN (SELECT jsonb_array_elements_text($2::text::jsonb))";
/// A page of ended tasks, the newest of those created before `($1, $2)` first.
pub(super) const ENDED: &str = listed!(
    "result_status, NULL::bytea AS result_body FROM tasks WHERE ended AND (created_at, id) < ($1, $2)
    ORDER BY created_at DESC, id DESC LIMIT $3"
);
/// A page of ended tasks of owner `$4`.
pub(super) const ENDED_OF: &str = listed!(
    "result_status, NULL::bytea AS result_body FROM tasks WHERE ended AND (created_at, id) < ($1, $2) AND owner = $4
    ORDER BY created_at DESC, id DESC LIMIT $3"
);
/// One task without its texts, and the size of its result.
pub(super) const HEAD: &str = "SELECT id, owner, token, target, target_owner, state, NULL::bytea AS request, streaming, llm,
    session, result_status, CASE WHEN result_body IS NULL AND result_text IS NULL THEN NULL ELSE ''::bytea END AS result_body, error, code, input_tokens, cached_tokens,
    output_tokens, counted, created_at, updated_at, coalesce(octet_length(result_body), result_size)::bigint AS result_size
    FROM tasks WHERE id = $1";
/// One task with its texts, but those in parts.
pub(super) const WHOLE: &str = "SELECT * FROM tasks WHERE id = $1";
/// At most `$3` bytes of a result from its byte `$2`, the first of which is 1; and where it is if it is in parts.
pub(super) const RESULT_PART: &str =
    "SELECT substring(result_body FROM $2 FOR $3) AS part, result_text, result_size
    FROM tasks WHERE id = $1 AND result_status IS NOT NULL";
/// Bytes of an owner's open tasks.
const OPEN_BYTES: &str =
    "SELECT coalesce(sum(bytes - ended), 0)::bigint AS bytes FROM stored WHERE owner = $1";

/// Reads the bytes of an owner's open tasks.
pub(super) async fn open_bytes(session: &Session, owner: &str) -> Result<u64, Failure> {
    let rows = session.query(OPEN_BYTES, &[owner.into()]).await?;
    rows.first().map_or(Ok(0), |row| row.field("bytes")).map_err(Failure::Broken)
}

/// The statement that writes a change of a task, whose `texts` are in parts; `None` for other changes, and for quotas, which
/// are enforced later.
pub(super) fn statement(change: &Change, texts: TaskTexts) -> Option<Statement<'_>> {
    Some(match change {
        Change::PutTask(task) | Change::NewTask { task, .. } => put(task, texts),
        Change::ClaimTask { id, llm, session } => Statement {
            sql: format!("UPDATE tasks SET claimed = true, claim_llm = $2, claim_session = $3 WHERE id = $1 AND NOT ended AND {OWN}").into(),
            values: vec![id.into(), llm.into(), session.into()],
        },
        Change::UnclaimTask(id) => Statement {
            sql: format!("UPDATE tasks SET claimed = false WHERE id = $1 AND NOT ended AND {OWN}").into(),
            values: vec![id.into()],
        },
        Change::DeleteTask(id) => {
            Statement { sql: "DELETE FROM tasks WHERE id = $1".into(), values: vec![id.into()] }
        }
        _ => return None,
    })
}

/// Inserts or replaces a task. A task that has ended is not changed, nor one that another hub has taken over.
fn put(task: &DurableTask, texts: TaskTexts) -> Statement<'_> {
    let tokens = task.tokens;
    let request = task.request.as_deref().filter(|_| texts.request.is_none());
    let result = task.result.as_ref().filter(|_| texts.result.is_none());
    let columns = columns![
        "id" => &task.id,
        "owner" => &task.owner,
        "token" => &task.token,
        "target" => &task.target,
        "target_owner" => &task.target_owner,
        "state" => task.state.as_str(),
        "request" => request.map(str::as_bytes),
        "request_text" => texts.request.map(|text| text.id),
        "request_size" => texts.request.map(|text| text.size),
        "streaming" => task.streaming,
        "llm" => &task.llm,
        "session" => &task.session,
        "result_status" => task.result.as_ref().map(|(status, _)| *status),
        "result_body" => result.map(|(_, body)| body.as_bytes()),
        "result_text" => texts.result.map(|text| text.id),
        "result_size" => texts.result.map(|text| text.size),
        "error" => &task.error,
        "code" => &task.code,
        "input_tokens" => tokens.and_then(|tokens| tokens.input),
        "cached_tokens" => tokens.and_then(|tokens| tokens.cached),
        "output_tokens" => tokens.and_then(|tokens| tokens.output),
        "counted" => tokens.map(|tokens| tokens.is_counted),
        "created_at" => task.created_at,
        "updated_at" => task.updated_at,
    ];
    let updates: Vec<_> =
        columns.iter().skip(1).map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    let conflict =
        format!("ON CONFLICT (id) DO UPDATE SET {} WHERE NOT tasks.ended AND {OWN}", updates.join(", "));
    Statement { sql: insert_sql("tasks", &columns, '$', &conflict).into(), values: values(columns) }
}
