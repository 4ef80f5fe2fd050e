//! Failed calls as the owner of the LLM reads them: who called it, when, and why it failed.
//!
//! Nothing of other rows is in them: a call is the owner's only if its LLM is where the call failed at last, and the name by which
//! it was called is replaced by the LLM's.

use wire::row::Timestamp;

use crate::error::ApiError;
use crate::hub::Hub;
use crate::model::{AuditRecord, Caller, TaskStatus};
use crate::store::AuditQuery;
use crate::telemetry::TaskView;

/// The newest `limit` calls that failed at LLMs of `caller`.
pub(super) async fn list(hub: &Hub, caller: &Caller, limit: usize) -> Result<Vec<TaskView>, ApiError> {
    let query = AuditQuery { owner: Some(caller.user.clone()), limit, ..AuditQuery::default() };
    let records = hub.search(caller, query).await?;
    Ok(records.into_iter().map(|record| view(hub.watch.failure(&record.id), record)).collect())
}

/// A call that failed at an LLM of `caller`, by its id or by that of its dispatch, which the publisher's log names.
pub(super) async fn one(hub: &Hub, caller: &Caller, id: &str) -> Result<Option<TaskView>, ApiError> {
    let query = AuditQuery {
        owner: Some(caller.user.clone()),
        id: Some(id.to_owned()),
        limit: 1,
        ..AuditQuery::default()
    };
    let found = hub.search(caller, query).await?.pop();
    // Callers choose the ids of their requests.
    let Some(record) = found.filter(|record| record.id == id || record.task == id) else { return Ok(None) };
    let failure = match hub.watch.failure(&record.id) {
        None if record.request_id.is_none() => {
            let stored = hub.store.task_head(&record.id).await?;
            stored.and_then(|(task, _)| Some((task.target, task.error?)))
        }
        failure => failure,
    };
    Ok(Some(view(failure, record)))
}

/// The view of a call; `failure` are the name that was called and the text of the error, if they are still known.
fn view(failure: Option<(String, String)>, record: AuditRecord) -> TaskView {
    let shown =
        |(called, text): (String, String)| text.replace(&format!("'{called}'"), &format!("'{}'", record.llm));
    let total = i64::try_from(record.total_ms).unwrap_or(i64::MAX);
    TaskView {
        status: TaskStatus::Error,
        llm: record.llm.clone(),
        pool_name: None,
        model: Some(record.model).filter(|model| !model.is_empty()),
        streaming: record.streaming,
        durable: record.request_id.is_none(),
        worker: record.publisher,
        owner_id: record.user,
        position: None,
        error: failure.map(shown),
        code: record.code,
        tokens: Some(record.tokens),
        created_at: record.created_at,
        updated_at: Timestamp(record.created_at.0.saturating_add(total)),
        id: record.id,
        llm_name: Some(record.llm),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TokenCounts;

    /// A34: the owner of a row does not read by which name of another user it was called.
    #[test]
    fn the_name_that_was_called_is_not_shown_to_the_owner() {
        let record = AuditRecord {
            id: "inf-1".into(),
            task: "task-1".into(),
            request_id: Some("of-the-caller".into()),
            user: "carol".into(),
            address: Some([192, 0, 2, 7].into()),
            llm: "row".into(),
            owner: Some("alice".into()),
            through: Some("clerk".into()),
            model: "m".into(),
            publisher: Some("sess-1".into()),
            streaming: false,
            status: 504,
            code: Some("timeout".into()),
            created_at: Timestamp(1000),
            first_byte_ms: None,
            total_ms: 234,
            tokens: TokenCounts::default(),
        };
        let failure = ("clerk".to_owned(), "no answer from 'clerk' within 5 s".to_owned());
        let view = view(Some(failure), record);
        assert_eq!(view.error.as_deref(), Some("no answer from 'row' within 5 s"));
        assert_eq!((view.owner_id.as_str(), view.updated_at), ("carol", Timestamp(1234)));
        let text = serde_json::to_string(&view).unwrap();
        for hidden in ["clerk", "of-the-caller", "192.0.2.7"] {
            assert!(!text.contains(hidden), "{text}");
        }
    }
}
