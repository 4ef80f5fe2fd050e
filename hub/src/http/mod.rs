//! The HTTP routes, one file a resource, and in [`middleware`] what wraps all of them.
//!
//! Authentication is in [`crate::auth`]; what a route does with the table of LLMs, with inferences and with tasks is in
//! [`crate::registry`], [`crate::dispatch`] and [`crate::tasks`].

mod agents;
mod aliases;
mod audit;
mod body;
mod body_blocks;
mod change;
mod cluster;
mod console;
mod decode;
mod durable_tasks;
mod elsewhere;
mod events;
mod inference;
mod list;
mod llms;
pub(crate) mod middleware;
mod models;
mod names;
pub(crate) mod naming;
mod ollama;
mod openapi;
mod pieces;
mod pools;
mod registrar;
mod resolve;
mod status;
mod stored;
mod tokens;
mod usage;
mod users;

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web::{Data, ServiceConfig};

use self::openapi::Routes;
use crate::hub::Hub;

pub use middleware::inference_path;
#[cfg(test)]
pub(crate) use registrar::accept_link;
pub(crate) use registrar::pass_on_answer;

/// Registers all routes of `hub`.
pub(crate) fn register(hub: &Arc<Hub>) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let hub = hub.clone();
    move |config| {
        config.app_data(Data::from(hub.clone())).app_data(Data::from(hub.tokens.clone()));
        add_routes(&mut Routes::new(config));
    }
}

fn add_routes(routes: &mut Routes<'_>) {
    // actix-router tries routes in this order, and a pattern with a name in it costs a regular expression: the most frequent
    // routes come first.
    routes
        .section("Inference", inference::register)
        .section("Registrars", registrar::register)
        .section("Health", status::register)
        .section("Tokens", tokens::register)
        .section("Users", users::register)
        .section("Audit", audit::register)
        .section("Usage", usage::register)
        .section("Cluster", cluster::register)
        .section("Durable tasks", durable_tasks::register)
        .section("LLMs", llms::register)
        .section("Agents", agents::register)
        .section("Pools", pools::register)
        .section("Names", names::register)
        .section("Aliases", aliases::register)
        .section("Models", models::register)
        .section("Ollama", ollama::register)
        .section("Events", events::register)
        .section("Console", console::register)
        .section("Not stored", stored::register)
        .section("Document", openapi::register);
}

/// The method and the pattern of each route, in the order in which they are tried.
pub(crate) fn registered_routes() -> Vec<(Method, Cow<'static, str>)> {
    let routes = openapi::described_routes();
    routes.into_iter().map(|route| (route.method, route.path)).collect()
}
