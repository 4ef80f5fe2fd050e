mod collect;
mod golden;
mod json;
mod messages;
mod ollama;
mod properties;
mod responses;
mod streams;

use super::json::Json;
use super::{ChatRequest, Context, InvalidRequest};

fn context(request: &ChatRequest) -> Context {
    request.context("7", 1_700_000_000)
}

/// The answer of a backend whose message has these members.
fn completion(message: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion","created":1,"model":"b","choices":[{{"index":0,"message":{{"role":"assistant",{message}}},"finish_reason":"{finish}"}}],"usage":{{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25,"prompt_tokens_details":{{"cached_tokens":8}},"completion_tokens_details":{{"reasoning_tokens":2}}}}}}"#
    )
}

/// A chunk whose delta has these members.
fn chunk(delta: &str) -> String {
    format!(
        r#"{{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":{{{delta}}},"finish_reason":null}}]}}"#
    )
}

/// The last chunks of a stream.
fn last(finish: &str) -> [String; 2] {
    [
        format!(r#"{{"choices":[{{"index":0,"delta":{{}},"finish_reason":"{finish}"}}]}}"#),
        r#"{"choices":[],"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":2}}}"#.to_owned(),
    ]
}

fn body(request: Result<ChatRequest, InvalidRequest>) -> Json<'static> {
    Json::parse(&request.unwrap().body).unwrap()
}

/// What stands at `path`, as JSON text; numbers are places in an array.
fn at(value: &Json<'_>, path: &str) -> String {
    let mut value = Some(value);
    for step in path.split('/') {
        value = value.and_then(|value| match step.parse::<usize>() {
            Ok(place) => value.items().get(place),
            Err(_) => value.get(step),
        });
    }
    value.map_or_else(|| "null".to_owned(), Json::to_string)
}
