//! The OpenAI backend against servers that are scripted byte by byte.

mod faults;
mod floods;
mod limits;
mod redaction;

use std::time::Duration;

use bytes::Bytes;
use testkit::connection::{SSE, chunked};
use testkit::peer::{Script, Step};
use testkit::wait::wait_until;
use tokio::time::timeout;
use wire::task::Endpoint;

use super::*;
use crate::budget::Bounded;
use crate::{AnswerBudget, Secret};

const TOKEN: &str = r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;

const LAST: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

fn events(data: &[&str]) -> String {
    data.iter().map(|data| chunked(&format!("data: {data}\n\n"))).collect()
}

fn say(parts: &[&str]) -> Vec<Step> {
    vec![Step::Say(parts.concat())]
}

fn backend(url: &str, silence: Duration) -> OpenAiBackend {
    let http = HttpBackend { url: Secret::new(url), api_key: Some(Secret::new("sk-canary")) };
    OpenAiBackend::new(Client::new(None), &http, silence, None)
}

fn request(streaming: bool) -> BackendRequest {
    BackendRequest {
        endpoint: Endpoint::ChatCompletions,
        streaming,
        body: Bytes::from_static(b"{}"),
        user: String::new(),
        headers: Vec::new(),
        budget: AnswerBudget::default(),
    }
}

/// The attribution line is dropped from what the backend gets, translated or not, unless it is kept.
#[actix_rt::test]
async fn the_attribution_line_is_sent_only_if_it_is_kept() {
    let body = r#"{"model":"m","max_tokens":9,"system":[{"type":"text","text":"x-anthropic-billing-header: a=1;"},
        {"type":"text","text":"Be brief."}],"messages":[{"role":"user","content":"hi"}]}"#;
    let chat =
        r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}"#;
    for keeps in [false, true] {
        let listener = testkit::peer::Listener::bind().await;
        let backend = backend(&listener.url(), Duration::from_secs(5)).keep_attribution(keeps);
        for (endpoint, asked) in [(Endpoint::CountTokens, 1), (Endpoint::Messages, 3)] {
            let message =
                BackendRequest { endpoint, body: Bytes::from_static(body.as_bytes()), ..request(false) };
            let serve = async {
                let mut bodies = Vec::new();
                while bodies.len() < asked {
                    let mut connection = listener.accept().await;
                    let request = connection.request_or_part().await.unwrap();
                    let text = request.json().to_string();
                    let (status, answer) = if endpoint == Endpoint::CountTokens {
                        (200, r#"{"input_tokens":3}"#)
                    } else if request.head.to_lowercase().contains("chat/completions") {
                        (200, chat)
                    } else {
                        (404, "{}")
                    };
                    let size = answer.len();
                    let head =
                        format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
                    connection.write(head + answer).await.unwrap();
                    bodies.push(text);
                }
                bodies
            };
            let (reply, bodies) = futures_util::join!(backend.infer(message), serve);
            assert!(matches!(reply, Ok(Reply::Whole { status: 200, .. })));
            // Between the request and its translation is a probe, which has nothing of the caller.
            for body in [&bodies[0], &bodies[asked - 1]] {
                assert_eq!(body.contains("x-anthropic-billing-header"), keeps, "{body}");
                assert!(body.contains("Be brief."), "{body}");
            }
        }
    }
}

async fn ask(steps: Vec<Step>, streaming: bool) -> Result<Reply, BackendError> {
    let server = Script::start(steps);
    backend(&server.url, Duration::from_secs(5)).infer(request(streaming)).await
}

/// All pieces, and the error that ended them.
async fn pieces(steps: Vec<Step>) -> (Vec<String>, Option<BackendError>) {
    let Reply::Stream(mut stream) = ask(steps, true).await.unwrap() else { panic!("not a stream") };
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(error) => return (pieces, Some(error)),
        }
    }
    (pieces, None)
}

async fn whole(steps: Vec<Step>) -> (u16, String) {
    match ask(steps, false).await.unwrap() {
        Reply::Whole { status, body } => (status, body),
        Reply::Stream(_) => panic!("a stream"),
    }
}

async fn failure(steps: Vec<Step>) -> String {
    match ask(steps, false).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("an answer"),
    }
}

/// The status and body of a refusal.
async fn refusal(steps: Vec<Step>, streaming: bool) -> (u16, String) {
    match ask(steps, streaming).await {
        Err(BackendError::Refused(refusal)) => (refusal.status, refusal.body),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("an answer"),
    }
}

/// The status and the words of a refusal.
async fn reason(steps: Vec<Step>) -> (u16, String) {
    let (status, body) = refusal(steps, false).await;
    (status, wire::openai::error_message(&body).unwrap())
}

fn json_answer(status: &str, body: &str) -> Vec<Step> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    say(&[&head, body])
}

#[actix_rt::test]
async fn a_stream_gives_its_pieces_and_ends_at_the_end_mark() {
    let all = events(&[TOKEN, LAST, "[DONE]"]);
    assert_eq!(pieces(say(&[SSE, &all, "0\r\n\r\n"])).await, (vec![TOKEN.to_owned(), LAST.to_owned()], None));
}

#[actix_rt::test]
async fn a_finish_reason_and_a_clean_end_are_an_end_too() {
    let (got, error) = pieces(say(&[SSE, &events(&[TOKEN, LAST]), "0\r\n\r\n"])).await;
    assert_eq!((got.len(), error), (2, None));
}

/// F38, F39: a stream that ends, breaks or is reset before its end mark is a failure, whatever came of it before.
#[actix_rt::test]
async fn a_stream_that_ends_without_its_end_mark_is_an_error() {
    let cut_in_a_chunk = &chunked(&format!("data: {TOKEN}\n\n"))[..20];
    for tail in ["0\r\n\r\n", "", cut_in_a_chunk] {
        let (got, error) = pieces(say(&[SSE, &events(&[TOKEN]), tail])).await;
        assert_eq!(got, [TOKEN]);
        assert!(matches!(error, Some(BackendError::Failed(_))), "{tail:?}");
    }
    let mut steps = say(&[SSE, &events(&[TOKEN])]);
    steps.extend([Step::Pause(Duration::from_millis(50)), Step::Reset]);
    assert!(pieces(steps).await.1.is_some());
}

/// F45: one byte at a time, CRLF, CR, comments and no space after the colon give the same tokens.
#[actix_rt::test]
async fn slices_of_one_byte_line_ends_and_comments_make_no_difference() {
    let text = format!(": hi\r\n\r\ndata:{TOKEN}\r\n\r\ndata: {LAST}\r\rdata: [DONE]\n\n");
    let steps = std::iter::once(SSE.to_owned())
        .chain(text.as_bytes().iter().map(|byte| chunked(&char::from(*byte).to_string())))
        .map(Step::Say)
        .collect();
    assert_eq!(pieces(steps).await, (vec![TOKEN.to_owned(), LAST.to_owned()], None));
}

/// F42: an error object in a stream is the failure that it tells of, not a piece of the answer.
#[actix_rt::test]
async fn an_error_object_in_a_stream_is_an_error_and_not_a_piece() {
    let (got, error) =
        pieces(say(&[SSE, &events(&[TOKEN, r#"{"error":{"message":"out of memory"}}"#])])).await;
    assert_eq!(got, [TOKEN]);
    assert_eq!(error, Some(BackendError::Failed("backend failed: out of memory".into())));
}

/// F38, F40: a body shorter than promised, or empty, is a failure, never 200 and empty.
#[actix_rt::test]
async fn a_whole_answer_that_breaks_off_is_an_error() {
    let short = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"a\":1}";
    assert!(failure(say(&[short])).await.contains("broke off"));
    let empty = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n";
    assert!(failure(say(&[empty])).await.contains("empty"));
}

#[actix_rt::test]
async fn a_refused_key_has_one_fixed_text() {
    for status in ["401 Unauthorized", "403 Forbidden", "407 Proxy"] {
        let text = failure(json_answer(status, r#"{"error":{"message":"bad key sk-canary"}}"#)).await;
        assert_eq!(text, "the backend refused the publisher's key");
    }
}

#[actix_rt::test]
async fn a_stream_that_was_asked_for_and_answered_in_one_body_is_a_whole_answer() {
    let body = r#"{"choices":[{"message":{"content":"x"}}]}"#;
    assert!(matches!(ask(json_answer("200 OK", body), true).await, Ok(Reply::Whole { status: 200, .. })));
}

/// F35, F43: a refused connection is told from a failure at once; where somebody listens, no compression is asked for.
#[actix_rt::test]
async fn nobody_listening_is_unavailable_and_asks_for_no_compression_when_there_is() {
    let nobody = backend("http://127.0.0.1:1/v1", Duration::from_secs(5));
    for streaming in [false, true] {
        let answer = timeout(Duration::from_secs(1), nobody.infer(request(streaming))).await;
        assert_eq!(answer.expect("within a second").err(), Some(BackendError::Unavailable));
    }
    let server = Script::start(json_answer("200 OK", r#"{"choices":[]}"#));
    backend(&server.url, Duration::from_secs(5)).infer(request(false)).await.unwrap();
    let head = server.requests()[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/chat/completions http/1.1"), "{head}");
    assert!(
        head.contains("accept-encoding: identity") && head.contains("authorization: bearer sk-canary"),
        "{head}"
    );
}
