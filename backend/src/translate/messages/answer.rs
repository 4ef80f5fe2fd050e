//! Translates a chat completion to a message, and errors.

use wire::json::quote;
use wire::openai::error_message;

use super::super::blocks::{AnswerBlock, AnswerBuilder};
use super::super::chunk::{BlockKind, Usage, arguments_text};
use super::super::json::{Json, unescape};
use super::super::{AnswerError, Context};
use super::ids;

/// Translates the chat completion `answer`.
pub fn from_chat(answer: &str, context: &Context) -> Result<String, AnswerError> {
    let answer = AnswerBuilder::of_completion(answer)?;
    let blocks = answer.blocks.iter().enumerate();
    let blocks = blocks.map(|(number, block)| content_block(block, number, context, false)).collect();
    Ok(message(context, blocks, stop(&answer, context), answer.usage).to_string())
}

/// Builds a message; `stop` is its `stop_reason` and `stop_sequence`.
pub(super) fn message(
    context: &Context,
    blocks: Vec<Json<'static>>,
    stop: (Json<'static>, Json<'static>),
    usage: Option<Usage>,
) -> Json<'static> {
    Json::object([
        ("id", Json::from(format!("msg_{}", context.id).as_str())),
        ("type", "message".into()),
        ("role", "assistant".into()),
        ("model", Json::raw(context.request.model.clone())),
        ("content", Json::Array(blocks)),
        ("stop_reason", stop.0),
        ("stop_sequence", stop.1),
        ("usage", self::usage(usage)),
    ])
}

/// Builds a content block. In the opening event of a stream it is empty.
pub(super) fn content_block(
    block: &AnswerBlock,
    number: usize,
    context: &Context,
    is_opening: bool,
) -> Json<'static> {
    let text = Json::from_fragment(if is_opening { "" } else { &block.text });
    match &block.kind {
        BlockKind::Reasoning(key) => {
            let signature = if is_opening { "" } else { *key };
            Json::object([("type", "thinking".into()), ("thinking", text), ("signature", signature.into())])
        }
        BlockKind::Text | BlockKind::Refusal => Json::object([("type", "text".into()), ("text", text)]),
        BlockKind::Call { id, name, .. } => {
            let id = ids::to_caller(id, || format!("toolu_{}_{number}", context.id));
            Json::object([
                ("type", "tool_use".into()),
                ("id", Json::from_fragment(&id)),
                ("name", Json::from_fragment(name)),
                ("input", if is_opening { Json::object([]) } else { input(&block.text) }),
            ])
        }
    }
}

/// Returns escaped arguments as an object. Invalid ones become a member, so that the caller's validation reports them to the model.
pub(in crate::translate) fn input(text: &str) -> Json<'static> {
    // Not as trees: an answer may have thousands of calls.
    arguments_text(text)
        .map_or_else(|| Json::object([("raw_arguments", Json::from_fragment(text))]), Json::raw)
}

/// Returns the `stop_reason` and the `stop_sequence`.
pub(super) fn stop(answer: &AnswerBuilder, context: &Context) -> (Json<'static>, Json<'static>) {
    let sequence = answer.stop_sequence.as_ref();
    if let Some(sequence) = sequence.filter(|sequence| context.request.stop_sequences.contains(sequence)) {
        return ("stop_sequence".into(), Json::from_fragment(sequence));
    }
    let reason = match answer.finish_reason.as_deref() {
        Some("length" | "max_tokens") => "max_tokens",
        Some("content_filter") => "refusal",
        // Some servers send `stop` after calls.
        _ if answer.has_calls() => "tool_use",
        _ if answer.has_refusal() => "refusal",
        _ => "end_turn",
    };
    (reason.into(), Json::NULL)
}

/// Builds the token counts. Cached input is not part of Anthropic's `input_tokens`.
pub(super) fn usage(usage: Option<Usage>) -> Json<'static> {
    let usage = usage.unwrap_or_default();
    Json::object([
        ("input_tokens", usage.input.saturating_sub(usage.cached).into()),
        ("cache_creation_input_tokens", 0_u64.into()),
        ("cache_read_input_tokens", usage.cached.into()),
        ("output_tokens", usage.output.into()),
    ])
}

/// Translates the body of an error. A context that is too long gets Anthropic's wording, on which Claude Code shortens it.
pub fn error(status: u16, body: &str) -> String {
    let json = Json::parse(body).unwrap_or(Json::NULL);
    if json.get_str("type").as_deref() == Some("error") && json.get("error").is_some_and(Json::is_object) {
        return json.to_string();
    }
    let message = error_message(body).filter(|message| !message.is_empty());
    let mut message = message.unwrap_or_else(|| match body.trim() {
        text if text.is_empty() || json.is_object() => "the backend gave no reason".to_owned(),
        text => text.to_owned(),
    });
    let kinds =
        json.get("error").map(|error| [error.get_fragment("type"), error.get_fragment("code")].map(unescape));
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
