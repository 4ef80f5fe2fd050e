//! Lists of models in the format of Anthropic's API. Its client refuses objects that lack a member.

use std::collections::BTreeSet;

use actix_web::HttpResponse;
use actix_web::http::header::HeaderMap;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::task::yield_now;
use wire::Capabilities;
use wire::json::quote;
use wire::row::Timestamp;

use super::{Model, Offers, Walk, called_model};
use crate::error::ApiError;
use crate::http::list::{ListPermit, PAGE, limit, pages_under};
use crate::hub::HubData;
use crate::model::Caller;

/// Default and maximum of `limit` in Anthropic's API.
const LIMIT: usize = 20;
const MAX_LIMIT: usize = 1000;
/// Bytes that an id takes: at most 100, and its place in a list.
const ID_BYTES: usize = 160;

/// Whether a request comes from a client of Anthropic's API.
pub(super) fn speaks(headers: &HeaderMap) -> bool {
    headers.contains_key("anthropic-version") || headers.contains_key("x-api-key")
}

/// A page of a list.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the shape of an answer, which is written a page at a time")]
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
    hub: &HubData,
    caller: &Caller,
    query: &[(String, String)],
) -> Result<HttpResponse, ApiError> {
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let most = limit(value("limit"), LIMIT, MAX_LIMIT)?;
    let side = match (value("after_id"), value("before_id")) {
        (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("before_id, after_id: one of them, not both"));
        }
        (after, None) => Side::After(after.unwrap_or_default().to_owned()),
        (None, Some(before)) => Side::Before(before.to_owned()),
    };
    let mut stages = query.iter().filter(|(key, _)| matches!(key.as_str(), "lifecycle" | "lifecycle[]"));
    let has_filter = stages.clone().next().is_some();
    // Short lists take a permit, too, because the walk goes over all models.
    let permit = ListPermit::take(hub, caller, most * ID_BYTES)?;
    let mut part = Part { ids: BTreeSet::new(), side, most };
    if !has_filter || stages.any(|(_, stage)| stage == "active") {
        let mut walk = Walk::default();
        while !walk.is_over() {
            walk.page(&hub.registry.lock(), caller).into_iter().for_each(|model| part.add(model.id));
            // Other connections get the thread between two pages.
            yield_now().await;
        }
    }
    let (ids, has_more) = part.finish();
    let id = |id: Option<&String>| id.map_or_else(|| "null".to_owned(), |id| quote(id));
    let close =
        format!(r#"],"has_more":{has_more},"first_id":{},"last_id":{}}}"#, id(ids.first()), id(ids.last()));
    let mut ids = ids.into_iter();
    pages_under(hub, caller, (r#"{"data":["#, close.as_str()), Some(permit), move |hub, caller, page| {
        let (registry, mut offers) = (hub.registry.lock(), Offers::default());
        // A model that is gone since the walk is left out.
        let mut models = ids.by_ref().take(PAGE).map(|id| called_model(&registry, caller, &id, &mut offers));
        models.all(|model| model.is_none_or(|model| page.push(&info(model))));
        ids.len() > 0
    })
}

/// The ids that a part of the list begins after or ends before.
enum Side {
    After(String),
    Before(String),
}

/// The `most` ids next to a side, and one more if there are more. The list may be long: no others are kept.
struct Part {
    ids: BTreeSet<String>,
    side: Side,
    most: usize,
}

impl Part {
    fn add(&mut self, id: String) {
        let is_in = match &self.side {
            Side::After(after) => id > *after,
            Side::Before(before) => id < *before,
        };
        if is_in && self.ids.insert(id) && self.ids.len() > self.most + 1 {
            self.drop_farthest();
        }
    }

    fn drop_farthest(&mut self) {
        match self.side {
            Side::After(_) => self.ids.pop_last(),
            Side::Before(_) => self.ids.pop_first(),
        };
    }

    /// The ids in order, and whether there are more on their far side.
    fn finish(mut self) -> (Vec<String>, bool) {
        let has_more = self.ids.len() > self.most;
        if has_more {
            self.drop_farthest();
        }
        (self.ids.into_iter().collect(), has_more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_next_to_its_cursor() {
        let part = |side, most| {
            let mut part = Part { ids: BTreeSet::new(), side, most };
            for id in ["c", "a", "d", "b", "a", "d"] {
                part.add(id.to_owned());
                assert!(part.ids.len() <= most + 1, "{:?}", part.ids);
            }
            let (ids, more) = part.finish();
            (ids.concat(), more)
        };
        let after = |id: &str, most| part(Side::After(id.to_owned()), most);
        let before = |id: &str, most| part(Side::Before(id.to_owned()), most);
        assert_eq!(after("", 3), ("abc".to_owned(), true));
        assert_eq!(after("", 1), ("a".to_owned(), true));
        assert_eq!(before("z", 2), ("cd".to_owned(), true));
        assert_eq!(after("b", 2), ("cd".to_owned(), false));
        assert_eq!(before("d", 2), ("bc".to_owned(), true));
        assert_eq!(before("c", 2), ("ab".to_owned(), false));
        // The model at the cursor is gone.
        assert_eq!(after("bb", 1), ("c".to_owned(), true));
        assert_eq!(after("z", 1), (String::new(), false));
    }
}
