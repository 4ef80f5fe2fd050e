//! Looks the model up at the hub.

use serde_json::Value;
use wire::ids::encode_uri_component;

use crate::{client::HubClient, config, exit::Failure};

/// Most names that an error lists.
const MAX_NAMES: usize = 10;

/// Finds an LLM, a pool, an agent or an alias. Returns its context length in tokens, if the hub knows it.
pub(super) async fn find(hub: &HubClient, name: &str) -> Result<Option<u64>, Failure> {
    let path = encode_uri_component(name);
    if let Some(model) = hub.find(&format!("/v1/models/{path}")).await? {
        return Ok(context(&model));
    }
    let Some(list) = hub.find("/v1/models").await? else {
        return Err(Failure::failed(format!(
            "the hub at {} has no OpenAI-compatible API (/v1/models), which coding agents need",
            hub.url()
        )));
    };
    for (kind, word) in [("llms", "LLM"), ("agents", "agent")] {
        if hub.find(&format!("/api/v1/{kind}/{path}")).await?.is_some() {
            return Err(Failure::failed(format!(
                "the {word} '{name}' is inactive: the machine that publishes it is not connected"
            )));
        }
    }
    Err(unknown(hub.url(), name, &list))
}

/// The context length that a model of `/v1/models` states, in tokens.
fn context(model: &Value) -> Option<u64> {
    ["context_length", "max_model_len"]
        .iter()
        .find_map(|key| model[*key].as_u64())
        .filter(|tokens| *tokens > 0)
}

/// Error for a name that is not in the list of models.
fn unknown(url: &str, name: &str, list: &Value) -> Failure {
    let models = list["data"].as_array().into_iter().flatten();
    let mut names: Vec<_> = models.filter_map(|model| model["id"].as_str()).collect();
    names.sort_unstable();
    let hint = match (config::near_miss(name, &names), names.len()) {
        (Some(near), _) => format!("did you mean '{near}'?"),
        (None, 0) => "it offers none to you".to_owned(),
        (None, count) => {
            let shown = names[..count.min(MAX_NAMES)].join(", ");
            let more = count.saturating_sub(MAX_NAMES);
            if more > 0 { format!("there are {shown} and {more} more") } else { format!("there is {shown}") }
        }
    };
    Failure::failed(format!("there is no LLM, pool or agent '{name}' at {url}: {hint}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_context_length_is_read_from_either_key() {
        assert_eq!(context(&json!({ "id": "a", "context_length": 65536, "max_model_len": 1 })), Some(65536));
        assert_eq!(context(&json!({ "max_model_len": 8192 })), Some(8192));
        for none in [json!({}), json!({ "context_length": null }), json!({ "context_length": 0 }), json!([])]
        {
            assert_eq!(context(&none), None, "{none}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_or_with_some() {
        let text = |name: &str, ids: &[&str]| {
            let data: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
            unknown("http://h", name, &json!({ "data": data })).text().unwrap_or_default().to_owned()
        };
        assert!(text("qwne-coder", &["glm", "qwen-coder"]).ends_with("did you mean 'qwen-coder'?"));
        assert!(text("mistral", &["glm", "alpha"]).ends_with("there is alpha, glm"));
        assert!(text("mistral", &[]).ends_with("it offers none to you"));
        let many: Vec<String> = (0..13).map(|n| format!("model-number-{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let listed = text("mistral", &many);
        assert!(listed.ends_with("model-number-09 and 3 more"), "{listed}");
    }
}
