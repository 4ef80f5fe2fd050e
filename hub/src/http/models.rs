//! `GET /v1/models` and `/v1/models/{id}`: the names that `model` may have, in the format of OpenAI's API.

use std::collections::HashSet;

use actix_web::HttpResponse;
use actix_web::web::{Path, ServiceConfig, get};
use serde::Serialize;
use wire::row::{Status, Timestamp};

use super::list::{PAGE, pages};
use crate::error::ApiError;
use crate::hub::HubData;
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
    pages(r#"{"object":"list","data":["#, "]}", move || {
        let registry = hub.registry.lock();
        let mut models = walk.page(&registry, &caller);
        // A list of one page is sorted.
        if walk.is_over() {
            models.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        (models, !walk.is_over())
    })
}

async fn one(hub: HubData, caller: Caller, id: Path<String>) -> Result<HttpResponse, ApiError> {
    let registry = hub.registry.lock();
    let model = model(&registry, &caller, &id).or_else(|| {
        let target = model(&registry, &caller, registry.alias_target(&caller, &id)?)?;
        Some(Model { id: id.to_string(), ..target })
    });
    drop(registry);
    Ok(HttpResponse::Ok().json(model.ok_or_else(|| ApiError::model_not_found(&id))?))
}

/// The model `id`, found without a walk over the list.
fn model(registry: &Registry, caller: &Caller, id: &str) -> Option<Model> {
    let alive = |status| status != Status::Inactive;
    let member =
        || registry.members(caller, id).find(|llm| registry.pool_of(llm).is_some() && alive(llm.status));
    let agent = || registry.agent(caller, id).filter(|agent| alive(agent.status));
    active_llm(registry, caller, id)
        .or_else(member)
        .map(|llm| Model::of(id, llm.created_at, &llm.owner))
        .or_else(|| agent().map(|agent| Model::of(id, agent.created_at, &agent.owner)))
}

/// A walk over all models in the order in which `model` is resolved: rows and their pools, then agents, then aliases that are
/// no patterns. The first of a name wins.
#[derive(Default)]
struct Walk {
    /// The names of the last row, the last agent and the last alias that were visited.
    row: Option<String>,
    agent: Option<String>,
    alias: Option<String>,
    stage: Stage,
    /// The pools that were listed.
    pools: HashSet<String>,
}

#[derive(Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Rows,
    Agents,
    Aliases,
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
            left = self.agents(registry, caller, left, &mut models);
        }
        if self.stage == Stage::Aliases && left > 0 {
            self.aliases(registry, caller, left, &mut models);
        }
        models
    }

    /// Visits up to `most` rows and returns how many of them are left.
    fn rows(&mut self, registry: &Registry, caller: &Caller, most: usize, models: &mut Vec<Model>) -> usize {
        let (mut visited, mut last) = (0, None);
        for llm in registry.llms_after(caller, self.row.as_deref()).take(most) {
            visited += 1;
            last = Some(llm.name.clone());
            if llm.status == Status::Inactive {
                continue;
            }
            models.push(Model::of(&llm.name, llm.created_at, &llm.owner));
            let Some(pool) = registry.pool_of(llm).filter(|pool| !self.pools.contains(*pool)) else {
                continue;
            };
            self.pools.insert(pool.to_owned());
            if active_llm(registry, caller, pool).is_none() {
                models.push(Model::of(pool, llm.created_at, &llm.owner));
            }
        }
        self.row = last;
        if visited < most {
            self.stage = Stage::Agents;
        }
        most - visited
    }

    /// Visits up to `most` agents and returns how many of them are left.
    fn agents(
        &mut self,
        registry: &Registry,
        caller: &Caller,
        most: usize,
        models: &mut Vec<Model>,
    ) -> usize {
        let (mut visited, mut last) = (0, None);
        for agent in registry.agents_after(caller, self.agent.as_deref()).take(most) {
            visited += 1;
            last = Some(agent.name.clone());
            let is_taken =
                active_llm(registry, caller, &agent.name).is_some() || self.pools.contains(&agent.name);
            if agent.status != Status::Inactive && !is_taken {
                models.push(Model::of(&agent.name, agent.created_at, &agent.owner));
            }
        }
        self.agent = last;
        if visited < most {
            self.stage = Stage::Aliases;
        }
        most - visited
    }

    fn aliases(&mut self, registry: &Registry, caller: &Caller, most: usize, models: &mut Vec<Model>) {
        let after = self.alias.take();
        let mut visited = 0;
        for (name, target) in registry.served_aliases_after(caller, after.as_deref()).take(most) {
            visited += 1;
            self.alias = Some(name.to_owned());
            let target = model(registry, caller, target);
            models.extend(target.map(|target| Model { id: name.to_owned(), ..target }));
        }
        if visited < most {
            self.stage = Stage::Over;
        }
    }
}

/// The row `name`, if the caller sees it and it is not inactive.
fn active_llm<'a>(registry: &'a Registry, caller: &Caller, name: &str) -> Option<&'a Llm> {
    registry.llm(caller, name).filter(|llm| llm.status != Status::Inactive)
}
