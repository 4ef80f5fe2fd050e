//! The result of an ended task, read from the store in parts: a caller that reads slowly holds one part in memory.

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use backend::FairSemaphore;
use bytes::Bytes;
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde_json::Value;

use crate::clock;
use crate::connections::turn;
use crate::error::ApiError;
use crate::hub::Hub;
use crate::hub::HubData;
use crate::model::{Caller, DurableTask, Role, TaskStatus};
use crate::telemetry::TaskView;

/// Bytes of a part.
pub(super) const PART: usize = 256 << 10;
/// The text after a result.
const CLOSE: &str = "}}";
/// Reads of the store: four at once, two of them of one user.
pub(super) static STORE_READS: FairSemaphore = FairSemaphore::new(4, 2);

/// An ended task without the body of its result.
pub(super) struct EndedTask {
    pub(super) task: DurableTask,
    /// Bytes of the result.
    pub(super) size: Option<u64>,
}

/// A task, and its result if it has ended.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "`respond` writes it in parts")]
#[schemars(rename = "TaskWithResult")]
pub(super) struct View {
    #[schemars(flatten)]
    task: TaskView,
    #[schemars(skip_serializing_if = "Option::is_none")]
    result: Option<TaskResult>,
}

/// The answer of a task that has ended.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "`respond` writes it in parts")]
struct TaskResult {
    status: u16,
    /// The whole answer.
    #[schemars(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    /// The chunks of a streamed answer.
    #[schemars(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<Value>>,
}

/// Loads a task from the store. The error is that of an unknown task if the caller may not see it.
pub(super) async fn load_ended(hub: &Hub, caller: &Caller, id: &str) -> Result<EndedTask, ApiError> {
    let found = {
        let _turn = turn(&STORE_READS, &caller.user).await;
        hub.store.task_head(id).await?
    };
    found
        .filter(|(task, _)| caller.role == Role::Admin || caller.user == task.owner)
        .map(|(task, size)| EndedTask { task, size })
        .ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> ApiError {
    ApiError::not_found("task", id)
}

/// Reads at most `most` bytes of a task's result, from byte `at` on, when it is the turn of `user`.
pub(super) async fn read_part(
    hub: &Hub,
    user: &str,
    id: &str,
    at: u64,
    most: usize,
) -> Result<Bytes, ApiError> {
    let _turn = turn(&STORE_READS, user).await;
    let part = hub.store.result_part(id, at, most).await?;
    part.map(Bytes::from).ok_or_else(|| not_found(id))
}

/// Answers with the JSON object `view`, extended by the task's result. The part in memory counts against the quota of
/// `caller`.
pub(super) async fn respond(
    hub: HubData,
    caller: &Caller,
    view: String,
    ended: EndedTask,
) -> Result<HttpResponse, ApiError> {
    let EndedTask { task, size } = ended;
    let (Some((status, _)), Some(size)) = (&task.result, size) else {
        return Ok(HttpResponse::Ok().content_type("application/json").body(view));
    };
    let chunked = task.streaming && task.state == TaskStatus::Completed;
    let key = if chunked { "chunks" } else { "body" };
    let view = view.strip_suffix('}').unwrap_or(&view);
    let open = format!(r#"{view},"result":{{"status":{status},"{key}":"#);
    let mut response = HttpResponse::Ok();
    response.content_type("application/json");
    if size <= PART as u64 {
        let result = read_part(&hub, &caller.user, &task.id, 0, PART).await?;
        return Ok(response.body([open.as_bytes(), &result, CLOSE.as_bytes()].concat()));
    }
    let permit = hub.unread_of(&caller.user).take(open.len() + PART)?;
    let total = (open.len() + CLOSE.len()) as u64 + size;
    let (user, token) = (caller.user.clone(), caller.token_id.clone());
    let parts = unfold((0, Some(open)), move |(at, open)| {
        let (hub, id, user) = (hub.clone(), task.id.clone(), user.clone());
        let is_revoked = hub.tokens.holder(&token, clock::now()).is_none();
        let _ = &permit;
        async move {
            if let Some(open) = open {
                return Some((Ok(Bytes::from(open)), (at, None)));
            }
            if at > size {
                return None;
            }
            if is_revoked {
                return Some((Err(ApiError::revoked()), (at, None)));
            }
            if at == size {
                return Some((Ok(Bytes::from_static(CLOSE.as_bytes())), (at + 1, None)));
            }
            // If the task is deleted meanwhile, the response breaks off.
            let read = read_part(&hub, &user, &id, at, PART).await;
            let next = at + read.as_ref().map_or(0, |read| read.len() as u64);
            let read = if next == at { Err(not_found(&id)) } else { read };
            Some((read, (next, None)))
        }
    });
    Ok(response.body(SizedStream::new(total, Box::pin(parts))))
}
