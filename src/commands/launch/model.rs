//! Looks the model up at the hub.

use serde_json::Value;
use wire::ids::encode_uri_component;

use crate::{client::HubClient, config, exit::Failure, output};

/// Most names that an error lists.
const MAX_NAMES: usize = 10;

/// What the hub knows about a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Abilities {
    /// Context length in tokens.
    pub(super) context: Option<u64>,
    /// Tokens of the longest answer.
    pub(super) max_output: Option<u64>,
    /// Whether it calls tools.
    pub(super) tools: Option<bool>,
}

impl Abilities {
    /// Reads a model of `/v1/models`.
    fn of(model: &Value) -> Self {
        let number =
            |keys: &[&str]| keys.iter().find_map(|key| model[*key].as_u64()).filter(|tokens| *tokens > 0);
        Self {
            context: number(&["context_length", "max_model_len"]),
            max_output: number(&["max_output_tokens"]),
            tools: model["capabilities"]["tools"].as_bool(),
        }
    }
}

/// Finds an LLM, a pool, an agent or an alias.
pub(super) async fn find(hub: &HubClient, name: &str) -> Result<Abilities, Failure> {
    let path = encode_uri_component(name);
    if let Some(model) = hub.find(&format!("/v1/models/{path}")).await? {
        return Ok(Abilities::of(&model));
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

/// Error for a name that is not in the list of models.
fn unknown(url: &str, name: &str, list: &Value) -> Failure {
    let models = list["data"].as_array().into_iter().flatten();
    // A hub's text could forge a line of the error.
    let mut names: Vec<_> = models.filter_map(|model| model["id"].as_str()).map(output::printable).collect();
    names.sort_unstable();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
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
    fn the_longest_answer_and_the_use_of_tools_are_read() {
        let model = json!({ "max_output_tokens": 4096, "capabilities": { "tools": false } });
        let expected = Abilities { context: None, max_output: Some(4096), tools: Some(false) };
        assert_eq!(Abilities::of(&model), expected);
        let odd = json!({ "max_output_tokens": 0, "capabilities": { "tools": null } });
        assert_eq!(Abilities::of(&odd), Abilities::default());
    }

    #[test]
    fn the_context_length_is_read_from_either_key() {
        let context = |model: &Value| Abilities::of(model).context;
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
        for forged in ["qwen\nERROR: token expired, run: x", "q\u{202e}wen\u{1b}[2J"] {
            for name in ["qwen", "mistral"] {
                let shown = text(name, &[forged, "glm"]);
                assert_eq!(output::printable(&shown), shown, "{forged:?} is shown as one line of plain text");
            }
        }
        let listed = text("mistral", &many);
        assert!(listed.ends_with("model-number-09 and 3 more"), "{listed}");
    }
}
