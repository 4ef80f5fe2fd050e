//! Translates `options`, `format` and `think`.

use super::super::json::Json;
use super::super::{InvalidRequest, invalid, shown};

/// Options that are numbers, and their names at OpenAI-compatible servers: llama.cpp's are mostly Ollama's. Each server ignores the names
/// that it does not know.
const NUMBERS: [(&str, &[&str]); 13] = [
    ("temperature", &["temperature"]),
    ("top_p", &["top_p"]),
    ("top_k", &["top_k"]),
    ("min_p", &["min_p"]),
    ("typical_p", &["typical_p"]),
    ("seed", &["seed"]),
    ("presence_penalty", &["presence_penalty"]),
    ("frequency_penalty", &["frequency_penalty"]),
    // The second one is that of vLLM and SGLang.
    ("repeat_penalty", &["repeat_penalty", "repetition_penalty"]),
    ("repeat_last_n", &["repeat_last_n"]),
    ("mirostat", &["mirostat"]),
    ("mirostat_tau", &["mirostat_tau"]),
    ("mirostat_eta", &["mirostat_eta"]),
];

/// Appends the options that concern one answer. Those that configure the server (`num_ctx`, `num_gpu`, `num_thread` …) are left out.
pub(super) fn put<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let Some(options) = request.get("options") else { return Ok(()) };
    if !options.is_object() {
        return Err(invalid("options must be an object"));
    }
    if let Some(limit) = options.get("num_predict") {
        if !is_number(limit) {
            return Err(wrong_type("num_predict", "a number"));
        }
        // -1 and -2 mean no limit.
        if let Some(limit) = limit.as_count().filter(|limit| *limit > 0) {
            out.put("max_tokens", limit);
        }
    }
    for (name, names) in NUMBERS {
        let Some(value) = options.get(name) else { continue };
        if !is_number(value) {
            return Err(wrong_type(name, "a number"));
        }
        for name in names {
            out.put(name, value.clone());
        }
    }
    let stops = match options.get("stop") {
        None => Vec::new(),
        Some(Json::Array(stops)) if stops.iter().all(Json::is_string) => stops.iter().collect(),
        Some(stop) if stop.is_string() => vec![stop],
        Some(_) => return Err(wrong_type("stop", "a string or an array of strings")),
    };
    let stops: Vec<_> = stops.into_iter().filter(|stop| stop.fragment() != Some("")).cloned().collect();
    if !stops.is_empty() {
        out.put("stop", Json::Array(stops));
    }
    Ok(())
}

/// Appends `response_format`.
pub(super) fn put_format<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let format = match request.get("format") {
        None => return Ok(()),
        Some(schema @ Json::Object(_)) => {
            let schema = Json::object([("name", "answer".into()), ("schema", schema.clone())]);
            Json::object([("type", "json_schema".into()), ("json_schema", schema)])
        }
        Some(word) if word.fragment() == Some("") => return Ok(()),
        Some(word) if word.fragment() == Some("json") => Json::object([("type", "json_object".into())]),
        Some(other) => {
            let other = shown(&other.to_string());
            return Err(invalid(format!(
                "invalid format: {other}; expected \"json\" or a valid JSON Schema object"
            )));
        }
    };
    out.put("response_format", format);
    Ok(())
}

/// Appends what makes a model think or not.
///
/// Servers have no common name for it. Templates of llama.cpp, vLLM and `SGLang` read their variables; of levels, OpenAI's servers
/// and vLLM read `reasoning_effort`. Ollama and `OpenRouter` read `reasoning`. `reasoning_effort: "none"` is not sent, because many
/// servers reject it.
pub(super) fn put_think<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let Some(think) = request.get("think") else { return Ok(()) };
    let text = think.to_string();
    let level = match text.as_str() {
        "true" | "false" => None,
        "\"low\"" | "\"medium\"" | "\"high\"" => Some(think.clone()),
        other => {
            let other = shown(other);
            return Err(invalid(format!(
                "invalid think value: {other} (must be \"high\", \"medium\", \"low\", true, or false)"
            )));
        }
    };
    let does_think = text != "false";
    let mut variables =
        Json::object([("enable_thinking", does_think.into()), ("thinking", does_think.into())]);
    variables.put_some("reasoning_effort", level.clone());
    out.put_some("reasoning_effort", level);
    if !does_think {
        out.put("reasoning", Json::object([("effort", "none".into())]));
    }
    out.put("chat_template_kwargs", variables);
    Ok(())
}

fn is_number(value: &Json<'_>) -> bool {
    matches!(value, Json::Text(text) if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
}

fn wrong_type(option: &str, expected: &str) -> InvalidRequest {
    invalid(format!("option \"{option}\" must be {expected}"))
}
