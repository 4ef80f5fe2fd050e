//! `GET /v1/models`, `/v1/models/{id}`: what `model` may name, in OpenAI's shape.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, get};
use serde::Serialize;
use wire::row::{Status, Timestamp};

use super::HubData;
use crate::error::{ApiError, ErrorKind};
use crate::model::Caller;
use crate::registry::Registry;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/v1/models", get().to(list)).route("/v1/models/{id}", get().to(one));
}

#[derive(Serialize)]
struct Models {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
}

async fn list(hub: HubData, caller: Caller) -> HttpResponse {
    let data = models(&hub.registry.lock(), &caller);
    HttpResponse::Ok().json(Models { object: "list", data })
}

async fn one(hub: HubData, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let model = model(&hub.registry.lock(), &caller, &id);
    Ok(HttpResponse::Ok().json(model.ok_or_else(|| not_found(&id))?))
}

pub(super) fn not_found(model: &str) -> ApiError {
    ApiError::new(ErrorKind::ModelNotFound, format!("model '{model}' not found"))
}

/// As the list has it, without making the list.
fn model(registry: &Registry, caller: &Caller, id: &str) -> Option<Model> {
    let here = |status| status != Status::Inactive;
    let row = registry.llm(caller, id).filter(|llm| here(llm.status));
    let member = || registry.members(caller, id).find(|llm| llm.pool_name.is_some() && here(llm.status));
    let agent = || registry.agent(caller, id).filter(|agent| here(agent.status));
    let of = |created: Timestamp, owner: &str| Model {
        id: id.to_owned(),
        object: "model",
        created: created.0 / 1000,
        owned_by: owner.to_owned(),
    };
    row.or_else(member)
        .map(|llm| of(llm.created_at, &llm.owner))
        .or_else(|| agent().map(|agent| of(agent.created_at, &agent.owner)))
}

/// Rows, then pools, then agents, as `model` is looked up; the first of a name has it.
fn models(registry: &Registry, caller: &Caller) -> Vec<Model> {
    let mut models: BTreeMap<&str, (Timestamp, &str)> = BTreeMap::new();
    let here = |status| status != Status::Inactive;
    for llm in registry.llms(caller).filter(|llm| here(llm.status)) {
        models.insert(&llm.name, (llm.created_at, &llm.owner));
    }
    for llm in registry.llms(caller).filter(|llm| here(llm.status)) {
        if let Some(pool) = &llm.pool_name {
            models.entry(pool).or_insert((llm.created_at, &llm.owner));
        }
    }
    for agent in registry.agents(caller).filter(|agent| here(agent.status)) {
        models.entry(&agent.name).or_insert((agent.created_at, &agent.owner));
    }
    let model = |(id, (created, owner)): (&str, (Timestamp, &str))| Model {
        id: id.to_owned(),
        object: "model",
        created: created.0 / 1000,
        owned_by: owner.to_owned(),
    };
    models.into_iter().map(model).collect()
}
