//! `/api/v1/llms`: rows, public LLMs, inference with a row or a pool (SPEC.md sections 3.7 and 5).

use std::collections::BTreeMap;

use actix_web::web::{Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use wire::json::quote;
use wire::row::{LlmRow, Timestamp};
use wire::task::Endpoint;

use super::body;
use super::change::{LLM, change};
use super::inference::{InferenceCall, chat};
use super::list::{limit, pages_by_name};
use super::openapi::{Routes, about, shape};
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::{AuditRecord, Caller, Role, TokenCounts};
use crate::quota::BytesPermit;
use crate::random;
use crate::registry::{DetailedLlm, LlmSpec};
use crate::store::AuditQuery;
use crate::telemetry::CacheView;

/// Default of `limit` in `/tasks`: the width of the console's chart.
const TASKS: usize = 50;
/// Largest `limit` in `/tasks`.
const MAX_TASKS: usize = 500;

pub(super) fn register(routes: &mut Routes<'_>) {
    let others = [ErrorKind::Forbidden, ErrorKind::NotFound, ErrorKind::Conflict];
    let unknown = [ErrorKind::NotFound];
    routes
        .get("/api/v1/llms", all, about("LLMs that the caller sees").returns(200, shape::<Vec<LlmRow>>))
        .post(
            "/api/v1/llms",
            create,
            about("Creates a public LLM, for admins")
                .takes(shape::<LlmSpec>)
                .changes()
                .returns(201, shape::<LlmRow>)
                .refuses(&[ErrorKind::Forbidden, ErrorKind::Conflict]),
        )
        .get("/api/v1/llms/{name}", one, about("An LLM").returns(200, shape::<DetailedLlm>).refuses(&unknown))
        .put(
            "/api/v1/llms/{name}",
            update,
            about("Changes a public LLM, for admins")
                .takes(shape::<LlmSpec>)
                .changes()
                .returns(200, shape::<UpdatedLlm>)
                .refuses(&others),
        )
        .delete(
            "/api/v1/llms/{name}",
            remove,
            about("Deletes an LLM, for admins").changes().returns_nothing(204).refuses(&others),
        )
        .get(
            "/api/v1/llms/{name}/members",
            members,
            about("The members of a pool, or of an LLM's pool")
                .returns(200, shape::<PoolMembers>)
                .refuses(&unknown),
        )
        .get(
            "/api/v1/llms/{name}/tasks",
            tasks,
            about("The newest inferences of an LLM")
                .limit("Most inferences, 50 unless given, at most 500")
                .returns(200, shape::<Vec<LlmTask>>)
                .refuses(&[ErrorKind::NotFound, ErrorKind::StoreUnavailable]),
        )
        .post("/api/v1/llms/{name}/infer", infer, chat("Chat with an LLM or a pool"));
}

async fn all(hub: HubData, caller: Caller) -> Result<HttpResponse, ApiError> {
    pages_by_name(
        &hub,
        &caller,
        ("[", "]"),
        |row: &LlmRow| &row.name,
        |hub, caller, after, push| {
            let registry = hub.registry.lock();
            registry.llms_after(caller, after).map(|llm| registry.llm_row(caller, llm)).all(push)
        },
    )
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let row = registry.llm(&caller, &name).map(|llm| registry.detailed_llm(&caller, llm));
    drop(registry);
    Ok(HttpResponse::Ok().json(row.ok_or_else(|| ApiError::not_found(LLM, &name))?))
}

/// A pool, as far as the caller sees it.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "`members` writes it a page at a time")]
struct PoolMembers {
    pool_name: String,
    /// Whether an LLM names the pool; otherwise it is a pool of one.
    explicit: bool,
    size: usize,
    active_count: usize,
    /// Cached tokens of 100 prompt tokens of the members; left out if nothing was counted.
    #[schemars(skip_serializing_if = "Option::is_none")]
    cache_hit_percent: Option<u8>,
    members: Vec<DetailedLlm>,
}

async fn members(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let pool = hub.registry.lock().pool(&caller, &name);
    let pool = pool.ok_or_else(|| ApiError::not_found(LLM, &name))?;
    let hits = CacheView::of(pool.cache, false).cache_hit_percent;
    let open = format!(
        r#"{{"poolName":{},"explicit":{},"size":{},"activeCount":{},{}"members":["#,
        quote(&pool.key),
        pool.explicit,
        pool.size,
        pool.active,
        hits.map(|percent| format!(r#""cacheHitPercent":{percent},"#)).unwrap_or_default(),
    );
    let frame = (open.as_str(), "]}");
    pages_by_name(
        &hub,
        &caller,
        frame,
        |member: &DetailedLlm| &member.row.name,
        move |hub, caller, after, push| {
            let registry = hub.registry.lock();
            let rows = registry.members_after(caller, &pool.key, after);
            rows.map(|llm| registry.detailed_llm(caller, llm)).all(push)
        },
    )
}

/// Chat with a row or a pool, under the caller's own `model`.
async fn infer(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let call = InferenceCall::read(Endpoint::ChatCompletions, &req, payload).await?;
    call.serve(hub, &req, caller, false, |registry, caller| {
        let target = registry.target(caller, &name).ok_or_else(|| ApiError::not_found(LLM, &name))?;
        Ok((target, None))
    })
    .await
}

async fn create(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (spec, body): (LlmSpec, _) = body::counted(&req, payload).await?;
    let name = spec.name.clone().unwrap_or_default();
    let row = change(&hub, (&caller, body), (LLM, &name), |registry| {
        let (llm, changes) = registry.create_llm(&caller, spec, random::id("llm"), hub.now())?;
        hub.offer(registry, &llm.name);
        hub.offer_detached();
        Ok((registry.llm_row(&caller, &llm), changes))
    });
    Ok(HttpResponse::Created().json(row.await?))
}

/// A changed row, with a warning for each part of the change that was not made.
#[derive(Serialize, JsonSchema)]
struct UpdatedLlm {
    #[serde(flatten)]
    row: LlmRow,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
}

async fn update(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    let (spec, body): (LlmSpec, _) = body::counted(&req, payload).await?;
    let updated = change(&hub, (&caller, body), (LLM, &name), |registry| {
        let names = registry.names_reaching(&name);
        let ((llm, warning), changes) = registry.update_llm(&caller, &name, spec, hub.now())?;
        // Callers may wait for a pool that the row joined.
        hub.offer(registry, &name);
        hub.offer_names(registry, names.iter().map(String::as_str));
        hub.offer_detached();
        Ok(((registry.llm_row(&caller, &llm), warning), changes))
    });
    let (row, warning) = updated.await?;
    if warning.is_some() {
        wire::log_with!(
            warn,
            [user = caller.user, llm = row.name],
            "{} gave LLM {} another server: its key was not kept",
            caller.user,
            row.name
        );
    }
    let warnings = warning.into_iter().collect();
    Ok(HttpResponse::Ok().json(UpdatedLlm { row, warnings }))
}

async fn remove(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let removed = change(&hub, (&caller, BytesPermit::default()), (LLM, &name), |registry| {
        let names = registry.names_reaching(&name);
        let changes = registry.delete_llm(&caller, &name, hub.now())?;
        // A caller that waits for the row while it wakes may get another member of its pool.
        hub.offer_names(registry, names.iter().map(String::as_str));
        Ok(((), changes))
    });
    removed.await?;
    Ok(HttpResponse::NoContent().finish())
}

/// An inference of a row, from the audit.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct LlmTask {
    id: String,
    /// Shown to admins and to the user itself.
    user: Option<String>,
    model: String,
    streaming: bool,
    status: u16,
    code: Option<String>,
    created_at: Timestamp,
    first_byte_ms: Option<u64>,
    total_ms: u64,
    #[serde(flatten)]
    tokens: TokenCounts,
}

/// The newest inferences of a row: all of them for its owner and admins, a caller's own for other callers.
async fn tasks(
    hub: HubData,
    caller: Caller,
    name: Path<String>,
    query: Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    let limit = limit(query.get("limit").map(String::as_str), TASKS, MAX_TASKS)?;
    let row = hub.registry.lock().llm(&caller, &name).map(|llm| (llm.owner.clone(), llm.created_at));
    let (owner, since) = row.ok_or_else(|| ApiError::not_found(LLM, &name))?;
    let admin = caller.role == Role::Admin;
    let all = admin || owner == caller.user;
    let user = (!all).then_some(caller.user.as_str());
    let records = hub.search(&caller, AuditQuery::of(user, Some(&name), limit)).await?;
    // An earlier row of the same name may have belonged to another user.
    let records = records.into_iter().filter(|record| record.created_at >= since);
    let tasks = records.map(|record| LlmTask::new(record, |user| admin || *user == caller.user));
    let tasks: Vec<LlmTask> = tasks.collect();
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(tasks))
}

impl LlmTask {
    fn new(record: AuditRecord, shows_user: impl Fn(&String) -> bool) -> Self {
        Self {
            id: record.task,
            user: Some(record.user).filter(shows_user),
            model: record.model,
            streaming: record.streaming,
            status: record.status,
            code: record.code,
            created_at: record.created_at,
            first_byte_ms: record.first_byte_ms,
            total_ms: record.total_ms,
            tokens: record.tokens,
        }
    }
}
