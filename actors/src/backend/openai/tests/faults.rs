//! Backends that hang, mislabel what they say, or say far too much.

use tokio::time::Instant;
use wire::result::TaskResult;

use super::*;

const COMPLETION: &str = r#"{"choices":[{"message":{"content":"x"}}]}"#;
/// Short for a test, long for a scheduler.
const SILENCE: Duration = Duration::from_millis(300);

fn answer(status: &str, content_type: &str, body: &str) -> Vec<Step> {
    let kind =
        if content_type.is_empty() { String::new() } else { format!("content-type: {content_type}\r\n") };
    say(&[&format!("HTTP/1.1 {status}\r\n{kind}content-length: {}\r\n\r\n{body}", body.len())])
}

/// What `failure` says when chunks were asked for.
async fn streamed_failure(steps: Vec<Step>) -> String {
    match ask(steps, true).await {
        Err(error) => error.to_string(),
        Ok(Reply::Whole { .. }) => panic!("an answer"),
        Ok(Reply::Stream(mut pieces)) => match pieces.next().await {
            Some(Err(error)) => error.to_string(),
            piece => panic!("{piece:?}"),
        },
    }
}

/// F36: a backend that takes the request and says nothing fails after its silence, and its connection is closed.
#[actix::test]
async fn a_backend_that_hangs_before_its_first_byte_fails_after_its_silence() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"a";
    for (said, streaming) in [("", false), ("", true), (head, true), (half, false)] {
        let server = server(vec![Step::Say(said.to_owned()), Step::UntilClosed]).await;
        let asked = Instant::now();
        let Err(error) = backend(&server.url, SILENCE).infer(request(streaming)).await else {
            panic!("{said:?}")
        };
        assert_eq!(error.to_string(), "backend sent nothing for 0.3 s", "{said:?}");
        assert!(asked.elapsed() >= SILENCE);
        wait_until("its connection is closed", || *server.closed.borrow()).await;
    }
}

/// P1, F38, F39: a backend that took the request and ends, or resets, before its first byte has failed. It was there:
/// nobody wakes it and asks again, for it may have run the request.
#[actix::test]
async fn a_backend_that_breaks_off_before_its_first_byte_was_there() {
    for streaming in [false, true] {
        for steps in [vec![], vec![Step::Reset], say(&["HTTP/1.1 200 OK\r\ncontent-"])] {
            let broke_off = BackendError::Failed("backend broke off before it answered".to_owned());
            assert_eq!(ask(steps, streaming).await.err(), Some(broke_off));
        }
    }
}

/// F35: a backend that ends with the request in its hands ran it no further: there is no backend, as before a recipe.
#[actix::test]
async fn a_backend_that_died_with_the_request_is_not_there() {
    for reset in [false, true] {
        let last = if reset { Step::Reset } else { Step::Say(String::new()) };
        let server = server(vec![Step::UntilUnplugged, last]).await;
        let backend = backend(&server.url, Duration::from_secs(5));
        let asked = actix_rt::spawn(async move { backend.infer(request(false)).await.err() });
        wait_until("it has the request", || !server.heads.borrow().is_empty()).await;
        drop(server);
        assert_eq!(asked.await.unwrap(), Some(BackendError::Unavailable));
    }
}

/// F42: what an answer is says its first byte, and not the type that it came with, or without.
#[actix::test]
async fn an_answer_under_a_wrong_type_is_what_it_is() {
    let stream = format!("data: {TOKEN}\n\ndata: {LAST}\n\ndata: [DONE]\n\n");
    for kind in ["", "text/plain", "application/octet-stream", "application/json", "text/event-stream"] {
        for blank in ["", "\r\n\r\n"] {
            let body = format!("{blank}{COMPLETION}");
            for streaming in [false, true] {
                let got = ask(answer("200 OK", kind, &body), streaming).await;
                assert!(
                    matches!(got, Ok(Reply::Whole { status: 200, body: got }) if got == body),
                    "{kind:?}"
                );
            }
            let got = pieces(answer("200 OK", kind, &format!("{blank}{stream}"))).await;
            assert_eq!(got, (vec![TOKEN.to_owned(), LAST.to_owned()], None), "{kind:?}");
        }
    }
}

/// F42: success with an error object is a failure, as is what is no JSON at all.
#[actix::test]
async fn a_200_that_tells_of_an_error_is_a_failure() {
    for kind in ["application/json", "text/plain", ""] {
        for body in [
            r#"{"error":{"message":"out of memory at 127.0.0.1 with sk-canary"}}"#,
            r#"{"object":"error","message":"out of memory at 127.0.0.1 with sk-canary"}"#,
        ] {
            let told = "backend failed: out of memory at *** with ***";
            assert_eq!(failure(answer("200 OK", kind, body)).await, told);
            assert_eq!(streamed_failure(answer("200 OK", kind, body)).await, told);
        }
        assert!(streamed_failure(answer("200 OK", kind, "Hello, I am a page")).await.contains("broke off"));
        let (status, text) = whole(answer("200 OK", kind, "Hello, I am a page")).await;
        assert!(TaskResult::answer(status, &text).is_err());
    }
}

/// F40: an answer without framing cannot be told from a cut one: a failure, streaming or not, never 200 and empty.
#[actix::test]
async fn an_answer_without_framing_is_a_failure() {
    for (kind, body) in [("application/json", COMPLETION), ("text/event-stream", "data: [DONE]\n\n")] {
        let said = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}");
        assert!(failure(say(&[&said])).await.contains("empty body"));
        assert!(streamed_failure(say(&[&said])).await.contains("broke off"));
    }
}

/// F41: of an error page, however long, the status is told; of a text its beginning, without secrets.
#[actix::test]
async fn a_page_or_a_long_text_instead_of_an_error_body_is_told_in_a_line() {
    let page = |mib: usize| format!("<html>sk-canary{}", "x".repeat(mib << 20));
    for body in [page(0), page(10)] {
        for kind in ["text/html", "text/plain", ""] {
            for steps in [answer("500 Oops", kind, &body), answer("502 Bad", kind, &body)] {
                let text = failure(steps).await;
                assert!(text == "backend answered 500" || text == "backend answered 502", "{text}");
            }
        }
    }
    assert_eq!(
        failure(answer("500 Oops", "text/plain", "out\r\nof memory\n")).await,
        "backend answered 500: out  of memory"
    );
    // The key stands where the text is cut.
    for before in 280..=300 {
        let body = format!("{}sk-canary at localhost{}", "x".repeat(before), "y".repeat(10_000));
        let text = failure(answer("500 Oops", "text/plain", &body)).await;
        assert!(!text.contains("sk-") && !text.contains("local"), "{text}");
        assert!(text.len() < 400, "{text}");
    }
    let json = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(10 << 20));
    assert_eq!(failure(answer("500 Oops", "application/json", &json)).await, "backend answered 500");
}

/// F43: what is compressed although nobody asked for it is refused, and not unpacked.
#[actix::test]
async fn a_compressed_answer_is_refused_and_not_unpacked() {
    for encoding in ["gzip", "zstd", "br"] {
        let bomb =
            format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 4\r\n\r\nbomb");
        let refused = "backend answered in an encoding that was not asked for";
        assert_eq!(failure(say(&[&bomb])).await, refused);
        assert_eq!(streamed_failure(say(&[&bomb])).await, refused);
    }
}

/// F44, A16, A18: a redirect is not followed, and where it points hears nothing.
#[actix::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = server(answer("200 OK", "application/json", COMPLETION)).await;
    for status in ["301 Moved", "302 Found", "307 Moved", "308 Moved"] {
        let moved = format!("HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
        assert!(failure(say(&[&moved])).await.contains("redirects are not followed"));
        assert!(streamed_failure(say(&[&moved])).await.contains("redirects are not followed"));
    }
    assert!(elsewhere.heads.borrow().is_empty());
}
