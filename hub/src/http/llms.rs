//! `GET /api/v1/llms`, `/{name}`, `/{name}/members` (SPEC.md section 3.7).

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, get};
use wire::json::quote;
use wire::row::LlmRow;

use super::list::PAGE;
use super::{HubData, list};
use crate::error::ApiError;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/llms", get().to(all))
        .route("/api/v1/llms/{name}", get().to(one))
        .route("/api/v1/llms/{name}/members", get().to(members));
}

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut after: Option<String> = None;
    list::respond("[", "]", move || {
        let registry = hub.registry.lock();
        let rows = registry.llms_after(&caller, after.as_deref()).take(PAGE);
        let rows: Vec<LlmRow> = rows.map(|llm| registry.llm_row(&caller, llm)).collect();
        drop(registry);
        after = rows.last().map(|row| row.name.clone());
        let more = rows.len() == PAGE;
        (rows, more)
    })
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let row = registry.llm(&caller, &name).map(|llm| registry.llm_row(&caller, llm));
    drop(registry);
    Ok(HttpResponse::Ok().json(row.ok_or_else(|| ApiError::not_found("LLM", &name))?))
}

async fn members(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let pool = hub.registry.lock().pool(&caller, &name);
    let pool = pool.ok_or_else(|| ApiError::not_found("LLM", &name))?;
    let open = format!(
        r#"{{"poolName":{},"explicit":{},"size":{},"activeCount":{},"members":["#,
        quote(&pool.key),
        pool.explicit,
        pool.size,
        pool.active
    );
    let mut after: Option<String> = None;
    Ok(list::respond(&open, "]}", move || {
        let registry = hub.registry.lock();
        let rows = registry.members_after(&caller, &pool.key, after.as_deref()).take(PAGE);
        let rows: Vec<LlmRow> = rows.map(|llm| registry.llm_row(&caller, llm)).collect();
        after = rows.last().map(|row| row.name.clone());
        let more = rows.len() == PAGE;
        (rows, more)
    }))
}
