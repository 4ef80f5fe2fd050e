//! `GET /v1/models`, `/v1/models/{id}`: what `model` may name, in OpenAI's shape.

use std::collections::HashSet;

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, get};
use serde::Serialize;
use wire::row::{Status, Timestamp};

use super::list::PAGE;
use super::{HubData, list};
use crate::error::{ApiError, ErrorKind};
use crate::model::{Caller, Llm};
use crate::registry::Registry;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/v1/models", get().to(all)).route("/v1/models/{id}", get().to(one));
}

#[derive(Serialize)]
struct Model {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: String,
}

impl Model {
    fn of(id: &str, created: Timestamp, owner: &str) -> Self {
        Self { id: id.to_owned(), object: "model", created: created.0 / 1000, owned_by: owner.to_owned() }
    }
}

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut walk = Walk::default();
    list::respond(r#"{"object":"list","data":["#, "]}", move || {
        let registry = hub.registry.lock();
        let mut models = walk.page(&registry, &caller);
        // Whoever sees all of it at once sees it in order.
        if walk.is_over() {
            models.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        (models, !walk.is_over())
    })
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
    let alive = |status| status != Status::Inactive;
    let member =
        || registry.members(caller, id).find(|llm| registry.pool_of(llm).is_some() && alive(llm.status));
    let agent = || registry.agent(caller, id).filter(|agent| alive(agent.status));
    here(registry, caller, id)
        .or_else(member)
        .map(|llm| Model::of(id, llm.created_at, &llm.owner))
        .or_else(|| agent().map(|agent| Model::of(id, agent.created_at, &agent.owner)))
}

/// A walk over what `model` may name: rows with the pools that they name, then agents, as `model` is looked up; the first
/// of a name has it.
#[derive(Default)]
struct Walk {
    /// The last row, and the last agent, that was looked at.
    row: Option<String>,
    agent: Option<String>,
    stage: Stage,
    /// The pools that were told.
    pools: HashSet<String>,
}

#[derive(Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Rows,
    Agents,
    Over,
}

impl Walk {
    fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn page(&mut self, registry: &Registry, caller: &Caller) -> Vec<Model> {
        let mut models = Vec::new();
        let mut left = PAGE;
        if self.stage == Stage::Rows {
            left = self.rows(registry, caller, left, &mut models);
        }
        if self.stage == Stage::Agents && left > 0 {
            self.agents(registry, caller, left, &mut models);
        }
        models
    }

    /// Looks at so many rows; how many more may be looked at.
    fn rows(&mut self, registry: &Registry, caller: &Caller, most: usize, models: &mut Vec<Model>) -> usize {
        let (mut looked, mut last) = (0, None);
        for llm in registry.llms_after(caller, self.row.as_deref()).take(most) {
            looked += 1;
            last = Some(llm.name.clone());
            if llm.status == Status::Inactive {
                continue;
            }
            models.push(Model::of(&llm.name, llm.created_at, &llm.owner));
            let Some(pool) = registry.pool_of(llm).filter(|pool| !self.pools.contains(*pool)) else {
                continue;
            };
            self.pools.insert(pool.to_owned());
            if here(registry, caller, pool).is_none() {
                models.push(Model::of(pool, llm.created_at, &llm.owner));
            }
        }
        self.row = last;
        if looked < most {
            self.stage = Stage::Agents;
        }
        most - looked
    }

    fn agents(&mut self, registry: &Registry, caller: &Caller, most: usize, models: &mut Vec<Model>) {
        let (mut looked, mut last) = (0, None);
        for agent in registry.agents_after(caller, self.agent.as_deref()).take(most) {
            looked += 1;
            last = Some(agent.name.clone());
            let is_other = here(registry, caller, &agent.name).is_some() || self.pools.contains(&agent.name);
            if agent.status != Status::Inactive && !is_other {
                models.push(Model::of(&agent.name, agent.created_at, &agent.owner));
            }
        }
        self.agent = last;
        if looked < most {
            self.stage = Stage::Over;
        }
    }
}

/// The row `name`, if the caller sees it and somebody answers for it.
fn here<'a>(registry: &'a Registry, caller: &Caller, name: &str) -> Option<&'a Llm> {
    registry.llm(caller, name).filter(|llm| llm.status != Status::Inactive)
}
