//! `GET /api/v1/audit?since=&user=&llm=&id=&limit=`: inferences, newest first; a member's own, all for an admin.

use actix_web::HttpResponse;
use actix_web::web::Query;
use serde::Deserialize;
use wire::row::Timestamp;

use super::list::{limit, moment};
use super::openapi::{Routes, about, shape};
use crate::clock;
use crate::error::{ApiError, ErrorKind};
use crate::hub::HubData;
use crate::model::{AuditRecord, Caller, Role};
use crate::store::AuditQuery;

/// Largest `limit`.
const MAX_ROWS: usize = 1000;
/// Default of `limit`.
const DEFAULT_ROWS: usize = 100;

pub(super) fn register(routes: &mut Routes<'_>) {
    routes.get(
        "/api/v1/audit",
        list,
        about("Inferences, newest first")
            .query("since", "A time before now such as 7d, or a moment in RFC 3339")
            .query("user", "Only calls of this user")
            .query("llm", "Only calls of this LLM")
            .query("id", "The id of an inference, of its task or of its request")
            .limit("Most rows, 100 unless given, at most 1,000")
            .returns(200, shape::<Vec<AuditRecord>>)
            .refuses(&[ErrorKind::StoreUnavailable]),
    );
}

#[derive(Deserialize)]
struct AuditQueryParams {
    #[serde(default)]
    llm: Option<String>,
    /// Only calls of this user. A caller who is no admin gets no rows of another user.
    #[serde(default)]
    user: Option<String>,
    /// RFC 3339, or a time before now.
    #[serde(default)]
    since: Option<String>,
    /// The id of an inference, of its task or of its request.
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    limit: Option<String>,
}

async fn list(
    hub: HubData,
    caller: Caller,
    query: Query<AuditQueryParams>,
) -> Result<HttpResponse, ApiError> {
    let AuditQueryParams { llm, user, since, id, limit: rows } = query.into_inner();
    let limit = limit(rows.as_deref(), DEFAULT_ROWS, MAX_ROWS)?;
    let since = since.as_deref().map(since_moment).transpose()?;
    let user = match (caller.role, user.map(|user| hub.tokens.spelling(user))) {
        (Role::Admin, user) => user,
        (Role::Member, Some(user)) if user != caller.user => return Ok(HttpResponse::Ok().json([(); 0])),
        (Role::Member, _) => Some(caller.user.clone()),
    };
    let as_member = caller.role == Role::Member;
    let rows =
        hub.search(&caller, AuditQuery { user, llm, owner: None, since, id, limit, as_member }).await?;
    Ok(HttpResponse::Ok().json(rows.into_iter().map(|row| shown(row, &caller)).collect::<Vec<_>>()))
}

fn since_moment(text: &str) -> Result<Timestamp, ApiError> {
    moment(text, clock::now()).ok_or_else(|| {
        ApiError::bad_request(
            "since: a time before now such as 7d or 2h, or a moment such as 2026-01-31T00:00:00Z",
        )
    })
}

/// The record as the caller reads it: a row that is hidden from the caller is shown as the agent through which it was
/// reached.
fn shown(mut record: AuditRecord, caller: &Caller) -> AuditRecord {
    if let Some(agent) = record.through.take().filter(|_| caller.role != Role::Admin) {
        record.llm = agent;
        record.model = String::new();
        record.publisher = None;
    }
    record
}
