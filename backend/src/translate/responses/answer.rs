//! A chat completion as a response, and errors.

use wire::openai::{error_body, error_message};

use super::super::blocks::AnswerBuilder;
use super::super::chunk::Usage;
use super::super::json::Json;
use super::super::{AnswerError, Context};
use super::output::OutputItem;

/// The response that says what the chat completion `answer` says.
pub fn from_chat(answer: &str, context: &Context) -> Result<String, AnswerError> {
    let turn = AnswerBuilder::of_completion(answer)?;
    Ok(response(&turn, Some(end_of(&turn)), context).to_string())
}

/// The status of a response that has ended, and why it is not complete.
pub(super) fn end_of(turn: &AnswerBuilder) -> (&'static str, Option<&'static str>) {
    match turn.finish.as_deref() {
        Some("length" | "max_tokens") => ("incomplete", Some("max_output_tokens")),
        Some("content_filter") => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    }
}

/// The status of item `number`: only the last one can have been cut.
pub(super) fn status_of(turn: &AnswerBuilder, number: usize) -> &'static str {
    if number + 1 == turn.blocks.len() { end_of(turn).0 } else { "completed" }
}

/// The response object; without an `end` as it stands at the beginning of a stream.
pub(super) fn response(
    turn: &AnswerBuilder,
    end: Option<(&'static str, Option<&'static str>)>,
    context: &Context,
) -> Json<'static> {
    let (status, reason) = end.unwrap_or(("in_progress", None));
    let items = turn.blocks.iter().enumerate().filter(|_| end.is_some());
    let items =
        items.map(|(number, block)| OutputItem::new(block, number, context).done(status_of(turn, number)));
    let incomplete = reason.map_or(Json::NULL, |reason| Json::object([("reason", reason.into())]));
    let mut out = Json::object([
        ("id", Json::from(format!("resp_{}", context.id).as_str())),
        ("object", "response".into()),
        ("created_at", context.created.into()),
        ("status", status.into()),
        ("background", false.into()),
        ("error", Json::NULL),
        ("incomplete_details", incomplete),
        ("model", Json::raw(context.asked.model.clone())),
        ("output", Json::Array(items.collect())),
        ("previous_response_id", Json::NULL),
        ("store", false.into()),
        ("usage", turn.usage.filter(|_| end.is_some()).map_or(Json::NULL, usage)),
    ]);
    for (key, value) in &context.asked.echo {
        out.put(key, Json::raw(value.clone()));
    }
    out
}

fn usage(usage: Usage) -> Json<'static> {
    Json::object([
        ("input_tokens", usage.input.into()),
        (
            "input_tokens_details",
            Json::object([("cached_tokens", usage.cached.into()), ("cache_write_tokens", 0_u64.into())]),
        ),
        ("output_tokens", usage.output.into()),
        ("output_tokens_details", Json::object([("reasoning_tokens", usage.reasoning.into())])),
        ("total_tokens", usage.total.into()),
    ])
}

/// A backend's error in OpenAI's shape, which most have already.
pub fn error(status: u16, body: &str) -> String {
    if let Ok(told) = Json::parse(body)
        && told.get("error").and_then(|error| error.get("message")).is_some_and(Json::is_string)
    {
        return told.to_string();
    }
    let message = error_message(body).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| "the backend gave no reason".to_owned());
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    error_body(&message, kind, None)
}
