//! `GET /v1/models` and `/v1/models/{id}`: the names that `model` may have, in the format of OpenAI's API, and for clients of
//! Anthropic's in theirs.

use std::collections::{HashMap, HashSet};

use actix_web::web::{Path, Query};
use actix_web::{HttpRequest, HttpResponse};
use schemars::JsonSchema;
use serde::Serialize;
use wire::Capabilities;
use wire::row::{Status, Timestamp};

use super::list::{PAGE, pages};
use super::openapi::shapes::either;
use super::openapi::{Routes, about, shape};
use crate::error::{ApiError, Dialect, ErrorKind};
use crate::hub::HubData;
use crate::model::{Agent, Caller, Llm};
use crate::registry::{Offer, Registry};

mod anthropic;

pub(super) fn register(routes: &mut Routes<'_>) {
    let about = |summary| {
        let description = "Makes the answer that of Anthropic's API, as `x-api-key` does";
        about(summary).header("anthropic-version", description, shape::<String>).in_both_dialects()
    };
    let page = "Of Anthropic's API: the page of the list";
    routes
        .get(
            "/v1/models",
            all,
            about("The names that a request's `model` may have")
                .query("limit", page)
                .query("after_id", page)
                .query("before_id", page)
                .query("lifecycle", page)
                .returns(200, either::<ModelList, anthropic::List>)
                .refuses(&[ErrorKind::BadRequest]),
        )
        .get(
            "/v1/models/{id}",
            one,
            about("A name that a request's `model` may have")
                .returns(200, either::<Model, anthropic::Info>)
                .refuses(&[ErrorKind::ModelNotFound]),
        );
}

/// The names that a request's `model` may have.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "`all` writes it a page at a time")]
struct ModelList {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct Model {
    pub(super) id: String,
    object: &'static str,
    /// In seconds since the epoch.
    pub(super) created: i64,
    owned_by: String,
    pub(super) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context_length: Option<u32>,
    /// The same number under the name that vLLM gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Capabilities::is_unknown")]
    pub(super) capabilities: Capabilities,
}

impl Model {
    fn of(id: &str, created: Timestamp, owner: &str, offer: Offer) -> Self {
        let Offer { status, abilities } = offer;
        Self {
            id: id.to_owned(),
            object: "model",
            created: created.0 / 1000,
            owned_by: owner.to_owned(),
            status,
            context_length: abilities.context_length,
            max_model_len: abilities.context_length,
            max_output_tokens: abilities.max_output_tokens,
            capabilities: abilities.capabilities,
        }
    }
}

/// The offers of names that agents and aliases point to. Many may point to one large pool, which is then walked once.
#[derive(Default)]
pub(super) struct Offers(HashMap<String, Option<Offer>>);

impl Offers {
    fn of(&mut self, registry: &Registry, caller: &Caller, name: &str, status: Status) -> Offer {
        let known = self.0.get(name).copied();
        let offer = known.unwrap_or_else(|| {
            let offer = registry.offer(caller, name);
            self.0.insert(name.to_owned(), offer);
            offer
        });
        offer.unwrap_or(Offer::unknown(status))
    }

    /// The offer of an agent: that of its LLM's name, which tells nothing to a caller who does not see what has the name. Rows
    /// that the agent opens are hidden, and so is the pool that such a row serves.
    fn of_agent(&mut self, registry: &Registry, caller: &Caller, agent: &Agent) -> Offer {
        if registry.has_its_llm(agent) {
            self.of(registry, caller, &agent.llm_name, agent.status)
        } else {
            Offer::unknown(agent.status)
        }
    }
}

async fn all(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    query: Query<Vec<(String, String)>>,
) -> HttpResponse {
    if anthropic::speaks(req.headers()) {
        let list = anthropic::list(&hub, &caller, &query).await;
        return list.unwrap_or_else(|error| error.response(Dialect::Anthropic));
    }
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

async fn one(hub: HubData, caller: Caller, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let found = called_model(&hub.registry.lock(), &caller, &id, &mut Offers::default());
    match found.ok_or_else(|| ApiError::model_not_found(&id)) {
        Ok(model) if anthropic::speaks(req.headers()) => HttpResponse::Ok().json(anthropic::info(model)),
        Ok(model) => HttpResponse::Ok().json(model),
        Err(error) if anthropic::speaks(req.headers()) => error.response(Dialect::Anthropic),
        Err(error) => error.response(Dialect::OpenAi),
    }
}

/// The model to which a call of `caller` for `id` goes.
pub(super) fn called_model(registry: &Registry, caller: &Caller, id: &str, offers: &mut Offers) -> Option<Model> {
    let target = model(registry, caller, registry.called_name(caller, id)?, offers)?;
    Some(Model { id: id.to_owned(), ..target })
}

/// The model `id`, found without a walk over the list.
fn model(registry: &Registry, caller: &Caller, id: &str, offers: &mut Offers) -> Option<Model> {
    let alive = |status| status != Status::Inactive;
    let member =
        || registry.members(caller, id).find(|llm| registry.pool_of(llm).is_some() && alive(llm.status));
    let agent = || registry.agent(caller, id).filter(|agent| alive(agent.status));
    if let Some(llm) = active_llm(registry, caller, id).or_else(member) {
        let offer = offers.of(registry, caller, id, llm.status);
        return Some(Model::of(id, llm.created_at, &llm.owner, offer));
    }
    let agent = agent()?;
    Some(Model::of(id, agent.created_at, &agent.owner, offers.of_agent(registry, caller, agent)))
}

/// A walk over all models: rows and their pools, then agents, then aliases that are no patterns. The first of a name wins. A
/// name whose calls go to what an alias stands for is listed as that alias.
#[derive(Default)]
pub(super) struct Walk {
    /// The names of the last row, the last agent and the last alias that were visited.
    row: Option<String>,
    agent: Option<String>,
    alias: Option<String>,
    stage: Stage,
    /// The pools that were listed.
    pools: HashSet<String>,
    offers: Offers,
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
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn page(&mut self, registry: &Registry, caller: &Caller) -> Vec<Model> {
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
            let offer = |name: &str| registry.offer(caller, name).unwrap_or(Offer::unknown(llm.status));
            if is_called(registry, caller, &llm.name) {
                models.push(Model::of(&llm.name, llm.created_at, &llm.owner, offer(&llm.name)));
            }
            let Some(pool) = registry.pool_of(llm).filter(|pool| !self.pools.contains(*pool)) else {
                continue;
            };
            self.pools.insert(pool.to_owned());
            if active_llm(registry, caller, pool).is_none() && is_called(registry, caller, pool) {
                models.push(Model::of(pool, llm.created_at, &llm.owner, offer(pool)));
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
            if agent.status != Status::Inactive && !is_taken && is_called(registry, caller, &agent.name) {
                let offer = self.offers.of_agent(registry, caller, agent);
                models.push(Model::of(&agent.name, agent.created_at, &agent.owner, offer));
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
        for (name, target) in registry.alias_names_after(caller, after.as_deref()).take(most) {
            visited += 1;
            self.alias = Some(name.to_owned());
            let target = target.and_then(|target| model(registry, caller, target, &mut self.offers));
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

/// Whether calls of `caller` for `name` go to what has the name.
fn is_called(registry: &Registry, caller: &Caller, name: &str) -> bool {
    registry.called_name(caller, name) == Some(name)
}
