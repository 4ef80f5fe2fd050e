//! Reads the answers of the known servers. Pure. A value of another type, or out of range, counts as unknown.

use serde_json::Value;
use wire::abilities::{Abilities, Capabilities, MAX_TOKENS};

use crate::ServerKind;

/// The entry of a model in a list; the only entry if none has its id, since some servers answer to any name.
pub(super) fn entry<'a>(list: &'a Value, model: &str) -> &'a Value {
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let named = entries.iter().find(|entry| is_called(&entry["id"], model));
    named.or(if let [only] = entries { Some(only) } else { None }).unwrap_or(&Value::Null)
}

/// Whether a server's name of a model means `model`: Ollama adds a tag to a name without one.
fn is_called(name: &Value, model: &str) -> bool {
    name.as_str().is_some_and(|name| name == model || name.strip_suffix(":latest") == Some(model))
}

/// The program that a list of models names as its owner.
pub(super) fn kind(entry: &Value) -> ServerKind {
    match entry["owned_by"].as_str() {
        Some("llamacpp") => ServerKind::LlamaCpp,
        Some("library") => ServerKind::Ollama,
        Some("organization_owner") => ServerKind::LmStudio,
        _ => ServerKind::Unknown,
    }
}

/// Members of a list of models: vLLM's, llama.cpp's, those of hosted servers, and those of a hub like this.
pub(super) fn listed(entry: &Value) -> Abilities {
    let first = |values: &[&Value]| values.iter().find_map(|value| tokens(value));
    let known = &entry["capabilities"];
    Abilities {
        context_length: first(&[
            &entry["max_model_len"],
            &entry["meta"]["n_ctx"],
            &entry["context_length"],
            &entry["context_window"],
        ]),
        max_output_tokens: first(&[&entry["max_output_tokens"], &entry["max_completion_tokens"]]),
        capabilities: Capabilities {
            tools: known["tools"].as_bool().or(known["function_calling"].as_bool()),
            vision: known["vision"].as_bool().or(has(&entry["architecture"]["input_modalities"], "image")),
            reasoning: known["reasoning"].as_bool(),
            embeddings: known["embeddings"].as_bool(),
        },
    }
}

/// `GET /props` of llama.cpp. Its `n_ctx` is that of one slot.
pub(super) fn llamacpp(props: &Value) -> Abilities {
    let template = &props["chat_template_caps"];
    let is_true = |value: &Value| value.as_bool().filter(|is| *is);
    // A server without `chat_template_caps` has the template alone; one that names no tools says nothing.
    let names_tools = || props["chat_template"].as_str().map(|text| text.contains("tools")).filter(|is| *is);
    Abilities {
        context_length: tokens(&props["default_generation_settings"]["n_ctx"]),
        max_output_tokens: None,
        capabilities: Capabilities {
            tools: template["supports_tools"].as_bool().or_else(names_tools),
            vision: props["modalities"]["vision"].as_bool(),
            // Other templates may reason, too.
            reasoning: is_true(&template["supports_preserve_reasoning"])
                .or(is_true(&template["supports_reasoning_effort"])),
            embeddings: None,
        },
    }
}

/// `POST /api/show` and `GET /api/ps` of Ollama. The context is that of the loaded model, else its parameter `num_ctx`.
pub(super) fn ollama(show: &Value, loaded: &Value, model: &str) -> Abilities {
    let loaded = loaded["models"].as_array().map(Vec::as_slice).unwrap_or_default();
    let loaded = loaded.iter().find(|one| is_called(&one["model"], model) || is_called(&one["name"], model));
    let set = || {
        let lines = show["parameters"].as_str()?.lines();
        let value = lines.filter_map(|line| line.trim().strip_prefix("num_ctx")).next_back()?;
        value.trim().parse().ok().filter(|count| is_count(*count))
    };
    let known = &show["capabilities"];
    Abilities {
        context_length: loaded.and_then(|one| tokens(&one["context_length"])).or_else(set),
        max_output_tokens: None,
        capabilities: Capabilities {
            tools: has(known, "tools"),
            vision: has(known, "vision"),
            reasoning: has(known, "thinking"),
            embeddings: has(known, "embedding"),
        },
    }
}

/// An entry of `GET /api/v0/models` of LM Studio.
pub(super) fn lmstudio(entry: &Value) -> Abilities {
    let kind = entry["type"].as_str();
    Abilities {
        context_length: tokens(&entry["loaded_context_length"]),
        max_output_tokens: None,
        capabilities: Capabilities {
            // Models without it may call tools by a prompt of the server's.
            tools: has(&entry["capabilities"], "tool_use").filter(|is| *is),
            vision: kind.map(|kind| kind == "vlm"),
            reasoning: None,
            embeddings: kind.map(|kind| kind == "embeddings"),
        },
    }
}

/// `GET /v1/models/{id}` of Anthropic.
pub(super) fn anthropic(info: &Value) -> Abilities {
    let known = &info["capabilities"];
    Abilities {
        context_length: tokens(&info["max_input_tokens"]),
        max_output_tokens: tokens(&info["max_tokens"]),
        capabilities: Capabilities {
            vision: known["image_input"]["supported"].as_bool(),
            reasoning: known["thinking"]["supported"].as_bool(),
            ..Capabilities::default()
        },
    }
}

fn tokens(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok().filter(|count| is_count(*count))
}

fn is_count(tokens: u32) -> bool {
    (1..=MAX_TOKENS).contains(&tokens)
}

/// Whether a list of words has `word`; `None` if it is no list.
fn has(list: &Value, word: &str) -> Option<bool> {
    Some(list.as_array()?.iter().any(|one| one == word))
}
