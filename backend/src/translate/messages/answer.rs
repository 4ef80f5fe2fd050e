//! A chat completion as a message, and errors.

use wire::json::quote;
use wire::openai::error_message;

use super::super::blocks::{AnswerBlock, AnswerBuilder, BlockKind};
use super::super::chunk::{Usage, arguments};
use super::super::json::{Json, unescape};
use super::super::{AnswerError, Context};
use super::ids;

/// The message that says what the chat completion `answer` says.
pub fn from_chat(answer: &str, context: &Context) -> Result<String, AnswerError> {
    let turn = AnswerBuilder::of_completion(answer)?;
    let blocks =
        turn.blocks.iter().enumerate().map(|(number, block)| whole(block, number, context)).collect();
    let (reason, sequence) = stop(&turn, context);
    let mut out = head(context);
    for (key, value) in [
        ("content", Json::Array(blocks)),
        ("stop_reason", reason.into()),
        ("stop_sequence", sequence),
        ("usage", usage(turn.usage.unwrap_or_default())),
    ] {
        out.put(key, value);
    }
    Ok(out.to_string())
}

/// The members of a message that are known before its content.
pub(super) fn head(context: &Context) -> Json<'static> {
    Json::object([
        ("id", Json::from(format!("msg_{}", context.id).as_str())),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", Json::raw(context.asked.model.clone())),
    ])
}

/// A block as it begins in a stream: without what is added to it.
pub(super) fn begun(block: &AnswerBlock, number: usize, context: &Context) -> Json<'static> {
    match &block.kind {
        BlockKind::Reasoning(_) => {
            Json::object([("type", "thinking".into()), ("thinking", "".into()), ("signature", "".into())])
        }
        BlockKind::Text | BlockKind::Refusal => Json::object([("type", "text".into()), ("text", "".into())]),
        BlockKind::Call { id, name, .. } => call(id, name, number, context, Json::object([])),
    }
}

fn whole(block: &AnswerBlock, number: usize, context: &Context) -> Json<'static> {
    let text = Json::from_fragment(&block.text);
    match &block.kind {
        BlockKind::Reasoning(key) => {
            Json::object([("type", "thinking".into()), ("thinking", text), ("signature", (*key).into())])
        }
        BlockKind::Text | BlockKind::Refusal => Json::object([("type", "text".into()), ("text", text)]),
        BlockKind::Call { id, name, .. } => call(id, name, number, context, input(&block.text)),
    }
}

/// Arguments as an object. A model that wrote something else is shown what it wrote: the caller's check of the input
/// tells it so.
pub(super) fn input(text: &str) -> Json<'static> {
    arguments(text).unwrap_or_else(|| Json::object([("raw_arguments", Json::from_fragment(text))]))
}

fn call(id: &str, name: &str, number: usize, context: &Context, input: Json<'static>) -> Json<'static> {
    let id = ids::outward(id, || format!("toolu_{}_{number}", context.id));
    Json::object([
        ("type", "tool_use".into()),
        ("id", Json::from_fragment(&id)),
        ("name", Json::from_fragment(name)),
        ("input", input),
    ])
}

/// Why it ended, and the stop sequence that it met, if the backend says so.
pub(super) fn stop(turn: &AnswerBuilder, context: &Context) -> (&'static str, Json<'static>) {
    let met = turn.stop.as_ref().filter(|met| context.asked.stops.contains(met));
    if let Some(met) = met {
        return ("stop_sequence", Json::from_fragment(met));
    }
    let reason = match turn.finish.as_deref() {
        Some("length" | "max_tokens") => "max_tokens",
        Some("content_filter") => "refusal",
        // Some servers say `stop` after calls.
        _ if turn.has_calls() => "tool_use",
        _ if turn.has_refusal() => "refusal",
        _ => "end_turn",
    };
    (reason, Json::NULL)
}

/// Anthropic counts what came from a cache apart from the rest of the input.
pub(super) fn usage(usage: Usage) -> Json<'static> {
    Json::object([
        ("input_tokens", usage.input.saturating_sub(usage.cached).into()),
        ("cache_creation_input_tokens", 0_u64.into()),
        ("cache_read_input_tokens", usage.cached.into()),
        ("output_tokens", usage.output.into()),
    ])
}

/// A backend's error in Anthropic's shape. A context that is too long is named as Anthropic names it: Claude Code then
/// makes it shorter by itself.
pub fn error(status: u16, body: &str) -> String {
    let told = Json::parse(body).unwrap_or(Json::NULL);
    if told.get_str("type").as_deref() == Some("error") && told.get("error").is_some_and(Json::is_object) {
        return told.to_string();
    }
    let message = error_message(body).filter(|message| !message.is_empty());
    let mut message = message.unwrap_or_else(|| {
        let text = body.trim();
        if text.is_empty() || told.is_object() {
            "the backend gave no reason".to_owned()
        } else {
            text.to_owned()
        }
    });
    let kinds =
        told.get("error").map(|error| [error.get_fragment("type"), error.get_fragment("code")].map(unescape));
    let overflow = ["context_length_exceeded", "exceed_context_size_error"];
    if kinds.is_some_and(|kinds| kinds.iter().any(|kind| overflow.contains(&&**kind))) {
        message.insert_str(0, "prompt is too long: ");
    }
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    format!(r#"{{"type":"error","error":{{"type":{},"message":{}}}}}"#, quote(kind), quote(&message))
}
