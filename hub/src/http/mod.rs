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
mod console;
mod decode;
mod durable_tasks;
mod events;
mod inference;
mod list;
mod llms;
pub(crate) mod middleware;
mod models;
mod names;
pub(crate) mod naming;
mod pools;
mod registrar;
mod status;
mod stored;
mod tokens;

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};

use crate::hub::Hub;

/// Registers all routes of `hub`.
pub(crate) fn register(hub: &Arc<Hub>) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let hub = hub.clone();
    move |config| {
        config.app_data(Data::from(hub.clone())).app_data(Data::from(hub.tokens.clone()));
        // actix-router tries routes in this order, and a pattern with a name in it costs a regular expression: the most
        // frequent routes come first.
        inference::register(config);
        registrar::register(config);
        status::register(config);
        tokens::register(config);
        audit::register(config);
        durable_tasks::register(config);
        llms::register(config);
        agents::register(config);
        pools::register(config);
        names::register(config);
        aliases::register(config);
        models::register(config);
        events::register(config);
        console::register(config);
        stored::register(config);
    }
}
