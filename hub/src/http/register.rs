//! `POST /api/v1/llms/_provider-register` (SPEC.md section 3.1).

use actix_web::web::{Payload, ServiceConfig, post};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use wire::register::RegisterRequest;
use wire::row::{AgentRow, LlmRow};

use super::{HubData, body, naming};
use crate::error::{ApiError, ErrorKind};
use crate::model::{Agent, Caller};
use crate::news::news;
use crate::quota::{too_large, too_many};
use crate::random;
use crate::registry::{RegisterRefusal, check};

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/_provider-register", post().to(respond));
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    provider_session_id: String,
    llms: Vec<LlmRow>,
    agents: Vec<AgentRow>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

async fn respond(
    hub: HubData,
    caller: Caller,
    req: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, ApiError> {
    naming::may_ask(&hub, &caller)?;
    let request: RegisterRequest = body::checked(&req, payload, check)
        .await
        .map_err(|error| naming::refused(&hub, &caller, [], error))?;
    naming::may_ask(&hub, &caller)?;
    if hub.is_stopping() {
        return Err(ApiError::hub_stopping());
    }
    let registered = hub.try_change(|registry| {
        let mut registered = registry.register(&caller, &request, &random::id, hub.now())?;
        let changes = std::mem::take(&mut registered.changes);
        hub.offer_rows_of(registry, &registered.session);
        hub.agents_changed(registry, registered.agents.iter().map(|agent| agent.name.as_str()));
        // A row that was deleted may be back, for agents of whoever.
        hub.offer_detached();
        let rows: Vec<LlmRow> = registered.llms.iter().map(|llm| registry.llm_row(&caller, llm)).collect();
        Ok(((registered, rows), changes))
    });
    let ((registered, llms), written) = registered.map_err(|refusal| {
        let error = match refusal {
            RegisterRefusal::Invalid(text) => ApiError::bad_request(text),
            RegisterRefusal::Conflict(text) => ApiError::new(ErrorKind::Conflict, text),
            RegisterRefusal::TooMany(most, what) => too_many(most, what),
            RegisterRefusal::TooLarge(most) => too_large(most),
        };
        naming::refused(&hub, &caller, naming::names_of(&request), error)
    })?;
    for warning in &registered.warnings {
        news!(warn, "warnings to register calls", &caller.user, "register by {}: {warning}", caller.user);
    }
    written.await?;
    Ok(HttpResponse::Created().json(Answer {
        provider_session_id: registered.session,
        llms,
        agents: registered.agents.iter().map(Agent::row).collect(),
        warnings: registered.warnings,
    }))
}
