//! One file a route. Who may is asked by the guard around all of them; what a route refuses is an [`ApiError`].
//!
//! [`ApiError`]: crate::error::ApiError

mod agents;
mod audit;
mod body;
pub(crate) mod catch_panic;
mod console;
mod decode;
mod drain;
mod events;
pub(crate) mod front;
mod healthz;
mod heartbeat;
mod infer;
mod limit;
mod list;
mod llm_tasks;
mod llms;
mod manage;
mod metrics;
mod models;
mod names;
pub(crate) mod naming;
mod openai;
pub(crate) mod paths;
mod pools;
mod readyz;
mod register;
pub(crate) mod response_quota;
mod result;
mod sessions;
mod stream;
mod task_answers;
mod task_list;
mod task_result;
mod task_stream;
mod tasks;
mod tokens;
pub(crate) mod trace;
mod upload;
mod whoami;

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};

use crate::hub::Hub;

/// The hub, as routes get it.
pub(crate) type HubData = Data<Hub>;

/// All routes on one hub.
pub(crate) fn register(hub: &Arc<Hub>) -> impl Fn(&mut ServiceConfig) + Clone + use<> {
    let hub = hub.clone();
    move |config| {
        config.app_data(Data::from(hub.clone())).app_data(Data::from(hub.tokens.clone()));
        // Routes are tried in this order, and one with a name in it costs a regular expression: what every call takes comes first.
        openai::register(config);
        task_answers::register(config);
        healthz::register(config);
        readyz::register(config);
        metrics::register(config);
        tokens::register(config);
        sessions::register(config);
        whoami::register(config);
        audit::register(config);
        tasks::register(config);
        // Before `/{name}`: no LLM's name begins with `_`.
        register::register(config);
        stream::register(config);
        heartbeat::register(config);
        drain::register(config);
        llms::register(config);
        manage::register(config);
        agents::register(config);
        pools::register(config);
        names::register(config);
        llm_tasks::register(config);
        infer::register(config);
        models::register(config);
        events::register(config);
        console::register(config);
    }
}
