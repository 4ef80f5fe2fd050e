//! Translates requests.

use wire::json::quote;
use wire::task::Endpoint;

use super::super::json::Json;
use super::super::{InvalidRequest, checked, invalid, shown, tools};
use super::answer::OllamaAnswer;
use super::{OllamaApi, OllamaRequest, OpenAiCall, images, messages, options};

/// Translates the request `body`.
///
/// `keep_alive`, `truncate`, `shift` and the options that configure a server are ignored: the publisher decides them.
pub fn translate(api: OllamaApi, body: &[u8]) -> Result<OllamaRequest, InvalidRequest> {
    let text = checked(body)?;
    let request = Json::of_compact(&text);
    let model = request.get("model");
    let name = match model.map(Json::as_str) {
        Some(None) => return Err(invalid("'model' in the request's body is not a string")),
        name => name.flatten().filter(|name| !name.is_empty()),
    };
    let call = match api {
        OllamaApi::Chat => chat(&request)?,
        OllamaApi::Generate => generate(&request)?,
        OllamaApi::Embed => embed(&request, "input")?,
        OllamaApi::Embeddings => embed(&request, "prompt")?,
    };
    let answer = OllamaAnswer {
        api,
        endpoint: call.as_ref().map_or(Endpoint::ChatCompletions, |(endpoint, _)| *endpoint),
        model: quote(name.as_deref().unwrap_or_default()),
        has_logprobs: request.get_bool("logprobs"),
        unloads: is_zero(request.get("keep_alive")),
    };
    let model = name.map(Into::into);
    let call = call.map(|(endpoint, body)| OpenAiCall { endpoint, body: body.to_string() });
    Ok(OllamaRequest { model, call, answer })
}

/// A call, or `None` if the request has no input.
type Call<'a> = Option<(Endpoint, Json<'a>)>;

fn chat<'a>(request: &Json<'a>) -> Result<Call<'a>, InvalidRequest> {
    let messages = match request.get("messages") {
        None => &[],
        Some(Json::Array(messages)) => messages.as_slice(),
        Some(_) => return Err(invalid("messages must be an array")),
    };
    let is_streaming = is_streaming(request)?;
    if messages.is_empty() {
        return Ok(None);
    }
    let mut out = body(request, "messages", Json::Array(messages::to_chat(messages)?), is_streaming)?;
    options::put_think(request, &mut out)?;
    let offered = offered_tools(request)?;
    if !offered.is_empty() {
        out.put("tools", Json::Array(offered));
    }
    put_logprobs(request, &mut out)?;
    Ok(Some((Endpoint::ChatCompletions, out)))
}

fn generate<'a>(request: &Json<'a>) -> Result<Call<'a>, InvalidRequest> {
    let text = |key: &'static str| match request.get(key) {
        Some(text) if !text.is_string() => Err(invalid(format!("{key} must be a string"))),
        text => Ok(text.filter(|text| text.fragment() != Some("")).cloned()),
    };
    let (prompt, suffix, system) = (text("prompt")?, text("suffix")?, text("system")?);
    if text("template")?.is_some() {
        return Err(invalid("template: this server's models have their own: use raw with a whole prompt"));
    }
    if !request.get_items("context").is_empty() {
        let way = "send the earlier messages to /api/chat";
        return Err(invalid(format!("context: this server keeps no conversations: {way}")));
    }
    let is_streaming = is_streaming(request)?;
    let pictures = images::parts(request, "images")?;
    if prompt.is_none() && pictures.is_empty() {
        return Ok(None);
    }
    let prompt = prompt.unwrap_or_else(|| "".into());
    if request.get_bool("raw") || suffix.is_some() {
        // The prompt goes to the model as it is.
        let refused = [
            ("images", !pictures.is_empty()),
            ("system", request.get_bool("raw") && system.is_some()),
            ("logprobs", request.get_bool("logprobs")),
        ];
        if let Some((key, _)) = refused.iter().find(|(_, is_given)| *is_given) {
            return Err(invalid(format!("{key} cannot be combined with raw or suffix")));
        }
        let mut out = body(request, "prompt", prompt, is_streaming)?;
        out.put_some("suffix", suffix);
        return Ok(Some((Endpoint::Completions, out)));
    }
    let mut turns = Vec::new();
    turns.extend(system.map(|system| messages::message("system", system)));
    turns.push(messages::message("user", images::content(prompt, pictures)));
    let mut out = body(request, "messages", Json::Array(turns), is_streaming)?;
    options::put_think(request, &mut out)?;
    put_logprobs(request, &mut out)?;
    Ok(Some((Endpoint::ChatCompletions, out)))
}

fn embed<'a>(request: &Json<'a>, key: &'static str) -> Result<Call<'a>, InvalidRequest> {
    let input = match request.get(key) {
        None => return Ok(None),
        Some(text) if text.is_string() => text,
        Some(list @ Json::Array(texts)) if key == "input" && texts.iter().all(Json::is_string) => list,
        Some(_) if key == "input" => return Err(invalid("input must be a string or an array of strings")),
        Some(_) => return Err(invalid(format!("{key} must be a string"))),
    };
    if input.fragment() == Some("") || matches!(input, Json::Array(texts) if texts.is_empty()) {
        return Ok(None);
    }
    let mut out = Json::object([]);
    out.put_some("model", request.get("model").cloned());
    out.put("input", input.clone());
    out.put_some(
        "dimensions",
        request.get("dimensions").filter(|count| count.as_count() != Some(0)).cloned(),
    );
    Ok(Some((Endpoint::Embeddings, out)))
}

/// Builds the body of a call: the model, `value` as member `key`, options, format and stream.
fn body<'a>(
    request: &Json<'a>,
    key: &'static str,
    value: Json<'a>,
    is_streaming: bool,
) -> Result<Json<'a>, InvalidRequest> {
    let mut out = Json::object([]);
    out.put_some("model", request.get("model").cloned());
    out.put(key, value);
    options::put(request, &mut out)?;
    options::put_format(request, &mut out)?;
    out.put("stream", is_streaming);
    if is_streaming {
        out.put("stream_options", Json::object([("include_usage", true.into())]));
    }
    Ok(out)
}

/// Whether the answer is streamed, which is Ollama's default.
fn is_streaming(request: &Json<'_>) -> Result<bool, InvalidRequest> {
    match request.get("stream") {
        None => Ok(true),
        Some(Json::Text(text)) if text == "true" => Ok(true),
        Some(Json::Text(text)) if text == "false" => Ok(false),
        Some(_) => Err(invalid("'stream' in the request's body is neither true nor false")),
    }
}

fn offered_tools<'a>(request: &Json<'a>) -> Result<Vec<Json<'a>>, InvalidRequest> {
    let tools = request.get_items("tools").iter();
    let translated = tools.map(|tool| {
        let kind = tool.get_str("type").unwrap_or_default();
        if !matches!(&*kind, "" | "function") {
            return Err(invalid(format!("tools: this model has no tool of type '{}'", shown(&kind))));
        }
        let function = tool.get("function").unwrap_or(tool);
        let get = |key: &str| function.get(key).cloned();
        let name = function.get_fragment("name");
        Ok(tools::function(name, get("description"), get("parameters"), get("strict")))
    });
    translated.collect()
}

fn put_logprobs<'a>(request: &Json<'a>, out: &mut Json<'a>) -> Result<(), InvalidRequest> {
    let count = match request.get("top_logprobs") {
        None => 0,
        Some(count) => count.as_count().ok_or_else(|| invalid("top_logprobs must be a whole number"))?,
    };
    if request.get_bool("logprobs") {
        out.put("logprobs", true);
        if count > 0 {
            out.put("top_logprobs", count);
        }
    }
    Ok(())
}

/// Whether a `keep_alive` asks to unload the model: 0, or a text of zero such as `"0s"`.
fn is_zero(keep_alive: Option<&Json<'_>>) -> bool {
    let Some(value) = keep_alive else { return false };
    let text = value.as_str().map_or_else(|| value.to_string(), Into::into);
    let number = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    number.parse::<f64>() == Ok(0.0)
}
