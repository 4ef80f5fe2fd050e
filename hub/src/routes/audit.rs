//! `GET /api/v1/audit`: what was inferred, newest first; a member reads its own, an admin all.

use actix_web::HttpResponse;
use actix_web::web::{Query, ServiceConfig, get};
use serde::{Deserialize, Serialize};
use wire::row::Timestamp;

use super::HubData;
use crate::error::ApiError;
use crate::model::{AuditRecord, Caller, Role};

/// Most rows in one answer.
const MOST: usize = 1000;
/// Rows in an answer to one who does not say how many.
const SOME: usize = 100;

pub(super) fn register(config: &mut ServiceConfig) {
    config.route("/api/v1/audit", get().to(list));
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    llm: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View {
    task: String,
    user: String,
    llm: String,
    model: String,
    publisher: Option<String>,
    streaming: bool,
    status: u16,
    created_at: Timestamp,
    first_byte_ms: Option<u64>,
    total_ms: u64,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
}

async fn list(hub: HubData, caller: Caller, wanted: Query<Wanted>) -> Result<HttpResponse, ApiError> {
    let user = (caller.role != Role::Admin).then_some(caller.user.as_str());
    // What ended just now is in the answer, too.
    hub.watch.flush().await;
    let limit = wanted.limit.unwrap_or(SOME).min(MOST);
    let rows = hub.store.audit(user, wanted.llm.as_deref(), limit).await?;
    Ok(HttpResponse::Ok().json(rows.into_iter().map(|row| View::of(row, &caller)).collect::<Vec<_>>()))
}

impl View {
    /// A row that is hidden from its caller reads as the agent through which it was asked.
    fn of(row: AuditRecord, caller: &Caller) -> Self {
        let through = row.through.filter(|_| caller.role != Role::Admin);
        let shown = through.is_none();
        Self {
            task: row.task,
            user: row.user,
            llm: through.unwrap_or(row.llm),
            model: if shown { row.model } else { String::new() },
            publisher: row.publisher.filter(|_| shown),
            streaming: row.streaming,
            status: row.status,
            created_at: row.created_at,
            first_byte_ms: row.first_byte_ms,
            total_ms: row.total_ms,
            input_tokens: row.input_tokens,
            output_tokens: row.output_tokens,
        }
    }
}
