//! Translates a chat completion to a response, and errors.

use wire::openai::{error_body, error_message};

use super::super::blocks::AnswerBuilder;
use super::super::chunk::Usage;
use super::super::json::Json;
use super::super::{AnswerError, Context};
use super::output::OutputItem;

/// Translates the chat completion `answer`.
pub fn from_chat(answer: &str, context: &Context) -> Result<String, AnswerError> {
    let answer = AnswerBuilder::of_completion(answer)?;
    Ok(response(&answer, Some(end_of(&answer)), context).to_string())
}

/// Returns the final status of a response, and why it is incomplete.
pub(super) fn end_of(answer: &AnswerBuilder) -> (&'static str, Option<&'static str>) {
    match answer.finish_reason.as_deref() {
        Some("length" | "max_tokens") => ("incomplete", Some("max_output_tokens")),
        Some("content_filter") => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    }
}

/// Returns the final status of item `number`. Only the last item can be incomplete.
pub(super) fn status_of(answer: &AnswerBuilder, number: usize) -> &'static str {
    if number + 1 == answer.blocks.len() { end_of(answer).0 } else { "completed" }
}

/// Builds the response; without `end`, the one in the opening events of a stream.
pub(super) fn response(
    answer: &AnswerBuilder,
    end: Option<(&'static str, Option<&'static str>)>,
    context: &Context,
) -> Json<'static> {
    let (status, reason) = end.unwrap_or(("in_progress", None));
    let items = answer.blocks.iter().enumerate().filter(|_| end.is_some());
    let items =
        items.map(|(number, block)| OutputItem::new(block, number, context).done(status_of(answer, number)));
    let incomplete = reason.map_or(Json::NULL, |reason| Json::object([("reason", reason.into())]));
    let mut out = Json::object([
        ("id", Json::from(format!("resp_{}", context.id).as_str())),
        ("object", "response".into()),
        ("created_at", Json::raw(context.created.to_string())),
        ("status", status.into()),
        ("background", false.into()),
        ("error", Json::NULL),
        ("incomplete_details", incomplete),
        ("model", Json::raw(context.request.model.clone())),
        ("output", Json::Array(items.collect())),
        ("previous_response_id", Json::NULL),
        ("store", false.into()),
        ("usage", answer.usage.filter(|_| end.is_some()).map_or(Json::NULL, usage)),
    ]);
    for (key, value) in &context.request.echo {
        out.put(key, Json::raw(value.clone()));
    }
    out
}

fn usage(usage: Usage) -> Json<'static> {
    let input = [("cached_tokens", usage.cached.into()), ("cache_write_tokens", 0_u64.into())];
    Json::object([
        ("input_tokens", usage.input.into()),
        ("input_tokens_details", Json::object(input)),
        ("output_tokens", usage.output.into()),
        ("output_tokens_details", Json::object([("reasoning_tokens", usage.reasoning.into())])),
        ("total_tokens", usage.total.into()),
    ])
}

/// Translates the body of an error to OpenAI's format, which most backends use.
pub fn error(status: u16, body: &str) -> String {
    if let Ok(json) = Json::parse(body)
        && json.get("error").and_then(|error| error.get("message")).is_some_and(Json::is_string)
    {
        return json.to_string();
    }
    let message = error_message(body).filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| "the backend gave no reason".to_owned());
    let kind = if status < 500 { "invalid_request_error" } else { "server_error" };
    error_body(&message, kind, None)
}
