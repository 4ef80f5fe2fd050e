//! Lists of models in the format of Anthropic's API. Its client refuses objects that lack a member.

use actix_web::HttpResponse;
use actix_web::http::header::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::yield_now;
use wire::Capabilities;
use wire::row::Timestamp;

use super::{Model, Offers, Walk, called_model};
use crate::error::ApiError;
use crate::http::list::{PAGE, limit};
use crate::hub::Hub;
use crate::model::Caller;

/// Default and maximum of `limit` in Anthropic's API.
const LIMIT: usize = 20;
const MAX_LIMIT: usize = 1000;

/// Whether a request comes from a client of Anthropic's API.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version") || headers.contains_key("x-api-key")
}

/// A page of a list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AnthropicModelList")]
pub(super) struct List {
    data: Vec<Info>,
    has_more: bool,
    first_id: Option<String>,
    last_id: Option<String>,
}

/// A model. Members that are always null are sent, too: the API promises them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AnthropicModel")]
pub(super) struct Info {
    #[serde(rename = "type")]
    object: &'static str,
    id: String,
    display_name: String,
    created_at: Timestamp,
    lifecycle: &'static str,
    deprecated_at: Option<Timestamp>,
    retires_at: Option<Timestamp>,
    line: Option<&'static str>,
    max_input_tokens: Option<u32>,
    max_tokens: Option<u32>,
    capabilities: Option<Value>,
}

pub(super) fn info(model: Model) -> Info {
    Info {
        object: "model",
        display_name: model.id.clone(),
        id: model.id,
        created_at: Timestamp(model.created.saturating_mul(1000)),
        lifecycle: "active",
        deprecated_at: None,
        retires_at: None,
        line: None,
        max_input_tokens: model.context_length,
        max_tokens: model.max_output_tokens,
        capabilities: capabilities(model.capabilities),
    }
}

/// The capabilities. The format has no word for an unknown one, so it is null unless those that depend on the model are known.
/// The others are what the hub does not offer, or promises for no model.
fn capabilities(known: Capabilities) -> Option<Value> {
    let (vision, reasoning) = known.vision.zip(known.reasoning)?;
    let (no, is) = (json!({ "supported": false }), |supported: bool| json!({ "supported": supported }));
    Some(json!({
        "batch": no, "citations": no, "code_execution": no, "pdf_input": no, "structured_outputs": no,
        "image_input": is(vision),
        "context_management": { "supported": false, "clear_thinking_20251015": null,
            "clear_tool_uses_20250919": null, "compact_20260112": null },
        "effort": { "supported": false, "low": no, "medium": no, "high": no, "max": no, "xhigh": null },
        "server_tools": { "supported": false, "code_execution": no, "web_search": no },
        "thinking": { "supported": reasoning, "types": { "adaptive": no, "between_tools": no,
            "disabled": is(true), "enabled": is(reasoning) } },
    }))
}

/// The part of the list that `after_id` or `before_id` and `limit` ask for, in the order of the ids.
pub(super) async fn list(
    hub: &Hub,
    caller: &Caller,
    query: &[(String, String)],
) -> Result<HttpResponse, ApiError> {
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let most = limit(value("limit"), LIMIT, MAX_LIMIT)?;
    let (after, before) = (value("after_id"), value("before_id"));
    if after.is_some() && before.is_some() {
        return Err(ApiError::bad_request("before_id, after_id: one of them, not both"));
    }
    let mut stages = query.iter().filter(|(key, _)| matches!(key.as_str(), "lifecycle" | "lifecycle[]"));
    let has_filter = stages.clone().next().is_some();
    let ids = if has_filter && !stages.any(|(_, stage)| stage == "active") {
        Vec::new()
    } else {
        ids(hub, caller).await
    };
    let (ids, has_more) = page(ids, after, before, most);
    let (mut data, mut offers) = (Vec::with_capacity(ids.len()), Offers::default());
    for ids in ids.chunks(PAGE) {
        {
            let registry = hub.registry.lock();
            // A model that is gone since the walk is left out.
            let found = ids.iter().filter_map(|id| called_model(&registry, caller, id, &mut offers));
            data.extend(found.map(info));
        }
        // Other connections get the thread between two pages.
        yield_now().await;
    }
    let first_id = data.first().map(|info| info.id.clone());
    let last_id = data.last().map(|info| info.id.clone());
    Ok(HttpResponse::Ok().json(List { data, has_more, first_id, last_id }))
}

/// All ids of the list, sorted. A place in it stays valid when models come and go.
async fn ids(hub: &Hub, caller: &Caller) -> Vec<String> {
    let (mut walk, mut ids) = (Walk::default(), Vec::new());
    while !walk.is_over() {
        ids.extend(walk.page(&hub.registry.lock(), caller).into_iter().map(|model| model.id));
        yield_now().await;
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// At most `most` of the sorted `ids` behind `after`, or right before `before`, and whether there are more in that direction.
fn page(mut ids: Vec<String>, after: Option<&str>, before: Option<&str>, most: usize) -> (Vec<String>, bool) {
    if let Some(before) = before {
        ids.truncate(ids.partition_point(|id| id.as_str() < before));
        let surplus = ids.len().saturating_sub(most);
        return (ids.split_off(surplus), surplus > 0);
    }
    let begin = after.map_or(0, |after| ids.partition_point(|id| id.as_str() <= after));
    let mut rest = ids.split_off(begin);
    let has_more = rest.len() > most;
    rest.truncate(most);
    (rest, has_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_next_to_its_cursor() {
        let page = |after, before, most| {
            let (ids, more) = page(["a", "b", "c", "d"].map(str::to_owned).to_vec(), after, before, most);
            (ids.concat(), more)
        };
        assert_eq!(page(None, None, 3), ("abc".to_owned(), true));
        assert_eq!(page(Some("b"), None, 2), ("cd".to_owned(), false));
        assert_eq!(page(None, Some("d"), 2), ("bc".to_owned(), true));
        assert_eq!(page(None, Some("c"), 2), ("ab".to_owned(), false));
        // The model at the cursor is gone.
        assert_eq!(page(Some("bb"), None, 1), ("c".to_owned(), true));
        assert_eq!(page(Some("z"), None, 1), (String::new(), false));
    }
}
