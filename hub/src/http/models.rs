//! `GET /v1/models` and `/v1/models/{id}`: the names that `model` may have, in the format of OpenAI's API, and for clients of
//! Anthropic's in theirs.

use std::collections::HashMap;

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
use crate::registry::{KnownTargets, Offer, Registry};

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
pub(super) struct Offers {
    offers: HashMap<String, Option<Offer>>,
    known: KnownTargets,
}

impl Offers {
    fn of_name(&mut self, registry: &Registry, caller: &Caller, name: &str, status: Status) -> Offer {
        let known = self.offers.get(name).copied();
        let offer = known.unwrap_or_else(|| {
            let offer = registry.offer(caller, name);
            self.offers.insert(name.to_owned(), offer);
            offer
        });
        offer.unwrap_or(Offer::unknown(status))
    }

    /// The offer of an agent: that of its LLM's name, which tells nothing to a caller who does not see what has the name. Rows
    /// that the agent opens are hidden, and so is the pool that such a row serves.
    fn of_agent(&mut self, registry: &Registry, caller: &Caller, agent: &Agent) -> Offer {
        if registry.has_its_llm(agent) {
            self.of_name(registry, caller, &agent.llm_name, agent.status)
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
) -> Result<HttpResponse, ApiError> {
    if anthropic::speaks(req.headers()) {
        let list = anthropic::list(&hub, &caller, &query).await;
        return Ok(list.unwrap_or_else(|error| error.response(Dialect::Anthropic)));
    }
    let mut walk = Walk::default();
    pages(&hub, &caller, (r#"{"object":"list","data":["#, "]}"), move |hub, caller, page| {
        let mut models = walk.page(&hub.registry.lock(), caller);
        // A list of one page is sorted.
        if walk.is_over() {
            models.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        }
        for model in &models {
            page.push(model);
        }
        !walk.is_over()
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
pub(super) fn called_model(
    registry: &Registry,
    caller: &Caller,
    id: &str,
    offers: &mut Offers,
) -> Option<Model> {
    let name = registry.called_name_among(caller, id, &mut offers.known)?;
    let target = model(registry, caller, name, offers)?;
    Some(Model { id: id.to_owned(), ..target })
}

/// The model `id`, found without a walk over the list.
fn model(registry: &Registry, caller: &Caller, id: &str, offers: &mut Offers) -> Option<Model> {
    if let Some(llm) = active_llm(registry, caller, id).or_else(|| active_member(registry, caller, id)) {
        let offer = offers.of_name(registry, caller, id, llm.status);
        return Some(Model::of(id, llm.created_at, &llm.owner, offer));
    }
    let agent = registry.agent(caller, id).filter(|agent| agent.status != Status::Inactive)?;
    Some(Model::of(id, agent.created_at, &agent.owner, offers.of_agent(registry, caller, agent)))
}

/// A walk over all models: rows, pools, agents, then aliases that are no patterns. The first of a name wins. A name whose
/// calls go to what an alias stands for is listed as that alias.
#[derive(Default)]
pub(super) struct Walk {
    stage: Stage,
    /// The name of the stage that was visited last. Nothing else is kept between two pages, since the
    /// reader of a list may be slow.
    last: Option<String>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Rows,
    Pools,
    Agents,
    Aliases,
    Over,
}

impl Walk {
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn page(&mut self, registry: &Registry, caller: &Caller) -> Vec<Model> {
        let (mut models, mut offers, mut left) = (Vec::new(), Offers::default(), PAGE);
        while left > 0 && !self.is_over() {
            left -= self.visit(registry, caller, left, &mut offers, &mut models);
        }
        models
    }

    /// Visits up to `most` names of the stage, and returns their number. Fewer end the stage.
    fn visit(
        &mut self,
        registry: &Registry,
        caller: &Caller,
        most: usize,
        offers: &mut Offers,
        models: &mut Vec<Model>,
    ) -> usize {
        let (after, mut visited) = (self.last.take(), 0);
        let mut add = |name: &str, model: Option<Model>| {
            visited += 1;
            self.last = Some(name.to_owned());
            models.extend(model);
        };
        let after = after.as_deref();
        // Not borrowed from `offers`, which builds a model meanwhile.
        let mut known = std::mem::take(&mut offers.known);
        let mut named = |name: &str| model(registry, caller, name, offers);
        let next = match self.stage {
            Stage::Rows => {
                for llm in registry.llms_after(caller, after).take(most) {
                    let is_listed =
                        llm.status != Status::Inactive && is_called(registry, caller, &llm.name, &mut known);
                    add(&llm.name, is_listed.then(|| named(&llm.name)).flatten());
                }
                Stage::Pools
            }
            Stage::Pools => {
                for pool in registry.pool_names_after(caller, after).take(most) {
                    let is_listed = active_llm(registry, caller, pool).is_none()
                        && active_member(registry, caller, pool).is_some()
                        && is_called(registry, caller, pool, &mut known);
                    add(pool, is_listed.then(|| named(pool)).flatten());
                }
                Stage::Agents
            }
            Stage::Agents => {
                for Agent { name, status, .. } in registry.agents_after(caller, after).take(most) {
                    let is_listed = *status != Status::Inactive
                        && active_llm(registry, caller, name).is_none()
                        && active_member(registry, caller, name).is_none()
                        && is_called(registry, caller, name, &mut known);
                    add(name, is_listed.then(|| named(name)).flatten());
                }
                Stage::Aliases
            }
            Stage::Aliases => {
                for (name, target) in registry.alias_names_after(caller, after, &mut known).take(most) {
                    let target = target.and_then(&mut named);
                    add(name, target.map(|target| Model { id: name.to_owned(), ..target }));
                }
                Stage::Over
            }
            Stage::Over => Stage::Over,
        };
        offers.known = known;
        if visited < most {
            self.stage = next;
            self.last = None;
        }
        visited
    }
}

/// The row `name`, if the caller sees it and it is not inactive.
fn active_llm<'a>(registry: &'a Registry, caller: &Caller, name: &str) -> Option<&'a Llm> {
    registry.llm(caller, name).filter(|llm| llm.status != Status::Inactive)
}

/// A row that serves the pool `pool` and is not inactive, if the caller sees one.
fn active_member<'a>(registry: &'a Registry, caller: &Caller, pool: &str) -> Option<&'a Llm> {
    let mut members = registry.members(caller, pool);
    members.find(|llm| registry.pool_of(llm).is_some() && llm.status != Status::Inactive)
}

/// Whether calls of `caller` for `name` go to what has the name.
fn is_called(registry: &Registry, caller: &Caller, name: &str, known: &mut KnownTargets) -> bool {
    registry.called_name_among(caller, name, known) == Some(name)
}
