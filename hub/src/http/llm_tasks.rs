//! `GET /api/v1/llms/{name}/tasks?limit=N`: the newest inferences of one row, from the audit.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::web::{Path, Query, ServiceConfig, get};
use serde::Serialize;
use wire::row::Timestamp;

use super::HubData;
use super::limit::limit;
use crate::error::ApiError;
use crate::model::{AuditRecord, Caller, Role};
use crate::store::AuditQuery;

/// So many without `limit`: a chart's width.
const USUAL: usize = 50;
/// Most that are told.
const MOST: usize = 500;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/llms/{name}/tasks", get().to(respond));
}

/// One inference.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    /// Who asked; told to admins, and to those who asked.
    user: Option<String>,
    model: String,
    streaming: bool,
    status: u16,
    code: Option<String>,
    created_at: Timestamp,
    first_byte_ms: Option<u64>,
    total_ms: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

/// The row's owner sees how it does for everybody, an admin for whom, anybody else how it did for them.
async fn respond(
    hub: HubData,
    caller: Caller,
    name: Path<String>,
    query: Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    let limit = limit(query.get("limit").map(String::as_str), USUAL, MOST)?;
    let row = hub.registry.lock().llm(&caller, &name).map(|llm| (llm.owner.clone(), llm.created_at));
    let (owner, since) = row.ok_or_else(|| ApiError::not_found("LLM", &name))?;
    let admin = caller.role == Role::Admin;
    let all = admin || owner == caller.user;
    let user = (!all).then_some(caller.user.as_str());
    let records = hub.search(&caller, AuditQuery::of(user, Some(&name), limit)).await?;
    // One of the same name that was there before was another row, and may have been another user's.
    let records = records.into_iter().filter(|record| record.created_at >= since);
    let rows: Vec<Row> =
        records.map(|record| Row::new(record, |user| admin || *user == caller.user)).collect();
    Ok(HttpResponse::Ok().insert_header(("cache-control", "no-store")).json(rows))
}

impl Row {
    fn new(record: AuditRecord, told: impl Fn(&String) -> bool) -> Self {
        Self {
            id: record.task,
            user: Some(record.user).filter(told),
            model: record.model,
            streaming: record.streaming,
            status: record.status,
            code: record.code,
            created_at: record.created_at,
            first_byte_ms: record.first_byte_ms,
            total_ms: record.total_ms,
            input_tokens: record.input_tokens,
            output_tokens: record.output_tokens,
        }
    }
}
