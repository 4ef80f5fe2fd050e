//! Requests and answers through the fallback. Over 300 lines: each case goes through the same fake backend.

use std::cell::RefCell;
use std::future::ready;

use futures_util::FutureExt;

use super::*;
use crate::budget::Bounded;
use crate::offload::assert_offloaded;
use crate::{AnswerBudget, Refusal};

const CHAT: &str = r#"{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}"#;
const MESSAGE: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#;
const RESPONSE: &str = r#"{"model":"m","input":"hi"}"#;

fn request(endpoint: Endpoint, body: &str) -> BackendRequest {
    let headers = vec![("anthropic-beta".to_owned(), "x".to_owned())];
    BackendRequest {
        endpoint,
        streaming: body.contains("\"stream\":true"),
        body: body.to_owned().into(),
        user: String::new(),
        headers,
        budget: AnswerBudget::default(),
    }
}

fn refused(status: u16, body: &str) -> BackendError {
    BackendError::Refused(Box::new(Refusal { status, body: body.to_owned(), retry_after: None }))
}

/// Asks `fallback` while a backend has the `answers`; gives the answer and the endpoints that were asked.
fn ask(
    fallback: &ChatFallback,
    request: BackendRequest,
    answers: impl Fn(&BackendRequest) -> Result<Reply, BackendError>,
) -> (Result<Reply, BackendError>, Vec<Endpoint>) {
    let asked = RefCell::new(Vec::new());
    let ask = |request: BackendRequest| {
        asked.borrow_mut().push(request.endpoint);
        ready(answers(&request)).boxed_local()
    };
    let reply = fallback.infer(request, &ask).now_or_never().unwrap();
    (reply, asked.into_inner())
}

fn whole(reply: Result<Reply, BackendError>) -> (u16, String) {
    match reply {
        Ok(Reply::Whole { status, body }) => (status, body),
        Ok(Reply::Stream(_)) => panic!("a stream"),
        Err(error) => panic!("{error}"),
    }
}

fn chat_alone(status: u16) -> impl Fn(&BackendRequest) -> Result<Reply, BackendError> {
    move |request| match request.endpoint {
        Endpoint::ChatCompletions => {
            assert!(request.headers.is_empty());
            Ok(Reply::Whole { status: 200, body: CHAT.to_owned() })
        }
        _ => Err(refused(status, r#"{"detail":"Not Found"}"#)),
    }
}

#[test]
fn a_missing_endpoint_is_asked_once_and_each_for_itself() {
    let fallback = ChatFallback::new();
    for (endpoint, body, kind, status) in
        [(Endpoint::Messages, MESSAGE, "message", 404), (Endpoint::Responses, RESPONSE, "response", 405)]
    {
        let (reply, asked) = ask(&fallback, request(endpoint, body), chat_alone(status));
        assert!(whole(reply).1.contains(&format!(":\"{kind}\"")));
        assert_eq!(asked, [endpoint, endpoint, Endpoint::ChatCompletions], "the request, and a probe");
        let (reply, asked) = ask(&fallback, request(endpoint, body), chat_alone(status));
        assert_eq!(whole(reply).0, 200);
        assert_eq!(asked, [Endpoint::ChatCompletions]);
    }
}

#[test]
fn a_missing_count_is_asked_once_and_refused_from_then_on() {
    let fallback = ChatFallback::new();
    for (endpoint, body, status) in
        [(Endpoint::CountTokens, MESSAGE, 404), (Endpoint::InputTokens, RESPONSE, 405)]
    {
        for asked in [vec![endpoint, endpoint], Vec::new()] {
            let (reply, endpoints) = ask(&fallback, request(endpoint, body), chat_alone(status));
            let Err(BackendError::Refused(refusal)) = reply else { panic!("no refusal") };
            assert_eq!((refusal.status, endpoints), (404, asked));
        }
        let (_, asked) = ask(&fallback, request(Endpoint::Messages, MESSAGE), |_| Err(refused(500, "{}")));
        assert_eq!(asked, [Endpoint::Messages], "a missing count says nothing of the endpoint itself");
    }
}

#[test]
fn a_refused_count_does_not_disable_counts() {
    let fallback = ChatFallback::new();
    let no_model = |request: &BackendRequest| {
        let is_probe = !String::from_utf8_lossy(&request.body).contains("hi");
        Err(refused(if is_probe { 400 } else { 404 }, r#"{"error":{"message":"no model m"}}"#))
    };
    for asked in [2, 1] {
        let (reply, endpoints) = ask(&fallback, request(Endpoint::CountTokens, MESSAGE), no_model);
        assert!(matches!(reply, Err(BackendError::Refused(refusal)) if refusal.body.contains("no model")));
        assert_eq!(endpoints.len(), asked, "the count, and once a probe");
    }
}

#[test]
fn a_model_that_is_not_there_is_no_missing_endpoint() {
    let fallback = ChatFallback::new();
    for _ in 0..2 {
        let (reply, asked) = ask(&fallback, request(Endpoint::Messages, MESSAGE), |_| {
            Err(refused(404, r#"{"error":{"message":"no model m","type":"t","param":null,"code":null}}"#))
        });
        let Err(BackendError::Refused(refusal)) = reply else { panic!("no refusal") };
        assert_eq!(
            refusal.body,
            r#"{"type":"error","error":{"type":"not_found_error","message":"no model m"}}"#
        );
        assert_eq!(asked, [Endpoint::Messages, Endpoint::Messages, Endpoint::ChatCompletions]);
    }
}

#[test]
fn other_refusals_pass_and_a_backend_that_was_away_is_asked_anew() {
    let fallback = ChatFallback::new();
    let (reply, asked) = ask(&fallback, request(Endpoint::Responses, RESPONSE), |_| Err(refused(500, "{}")));
    assert!(reply.is_err());
    assert_eq!(asked, [Endpoint::Responses]);
    let lm_studio = |request: &BackendRequest| match request.endpoint {
        Endpoint::ChatCompletions => Ok(Reply::Whole { status: 200, body: CHAT.to_owned() }),
        _ => Err(BackendError::Failed(
            "backend failed: Unexpected endpoint or method. (POST /v1/responses)".into(),
        )),
    };
    let (reply, _) = ask(&fallback, request(Endpoint::Responses, RESPONSE), lm_studio);
    assert_eq!(whole(reply).0, 200);
    let (_, asked) =
        ask(&fallback, request(Endpoint::Responses, RESPONSE), |_| Err(BackendError::Unavailable));
    assert_eq!(asked, [Endpoint::ChatCompletions]);
    let (_, asked) = ask(&fallback, request(Endpoint::Responses, RESPONSE), lm_studio);
    assert_eq!(asked, [Endpoint::Responses, Endpoint::Responses, Endpoint::ChatCompletions]);
}

#[test]
fn what_cannot_be_translated_is_refused_in_the_words_of_its_api() {
    let fallback = ChatFallback::new();
    let odd = r#"{"messages":[],"tools":[{"type":"web_search_20250305","name":"w"}]}"#;
    let (reply, _) = ask(&fallback, request(Endpoint::Messages, odd), chat_alone(501));
    let (status, body) = whole(reply);
    assert_eq!(status, 400);
    assert!(
        body.starts_with(r#"{"type":"error","error":{"type":"invalid_request_error","message":"tools: "#),
        "{body}"
    );
    let odd = r#"{"input":"a","previous_response_id":"resp_1"}"#;
    let (reply, _) = ask(&fallback, request(Endpoint::Responses, odd), chat_alone(404));
    let (status, body) = whole(reply);
    assert_eq!(status, 400);
    assert!(body.starts_with(r#"{"error":{"message":"previous_response_id"#), "{body}");
}

/// The events of a streamed request whose chat stream is `chunks`.
fn told(
    fallback: &ChatFallback,
    body: &str,
    chunks: Vec<Result<String, BackendError>>,
) -> Vec<Result<String, BackendError>> {
    let chunks = RefCell::new(Some(chunks));
    let endpoint = if body.contains("\"input\"") { Endpoint::Responses } else { Endpoint::Messages };
    let (reply, _) = ask(fallback, request(endpoint, body), |request| match request.endpoint {
        Endpoint::ChatCompletions => Ok(Reply::Stream(stream::iter(chunks.take().unwrap()).boxed_local())),
        _ => Err(refused(404, "{}")),
    });
    let Ok(Reply::Stream(events)) = reply else { panic!("no stream") };
    events.collect::<Vec<_>>().now_or_never().unwrap()
}

#[test]
fn a_stream_ends_as_its_api_ends_it_and_after_an_error_nothing_follows() {
    let chunk = r#"{"choices":[{"delta":{"content":"a"}}]}"#.to_owned();
    let body = r#"{"stream":true,"messages":[]}"#;
    let events = told(&ChatFallback::new(), body, vec![Ok(chunk.clone())]);
    assert!(events.last().unwrap().as_ref().unwrap().contains("message_stop"));
    for broken in [Err(BackendError::Failed("broke".into())), Ok("7".to_owned())] {
        let events = told(&ChatFallback::new(), body, vec![Ok(chunk.clone()), broken, Ok(chunk.clone())]);
        let errors: Vec<_> = events.iter().map(Result::is_err).collect();
        assert_eq!(errors, [false, false, false, true], "start, block, delta, error");
    }
}

#[test]
fn a_whole_answer_to_a_request_for_a_stream_is_told_in_events() {
    let body = r#"{"stream":true,"input":"a"}"#;
    let (reply, _) = ask(&ChatFallback::new(), request(Endpoint::Responses, body), chat_alone(404));
    let Ok(Reply::Stream(events)) = reply else { panic!("no stream") };
    let events: Vec<_> = events.collect::<Vec<_>>().now_or_never().unwrap();
    let last = events.last().unwrap().as_ref().unwrap();
    assert!(last.contains("response.completed") && last.contains(r#""text":"ok""#), "{last}");
}

/// A23: an item can be large, so a request that refers to one is translated elsewhere.
#[tokio::test]
async fn an_item_of_a_stream_may_be_referred_to() {
    let fallback = ChatFallback::new();
    let chunk = r#"{"choices":[{"delta":{"content":"said before"}}]}"#.to_owned();
    let events = told(&fallback, r#"{"stream":true,"input":"a"}"#, vec![Ok(chunk)]);
    let event = events.iter().flatten().find(|event| event.contains("output_item.done")).unwrap();
    let id = event.split(r#""item":{"id":""#).nth(1).unwrap().split('"').next().unwrap();
    let body =
        format!(r#"{{"input":[{{"type":"item_reference","id":"{id}"}},{{"role":"user","content":"b"}}]}}"#);
    for (fallback, expected) in [(fallback, 200), (ChatFallback::new(), 400)] {
        let ask = |request: BackendRequest| {
            assert!(std::str::from_utf8(&request.body).unwrap().contains("said before"));
            ready(Ok(Reply::Whole { status: 200, body: CHAT.to_owned() })).boxed_local()
        };
        let reply = fallback.translate(request(Endpoint::Responses, &body), &ask);
        assert_eq!(whole(assert_offloaded("a request with a reference", reply).await).0, expected);
    }
}

/// A24: a response repeats members of its request until its end.
#[tokio::test]
async fn what_is_kept_of_a_request_counts_until_its_answer_ends() {
    const KEPT: usize = 3 << 20;
    let instructions = "y".repeat(KEPT);
    let body = format!(r#"{{"stream":true,"input":"a","instructions":"{instructions}"}}"#);
    for most in [2 * KEPT + (1 << 20), 8 * KEPT] {
        let held = Bounded::new(most);
        let asked =
            BackendRequest { budget: AnswerBudget::new(held.clone()), ..request(Endpoint::Responses, &body) };
        let ask = |_| {
            assert!(held.held.get() >= 2 * KEPT, "the translation and what is kept count");
            let chunks =
                ["a", "b"].map(|text| Ok(format!(r#"{{"choices":[{{"delta":{{"content":"{text}"}}}}]}}"#)));
            ready(Ok(Reply::Stream(stream::iter(chunks).boxed_local()))).boxed_local()
        };
        let Ok(Reply::Stream(mut events)) = ChatFallback::new().translate(asked, &ask).await else {
            panic!("no stream")
        };
        assert!((KEPT / 2..2 * KEPT).contains(&held.held.get()), "{}", held.held.get());
        let mut last = None;
        while let Some(event) = events.next().await {
            assert!(event.is_err() || held.held.get() > KEPT / 2, "{}", held.held.get());
            last = Some(event);
        }
        match last.unwrap() {
            Ok(event) => assert!(most == 8 * KEPT && event.contains("response.completed")),
            Err(error) => assert!(most < 8 * KEPT && matches!(error, BackendError::BudgetExceeded)),
        }
        drop(events);
        assert_eq!(held.held.get(), 0);
    }
    let asked = BackendRequest {
        budget: AnswerBudget::new(Bounded::new(KEPT)),
        ..request(Endpoint::Responses, &body)
    };
    let refused = ChatFallback::new().translate(asked, &|_| panic!("it is sent")).await;
    assert!(matches!(refused, Err(BackendError::BudgetExceeded)));
}

/// A stranger's request does not take an endpoint from all the others, whatever it is refused for.
#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_callers_request_says_nothing_of_the_endpoint() {
    for (endpoint, bad, status, words) in [
        (Endpoint::Responses, r#"{"model":"m","input":"a","tool_choice":"required"}"#, 501, "Only 'auto'"),
        (Endpoint::Responses, r#"{"model":"m","input":[{"id":"rs_0"}]}"#, 404, "no such item"),
        (Endpoint::Responses, r#"{"model":"m","input":"a","include":["x"]}"#, 405, "not so"),
        (Endpoint::Messages, r#"{"model":"m","messages":[],"container":"c_0"}"#, 404, "no such container"),
        (
            Endpoint::Messages,
            r#"{"model":"m","messages":[{"content":"Unexpected endpoint or method"}]}"#,
            0,
            "",
        ),
    ] {
        let (fallback, plain) =
            (ChatFallback::new(), if endpoint == Endpoint::Messages { MESSAGE } else { RESPONSE });
        let native = |request: &BackendRequest| {
            let text = std::str::from_utf8(&request.body).unwrap();
            match text {
                _ if text == bad && status == 0 => Err(BackendError::Failed(format!("cannot read {text}"))),
                _ if text == bad => Err(refused(status, words)),
                _ if text == plain => Ok(Reply::Whole { status: 200, body: "{}".to_owned() }),
                // The probe.
                _ => Err(refused(400, "input is missing")),
            }
        };
        for asks in [vec![endpoint, endpoint], vec![endpoint]] {
            let (reply, asked) = ask(&fallback, request(endpoint, bad), native);
            assert!(reply.is_err_and(|error| may_lack_endpoint(&error)), "it is told as it is: {bad}");
            assert_eq!(asked, asks, "{bad}");
            let (reply, asked) = ask(&fallback, request(endpoint, plain), native);
            assert_eq!((whole(reply), asked), ((200, "{}".to_owned()), vec![endpoint]), "{bad}");
        }
        // Its server may be another one by then.
        tokio::time::advance(TRUST_PRESENT).await;
        let (reply, asked) = ask(&fallback, request(endpoint, plain), chat_alone(404));
        assert_eq!((whole(reply).0, asked), (200, vec![endpoint, endpoint, Endpoint::ChatCompletions]));
    }
}

/// A probe that a proxy refuses, or that a busy server does, tells nothing of the endpoint: the next request has it asked
/// again. One that is refused for what it says is proof.
#[test]
fn only_a_probe_that_was_read_is_proof_of_an_endpoint() {
    let broken = BackendError::Failed("the backend broke off".to_owned());
    let others = [401, 403, 408, 409, 429, 500, 502, 503, 504].map(|status| refused(status, "{}"));
    let read = [400, 413, 415, 422].map(|status| (refused(status, "{}"), true));
    let failures = others.into_iter().chain([BackendError::KeyRefused, broken]).map(|error| (error, false));
    for (failure, is_proof) in failures.chain(read) {
        for (endpoint, plain) in [(Endpoint::Messages, MESSAGE), (Endpoint::Responses, RESPONSE)] {
            let fallback = ChatFallback::new();
            let lacking = |request: &BackendRequest| {
                Err(if request.body == *plain { refused(404, "{}") } else { failure.clone() })
            };
            let (reply, asked) = ask(&fallback, request(endpoint, plain), lacking);
            assert!(reply.is_err_and(|error| may_lack_endpoint(&error)), "{failure}");
            assert_eq!(asked, [endpoint; 2], "{failure}");
            let (reply, asked) = ask(&fallback, request(endpoint, plain), chat_alone(404));
            assert_eq!(reply.is_err(), is_proof, "{failure}");
            let all = [endpoint, endpoint, Endpoint::ChatCompletions];
            assert_eq!(asked, if is_proof { &all[..1] } else { &all }, "{failure}");
        }
    }
}

/// Nothing of a probe is a caller's but the model, by which a server may choose another one that answers.
#[test]
fn a_probe_says_nothing_but_the_model() {
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(2000));
    for (body, model) in [
        (r#"{"input":"secret","model":"m\"x","tool_choice":"required","store":true}"#, r#""model":"m\"x","#),
        (r#"{"model":{"a":"secret"}}"#, ""),
        ("secret", ""),
        (&long, ""),
    ] {
        assert_eq!(probe_body(Endpoint::Messages, body.as_bytes()), format!(r#"{{{model}"max_tokens":1}}"#));
        let expected = format!(r#"{{{model}"max_output_tokens":1,"store":false}}"#);
        assert_eq!(probe_body(Endpoint::Responses, body.as_bytes()), expected);
    }
}

#[test]
fn what_cannot_be_translated_is_asked_also_of_a_backend_that_seems_to_lack_the_endpoint() {
    let fallback = ChatFallback::new();
    let _ = ask(&fallback, request(Endpoint::Responses, RESPONSE), chat_alone(404));
    let next = r#"{"input":"a","previous_response_id":"resp_1"}"#;
    let (reply, asked) = ask(&fallback, request(Endpoint::Responses, next), |_| {
        Ok(Reply::Whole { status: 200, body: "{}".to_owned() })
    });
    assert_eq!((whole(reply).0, asked), (200, vec![Endpoint::Responses]));
    let (reply, asked) = ask(&fallback, request(Endpoint::Responses, next), chat_alone(404));
    assert_eq!((whole(reply).0, asked), (400, vec![Endpoint::Responses]));
}

#[tokio::test(start_paused = true)]
async fn a_missing_endpoint_is_looked_for_again_after_a_while() {
    let fallback = ChatFallback::new();
    for is_new in [true, false, true] {
        let (_, asked) = ask(&fallback, request(Endpoint::Messages, MESSAGE), chat_alone(404));
        assert_eq!(asked.contains(&Endpoint::Messages), is_new);
        tokio::time::advance(RETRY_MISSING * 2 / 3).await;
    }
}

/// A23: whatever is large is translated elsewhere, whole and streamed, and of too many values not at all.
#[tokio::test]
async fn a_large_answer_is_translated_away_from_the_thread_that_serves() {
    let text = "x".repeat(300 << 10);
    let choice =
        |key: &str| format!(r#"{{"choices":[{{"{key}":{{"content":"{text}"}},"finish_reason":"stop"}}]}}"#);
    let many =
        format!(r#"{{"choices":[{{"message":{{}},"delta":{{}}}}],"x":[{}0]}}"#, "0,".repeat(150 << 10));
    for (endpoint, asked) in [(Endpoint::Messages, MESSAGE), (Endpoint::Responses, RESPONSE)] {
        for (streamed, in_chunks) in [(false, false), (true, false), (true, true)] {
            for (answer, is_told) in
                [(choice(if in_chunks { "delta" } else { "message" }), true), (many.clone(), false)]
            {
                let stream = if streamed { r#","stream":true}"# } else { "}" };
                let asked = asked.strip_suffix('}').unwrap().to_owned() + stream;
                let told = async {
                    let fallback = ChatFallback::new();
                    let ask = |_| {
                        let reply = if in_chunks {
                            Reply::Stream(stream::once(ready(Ok(answer.clone()))).boxed_local())
                        } else {
                            Reply::Whole { status: 200, body: answer.clone() }
                        };
                        ready(Ok(reply)).boxed_local()
                    };
                    match fallback.translate(request(endpoint, &asked), &ask).await? {
                        Reply::Whole { body, .. } => Ok(vec![body]),
                        Reply::Stream(events) => events.collect::<Vec<_>>().await.into_iter().collect(),
                    }
                };
                let told: Result<Vec<_>, _> =
                    assert_offloaded(&format!("{endpoint:?} {streamed} {in_chunks}"), told).await;
                match told {
                    Ok(told) => assert!(is_told && told.concat().contains(&text)),
                    Err(error) => {
                        assert!(!is_told, "{error}");
                        assert_eq!(error.to_string(), "backend's answer has more than 100000 values");
                    }
                }
            }
        }
    }
}
