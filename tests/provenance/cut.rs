//! Recorded answers that break off: no part of an answer is treated as a whole answer.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use ::backend::http::Client;
use ::backend::{
    AnswerBudget, AnthropicBackend, Backend, BackendRequest, HttpBackend, OpenAiBackend, Reply, Secret,
};
use futures_util::StreamExt;
use serde_json::Value;
use testkit::connection::{self, Connection};
use testkit::peer::Peer;
use wire::task::Endpoint;

use crate::plan::{Dialect, Kind, Plan};
use crate::recorded::{ANSWERS, Recorded, callers};
use crate::run;

/// P3, F02: a recorded answer that breaks off at any byte, or by a reset, reaches the caller without an end mark or a 200, on
/// every route.
#[actix_rt::test]
async fn cut_anywhere_on_the_way_to_a_caller() {
    let (complete, failed) = run("CUT", Plan::recorded).await;
    assert!(failed > 10 && complete > 0, "too few answers were tried: {complete} complete, {failed} failed");
}

/// P3, F02: a recorded stream that ends at any of its bytes, in any framing, counts as whole only if its content proves it,
/// else as an error; also in translation.
#[actix_rt::test]
async fn cut_at_every_byte_of_a_stream() {
    for answer in ANSWERS.iter().filter(|answer| answer.streaming) {
        // Without translation, each kind of backend gives the same answer.
        let differ =
            callers(answer).into_iter().filter(|(kind, to)| *kind == Kind::Full || *to != answer.dialect);
        for (kind, dialect) in differ {
            every_byte(answer, kind, dialect).await;
        }
    }
}

async fn every_byte(answer: &'static Recorded, kind: Kind, dialect: Dialect) {
    let cut = Rc::new(Cell::new(0));
    let told = Rc::clone(&cut);
    let server = Peer::start(async move |connection| serve(connection, answer, told.get()).await);
    let http = HttpBackend { url: Secret::new(format!("{}/v1", server.url())), api_key: None };
    let silence = Duration::from_secs(20);
    let backend: Box<dyn Backend> = match kind {
        Kind::Anthropic => Box::new(AnthropicBackend::new(Client::new(None), &http, silence, None)),
        _ => Box::new(OpenAiBackend::new(Client::new(None), &http, silence, None)),
    };
    let proof = answer.proof();
    for end in 0..=answer.bytes.len() {
        cut.set(end);
        let outcome = ask(&*backend, answer, dialect).await;
        let place =
            format!("{} for {dialect:?} at {end} of {}, proof at {proof}", answer.name, answer.bytes.len());
        match outcome {
            Ok(last) => {
                assert!(end >= proof, "counted as whole: {place}");
                assert!(last.unwrap_or(true), "an end mark without the last event: {place}");
            }
            Err((error, last)) => {
                assert!(end < proof, "{error}: {place}");
                assert!(!last.unwrap_or(false), "the last event came, but also the error {error}: {place}");
            }
        }
    }
}

/// Returns whether the answer is whole, and whether its last event came, if the API has a last event.
async fn ask(
    backend: &dyn Backend,
    answer: &Recorded,
    dialect: Dialect,
) -> Result<Option<bool>, (String, Option<bool>)> {
    let mut body = match dialect {
        Dialect::Completions => serde_json::json!({ "prompt": "hi" }),
        Dialect::Responses => serde_json::json!({ "input": "hi" }),
        _ => serde_json::json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 9 }),
    };
    body["model"] = "m".into();
    body["stream"] = true.into();
    if answer.choices > 1 {
        body["n"] = answer.choices.into();
    }
    let request = BackendRequest {
        endpoint: Endpoint::parse(Some(dialect.path())).unwrap(),
        streaming: true,
        body: body.to_string().into(),
        user: String::new(),
        headers: Vec::new(),
        budget: AnswerBudget::default(),
    };
    let mut last = match dialect {
        Dialect::Responses | Dialect::Messages => Some(false),
        Dialect::Chat | Dialect::Completions => None,
    };
    let mut events = match backend.infer(request).await {
        Ok(Reply::Stream(events)) => events,
        Ok(Reply::Whole { status, .. }) => return Err((format!("a whole answer, {status}"), last)),
        Err(error) => return Err((error.to_string(), last)),
    };
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| (error.to_string(), last))?;
        let event: Value = serde_json::from_str(&event).unwrap();
        let kind = event["type"].as_str().unwrap_or_default();
        last = last.map(|seen| {
            seen || ["response.completed", "response.incomplete", "message_stop"].contains(&kind)
        });
    }
    Ok(last)
}

/// Answers one request with the first `end` bytes, in one of five framings, and closes. Paths of other APIs get a 404.
async fn serve(mut connection: Connection, answer: &Recorded, end: usize) -> io::Result<()> {
    let request = connection.request().await?;
    if !request.path().ends_with(&format!("/v1/{}", answer.dialect.path())) {
        return connection.write(connection::answer(404, "connection: close\r\n", "")).await;
    }
    let (part, all) = (&answer.bytes[..end], answer.bytes.len());
    let chunked = "transfer-encoding: chunked\r\n";
    let half = end / 2;
    let (framing, before, behind) = match end % 5 {
        0 => ("connection: close\r\n".to_owned(), String::new(), ""),
        // The body ends in the middle of a chunk, at the end of a chunk, or after the last chunk.
        1 => (chunked.to_owned(), format!("{all:x}\r\n"), ""),
        2 => (chunked.to_owned(), format!("{end:x}\r\n"), "\r\n"),
        3 => (chunked.to_owned(), format!("{end:x}\r\n"), "\r\n0\r\n\r\n"),
        _ => (format!("content-length: {all}\r\n"), String::new(), ""),
    };
    let (before, behind) = if end == 0 { (String::new(), "") } else { (before, behind) };
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}\r\n{before}");
    connection.write(head).await?;
    // Two writes, so that a read may end in the middle of an event before the connection closes.
    connection.write(&part[..half]).await?;
    connection.write(&part[half..]).await?;
    connection.write(behind).await?;
    connection.shutdown().await
}
