//! `/api/v1/inference-tasks`: durable tasks, and the inferences under way (SPEC.md section 5, queue).

use actix_web::web::{Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use backend::FairSemaphore;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use wire::json::spans;
use wire::task::Endpoint;

use self::list::list;
use self::result::load_ended;
use self::stream::stream;
use super::body;
use super::elsewhere;
use super::inference::parse_priority;
use crate::connections::turn;
use crate::dispatch::RequestBody;
use crate::error::{ApiError, ErrorKind};
use crate::http::openapi::{Routes, about, shape};
use crate::hub::{Hub, HubData};
use crate::model::{Caller, DurableTask, TaskStatus};
use crate::offload::offload;
use crate::store::{Change, StoreError};
use crate::telemetry::{Limit, TaskView};
use crate::{clock, random};

mod chunks;
mod list;
mod owned;
mod result;
mod stream;

/// Bytes of a request above which its write takes a turn of [`WRITES`].
const LARGE: usize = 1 << 20;

/// Large writes and deletions, which overwrite what they delete. Users take turns, so that a user waits for one write of
/// another user and not for all.
static WRITES: FairSemaphore = FairSemaphore::new(2, 1);

pub(super) fn register(routes: &mut Routes<'_>) {
    let stored = [ErrorKind::NotFound, ErrorKind::StoreUnavailable];
    routes
        .post(
            "/api/v1/inference-tasks",
            create,
            about("Queues an inference that survives a restart of the hub")
                .takes(task_request)
                .changes()
                .returns(202, shape::<AcceptedTask<'_>>)
                .refuses(&[ErrorKind::NotFound, ErrorKind::HubStopping]),
        )
        .get(
            "/api/v1/inference-tasks",
            list,
            about("Durable tasks and inferences under way, newest first")
                .limit("Most tasks, 200 unless given, at most 200")
                .query("scope", "`owned`: the newest calls of all users that failed at LLMs of the caller, without pages")
                .query("before", "`createdAt` of the last task of the page before, a comma, and its id")
                .returns(200, shape::<Vec<TaskView>>)
                .returns_header("link", "The address of the next page, if there is one")
                .refuses(&[ErrorKind::StoreUnavailable]),
        )
        .get(
            "/api/v1/inference-tasks/{id}",
            one,
            about("A task, with its result if it has ended; of others' tasks those that failed at LLMs of the caller")
                .returns(200, shape::<result::View>)
                .refuses(&stored),
        )
        .delete(
            "/api/v1/inference-tasks/{id}",
            remove,
            about("Cancels a task, or deletes one that has ended").returns_nothing(204).refuses(&stored),
        )
        .get(
            "/api/v1/inference-tasks/{id}/stream",
            stream,
            about("The answer of a task as it arrives, as server-sent events")
                .header("last-event-id", "The number of the last event that the caller has", shape::<String>)
                .returns_media(200, "text/event-stream")
                .refuses(&stored)
                .refuses(&[ErrorKind::BadRequest]),
        );
}

/// The schema of [`TaskRequest`].
fn task_request(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "required": ["llm", "request"],
        "properties": {
            "llm": { "type": "string", "description": "A row or a pool" },
            "request": { "type": "object", "description": "A request for /v1/chat/completions" },
            "streaming": { "type": ["boolean", "null"] },
        },
    })
}

/// The body of a `POST`.
struct TaskRequest {
    llm: String,
    request: RequestBody,
    streaming: bool,
}

impl TaskRequest {
    fn parse(mut text: Vec<u8>) -> Result<Self, ApiError> {
        let invalid = |what: &str| ApiError::bad_request(format!("the request's body {what}"));
        if std::str::from_utf8(&text).is_err() {
            return Err(invalid("is not UTF-8"));
        }
        let keys = spans(&mut text, ["llm", "request", "streaming"]);
        let keys = keys.map_err(ApiError::bad_json)?;
        // Of duplicate keys the last counts, as in other JSON parsers.
        let [llm, request, streaming] = keys.map(|mut spans| spans.pop().map(|span| &text[span]));
        let shape = || invalid(r#"is not { "llm": "name", "request": {…}, "streaming": false }"#);
        let request = request.ok_or_else(shape)?;
        if !request.starts_with(b"{") {
            return Err(invalid("has a request that is not a JSON object"));
        }
        let request = RequestBody::parse(request.to_vec())?;
        // The request's own `stream` is not used, but must be valid.
        request.streaming(Endpoint::ChatCompletions)?;
        Ok(Self {
            llm: llm.and_then(|llm| serde_json::from_slice(llm).ok()).ok_or_else(shape)?,
            request,
            streaming: match streaming {
                Some(b"true") => true,
                Some(b"false" | b"null") | None => false,
                Some(_) => return Err(shape()),
            },
        })
    }
}

#[derive(Serialize, JsonSchema)]
struct AcceptedTask<'a> {
    id: &'a str,
    status: TaskStatus,
    position: usize,
}

async fn create(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    // A task comes behind all callers that wait, whatever its priority.
    parse_priority(&req)?;
    let (text, body) = body::read(&req, payload, body::INFERENCE).await?;
    let new = offload(&caller.user, text.len(), move || TaskRequest::parse(text)).await?;
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let Some((target, target_owner)) = hub.owned_target(&caller, &new.llm) else {
        return Err(ApiError::not_found("LLM", &new.llm));
    };
    // Taken before anything is awaited, so that calls at the same time cannot exceed the limit together.
    let count = |error: &ApiError| hub.watch.refused(&caller, &target, error);
    let permit = hub.tasks.permit(&caller.user, hub.options.limits.open_tasks).inspect_err(count)?;
    hub.tokens.limits().accept(&caller, hub.now()).inspect_err(count)?;
    let now = clock::now();
    let task = DurableTask {
        id: random::id("task"),
        owner: caller.user.clone(),
        token: Some(caller.token_id.clone()),
        target,
        target_owner: Some(target_owner),
        state: TaskStatus::Pending,
        request: Some(new.request.as_str().to_owned()),
        streaming: new.streaming,
        llm: None,
        session: None,
        result: None,
        error: None,
        code: None,
        tokens: None,
        created_at: now,
        updated_at: now,
    };
    let id = task.id.clone();
    // Spawned, so that a caller that leaves now does not leave a task on disk that is not in the queue.
    let hub = hub.into_inner();
    let position = tokio::spawn(async move {
        // Counts the request until it is on disk.
        let _body = body;
        let large = task.request.as_ref().is_some_and(|request| request.len() > LARGE);
        let _turn = if large { Some(turn(&WRITES, &task.owner).await) } else { None };
        let new = Change::NewTask { task: Box::new(task.clone()), max_bytes: hub.options.limits.disk };
        let written = hub.store.write(vec![new]).await.map_err(refused);
        written.inspect_err(|error| hub.watch.refused(&caller, &task.target, error))?;
        Ok::<_, ApiError>(hub.enqueue(task, permit))
    });
    let position = position.await.map_err(ApiError::internal)??;
    Ok(HttpResponse::Accepted().json(AcceptedTask { id: &id, status: TaskStatus::Pending, position }))
}

async fn one(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    if let Some(response) = elsewhere::task(&hub, &req, &caller, &id).await {
        return response;
    }
    let open = hub.tasks.view(&caller, &id);
    if let Some(view) = open.or_else(|| hub.watch.task(&caller, &id)) {
        return Ok(HttpResponse::Ok().json(view));
    }
    let ended = match load_ended(&hub, &caller, &id).await {
        Err(error) if error.kind == ErrorKind::NotFound => {
            let of_others = owned::one(&hub, &caller, &id).await?;
            return of_others.map(|view| HttpResponse::Ok().json(view)).ok_or(error);
        }
        loaded => loaded?,
    };
    let view = serde_json::to_string(&ended_view(&hub, &caller, &ended.task)).map_err(ApiError::internal)?;
    result::respond(hub, &caller, view, ended).await
}

async fn remove(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, ApiError> {
    if let Some(response) = elsewhere::task(&hub, &req, &caller, &id).await {
        return response;
    }
    let hub = hub.into_inner();
    if let Some(written) = hub.cancel_task(&caller, &id).or_else(|| hub.delete_ended(&caller, &id)) {
        written.await.map_err(ApiError::internal)??;
    } else {
        let ended = load_ended(&hub, &caller, &id).await?;
        let _turn = turn(&WRITES, &caller.user).await;
        hub.store.write(vec![Change::DeleteTask(ended.task.id)]).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// The answer to a new task that the store refuses.
fn refused(error: StoreError) -> ApiError {
    match error {
        StoreError::OverQuota(bytes) => {
            let text = format!(
                "your tasks that wait and run take {} MiB on the hub's disk: wait for some to end, or take some back",
                bytes.div_ceil(1 << 20)
            );
            ApiError::new(ErrorKind::Busy, text).refused_by(Limit::TaskDiskBytes)
        }
        other => other.into(),
    }
}

/// The view of an ended task, with the current pool and model of the row that answered it.
fn ended_view(hub: &Hub, caller: &Caller, task: &DurableTask) -> TaskView {
    let registry = hub.registry.lock();
    let row = task.llm.as_deref().and_then(|name| registry.llm(caller, name));
    TaskView {
        pool_name: row.and_then(|row| registry.pool_of(row)).map(str::to_owned),
        model: row.map(|row| row.model.clone()),
        ..TaskView::of(task)
    }
}
