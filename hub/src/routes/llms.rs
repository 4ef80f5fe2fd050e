//! `GET /api/v1/llms`, `/{name}`, `/{name}/members` (SPEC.md section 3.7).

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, get};
use wire::row::LlmRow;

use super::HubData;
use crate::error::ApiError;
use crate::model::Caller;

pub(super) fn register(config: &mut ServiceConfig) {
    config
        .route("/api/v1/llms", get().to(list))
        .route("/api/v1/llms/{name}", get().to(one))
        .route("/api/v1/llms/{name}/members", get().to(members));
}

async fn list(hub: HubData, caller: Caller) -> HttpResponse {
    let registry = hub.registry.lock();
    let rows: Vec<LlmRow> = registry.llms(&caller).map(|llm| registry.llm_row(&caller, llm)).collect();
    drop(registry);
    HttpResponse::Ok().json(rows)
}

async fn one(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let row = registry.llm(&caller, &name).map(|llm| registry.llm_row(&caller, llm));
    drop(registry);
    Ok(HttpResponse::Ok().json(row.ok_or_else(|| ApiError::not_found("LLM", &name))?))
}

async fn members(hub: HubData, caller: Caller, name: Path<String>) -> Result<HttpResponse, ApiError> {
    let pool = hub.registry.lock().pool(&caller, &name);
    Ok(HttpResponse::Ok().json(pool.ok_or_else(|| ApiError::not_found("LLM", &name))?))
}
