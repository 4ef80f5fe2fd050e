//! `GET /api/v1/inference-tasks`.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::http::header::LINK;
use actix_web::web::Query;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wire::row::Timestamp;

use super::ended_view;
use super::owned;
use super::result::STORE_READS;
use crate::connections::turn;
use crate::error::ApiError;
use crate::http::list::{is_owned, limit};
use crate::hub::HubData;
use crate::model::{Caller, Role};
use crate::store::ListCursor;
use crate::telemetry::TaskView;

/// Largest and default `limit`.
const PAGE: usize = 200;

/// The page of tasks older than `before`. If there may be more, the header `Link` has the address of the next page.
pub(super) async fn list(
    hub: HubData,
    caller: Caller,
    query: Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    let limit = limit(query.get("limit").map(String::as_str), PAGE, PAGE)?;
    if is_owned(query.get("scope").map(String::as_str))? {
        return Ok(HttpResponse::Ok().json(owned::list(&hub, &caller, limit).await?));
    }
    let before = match query.get("before") {
        None => ListCursor::end(),
        Some(text) => cursor(text).ok_or_else(|| {
            ApiError::bad_request("before: createdAt of a page's last task, a comma, and its id")
        })?,
    };
    let mut tasks = hub.tasks.list(&caller, &before, limit);
    tasks.extend(hub.watch.tasks(&caller, &before, limit));
    let owner = (caller.role != Role::Admin).then_some(caller.user.as_str());
    let ended = {
        let _turn = turn(&STORE_READS, &caller.user).await;
        hub.store.ended_tasks(owner, &before, limit).await?
    };
    tasks.extend(ended.iter().map(|task| ended_view(&hub, &caller, task)));
    tasks.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    // A task that has just ended may be in both lists.
    tasks.dedup_by(|a, b| a.id == b.id);
    tasks.truncate(limit);
    let mut response = HttpResponse::Ok();
    if let Some(last) = tasks.get(limit - 1) {
        response.insert_header((LINK, next_page(last, limit)));
    }
    Ok(response.json(tasks))
}

fn next_page(last: &TaskView, limit: usize) -> String {
    let id = utf8_percent_encode(&last.id, NON_ALPHANUMERIC);
    let at = last.created_at;
    format!("</api/v1/inference-tasks?limit={limit}&before={at},{id}>; rel=\"next\"")
}

/// Parses a moment, optionally followed by a comma and the id of a task of that moment.
fn cursor(text: &str) -> Option<ListCursor> {
    let (moment, id) = text.split_once(',').unwrap_or((text, ""));
    let created_at = Timestamp(moment.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    Some(ListCursor { created_at, id: id.to_owned() })
}
