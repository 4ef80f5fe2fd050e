//! `GET /api/v1/sessions`: the caller's publishers; all of them for an admin.

use actix_web::HttpResponse;
use actix_web::web::{ServiceConfig, get};

use super::{HubData, list};
use crate::model::Caller;
use crate::registry::SessionCursor;

/// Sessions that are looked up and written at once name so many rows and agents: a third of a millisecond's work.
const NAMES: usize = 1024;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/sessions", get().to(all));
}

async fn all(hub: HubData, caller: Caller) -> HttpResponse {
    let mut before: Option<SessionCursor> = None;
    list::respond("[", "]", move || {
        let page = hub.registry.lock().sessions_before(&caller, before.as_ref(), NAMES);
        before = page.0.last().map(|session| (session.created_at, session.id.as_str().into()));
        page
    })
}
