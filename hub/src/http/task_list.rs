//! `GET /api/v1/inference-tasks?limit=&before=`: one page of tasks, newest first.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::http::header::LINK;
use actix_web::web::Query;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wire::row::Timestamp;

use super::HubData;
use super::limit::limit;
use super::task_result::READINGS;
use super::tasks::with_row;
use crate::connections::turn;
use crate::error::ApiError;
use crate::model::{Caller, Role};
use crate::store::ListCursor;
use crate::telemetry::TaskView;

/// Most tasks in a page, and how many without `limit`.
const PAGE: usize = 200;

/// The page behind `before`; where there may be more, the header `Link` has the next one's address.
pub(super) async fn list(
    hub: HubData,
    caller: Caller,
    query: Query<BTreeMap<String, String>>,
) -> Result<HttpResponse, ApiError> {
    let limit = limit(query.get("limit").map(String::as_str), PAGE, PAGE)?;
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
        let _turn = turn(&READINGS, &caller.user).await;
        hub.store.ended_tasks(owner, &before, limit).await?
    };
    tasks.extend(ended.iter().map(|task| with_row(&hub, &caller, task)));
    tasks.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    // One that ended just now may be in both.
    tasks.dedup_by(|a, b| a.id == b.id);
    tasks.truncate(limit);
    let mut response = HttpResponse::Ok();
    if let Some(last) = tasks.get(limit - 1) {
        response.insert_header((LINK, next(last, limit)));
    }
    Ok(response.json(tasks))
}

fn next(last: &TaskView, limit: usize) -> String {
    let id = utf8_percent_encode(&last.id, NON_ALPHANUMERIC);
    let at = last.created_at;
    format!("</api/v1/inference-tasks?limit={limit}&before={at},{id}>; rel=\"next\"")
}

/// A moment, and the id of a task of that moment, which may be left out.
fn cursor(text: &str) -> Option<ListCursor> {
    let (moment, id) = text.split_once(',').unwrap_or((text, ""));
    let created_at = Timestamp(moment.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    Some(ListCursor { created_at, id: id.to_owned() })
}
