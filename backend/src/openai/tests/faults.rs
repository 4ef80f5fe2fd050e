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
#[actix_rt::test]
async fn a_backend_that_hangs_before_its_first_byte_fails_after_its_silence() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"a";
    for (said, streaming) in [("", false), ("", true), (head, true), (half, false)] {
        let server = Script::start(vec![Step::Say(said.to_owned()), Step::UntilClosed]);
        let asked = Instant::now();
        let Err(error) = backend(&server.url, SILENCE).infer(request(streaming)).await else {
            panic!("{said:?}")
        };
        assert_eq!(error.to_string(), "backend sent nothing for 0.3 s", "{said:?}");
        assert!(asked.elapsed() >= SILENCE);
        wait_until("its connection is closed", || server.is_closed()).await;
    }
}

/// P1, F38, F39: a backend that took the request and ends, or resets, before its first byte has failed. It was there:
/// nobody wakes it and asks again, for it may have run the request.
#[actix_rt::test]
async fn a_backend_that_breaks_off_before_its_first_byte_was_there() {
    for streaming in [false, true] {
        for steps in [vec![], vec![Step::Reset], say(&["HTTP/1.1 200 OK\r\ncontent-"])] {
            let broke_off = BackendError::Failed("backend broke off before it answered".to_owned());
            assert_eq!(ask(steps, streaming).await.err(), Some(broke_off));
        }
    }
}

/// F35: a backend that ends with the request in its hands ran it no further: there is no backend, as before a recipe.
#[actix_rt::test]
async fn a_backend_that_died_with_the_request_is_not_there() {
    for reset in [false, true] {
        let last = if reset { Step::Reset } else { Step::Say(String::new()) };
        let server = Script::start(vec![Step::UntilUnplugged, last]);
        let backend = backend(&server.url, Duration::from_secs(5));
        let asked = actix_rt::spawn(async move { backend.infer(request(false)).await.err() });
        wait_until("it has the request", || !server.requests().is_empty()).await;
        drop(server);
        assert_eq!(asked.await.unwrap(), Some(BackendError::Unavailable));
    }
}

/// F42: what an answer is says its first byte, and not the type that it came with, or without.
#[actix_rt::test]
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
#[actix_rt::test]
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

/// F42: an error that names its status, under a 200, is a refusal with that status: nobody tries it again.
#[actix_rt::test]
async fn a_200_that_names_an_error_status_is_that_refusal() {
    let body = r#"{"error":{"code":400,"message":"16000 tokens, n_ctx is 4096","type":"exceed_context_size_error"}}"#;
    for streaming in [false, true] {
        let (status, passed) = refusal(answer("200 OK", "application/json", body), streaming).await;
        assert_eq!((status, passed.as_str()), (400, body));
    }
    for event in [format!("data: {body}\n\n"), format!("event: error\ndata: {body}\n\n")] {
        let (got, error) = pieces(say(&[SSE, &chunked(&event)])).await;
        assert!(got.is_empty());
        assert!(matches!(error, Some(BackendError::Refused(refusal)) if refusal.status == 400), "{event}");
    }
}

/// F40: a body that ends with its connection is read to its end, and whole where it proves itself whole.
#[actix_rt::test]
async fn an_answer_without_framing_is_whole_by_its_content_alone() {
    let stream = format!("data: {TOKEN}\n\ndata: {LAST}\n\ndata: [DONE]\n\n");
    for version in ["1.1", "1.0"] {
        let head = format!("HTTP/{version} 200 OK\r\nconnection: close\r\n\r\n");
        assert_eq!(whole(say(&[&head, COMPLETION])).await, (200, COMPLETION.to_owned()));
        assert_eq!(pieces(say(&[&head, &stream])).await, (vec![TOKEN.to_owned(), LAST.to_owned()], None));
        let cut = format!("data: {TOKEN}\n\n");
        assert!(pieces(say(&[&head, &cut])).await.1.is_some());
    }
}

/// F41: of an error page, however long, the status is kept and the title told; of a text its beginning, without secrets.
#[actix_rt::test]
async fn a_page_or_a_text_instead_of_an_error_body_keeps_its_status() {
    for (page, words) in [
        ("<html>sk-canary".to_owned(), "the backend answered 500"),
        ("<!DOCTYPE html><head><TITLE>502 &amp; sk-canary</title>".to_owned(), "502 & ***"),
        (
            "<title>&#115;k-canary&#x20;&#x2F;home&#47alice&sol;x.py 192&#46;168.1&period;50 &amp;lt; &b</title>".to_owned(),
            "*** ***/x.py *** &lt; &b",
        ),
        (format!("<html>sk-canary{}", "x".repeat(10 << 20)), "the backend answered 500"),
        (String::new(), "the backend answered 500"),
        ("out\r\nof memory\n".to_owned(), "out  of memory"),
        (r#"["no","such","model"]"#.to_owned(), r#"["no","such","model"]"#),
    ] {
        for kind in ["text/html", "text/plain", ""] {
            if kind != "text/html" || page.starts_with('<') || page.is_empty() {
                assert_eq!(reason(answer("500 Oops", kind, &page)).await, (500, words.to_owned()), "{kind}");
            }
        }
    }
    // The key stands where the text is cut.
    for before in 480..=500 {
        let body = format!("{} sk-canary at localhost {}", "x".repeat(before), "y".repeat(10_000));
        let (_, text) = reason(answer("503 Oops", "text/plain", &body)).await;
        assert!(!text.contains("sk-"), "{text}");
        assert!(text.chars().count() <= 500, "{text}");
    }
    let json = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(10 << 20));
    let told = reason(answer("500 Oops", "application/json", &json)).await;
    assert_eq!(told, (500, "the backend answered 500".to_owned()));
}

/// F41: an error that came compressed although nobody asked for it is read, within its limit.
#[actix_rt::test]
async fn a_compressed_refusal_is_read() {
    use std::io::Write as _;

    let gzip = |text: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    };
    let said = async |body: Vec<u8>| {
        let head = format!(
            "HTTP/1.1 422 No\r\ncontent-encoding: gzip\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        match ask(vec![Step::Say(head), Step::Bytes(body)], false).await {
            Err(BackendError::Refused(refusal)) => *refusal,
            _ => panic!("no refusal"),
        }
    };
    let refusal = said(gzip(br#"{"detail":[{"loc":["body","n"],"msg":"too many"}]}"#)).await;
    assert_eq!((refusal.status, refusal.retry_after), (422, Some(Duration::from_secs(7))));
    assert!(refusal.body.contains("too many"), "{}", refusal.body);
    assert!(said(gzip(&vec![b'a'; 10 << 20])).await.body.contains("the backend answered 422"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: testkit::cases(), failure_persistence: None, ..Default::default() })]

    /// A refusal keeps its status and its words, whatever its coding, its type, its framing and what came before it.
    #[test]
    fn a_refusal_in_any_coding_type_and_framing_is_read(
        status in 400_u16..600,
        coding in 0..3,
        kind in proptest::sample::select(vec!["", "application/json", "Text/Plain; charset=x", "application/problem+json", "*"]),
        framing in 0..3,
        interim in 0_usize..3,
        size in 0_usize..3000,
    ) {
        use std::fmt::Write as _;
        use std::io::Write as _;

        let words = format!("too many words {}", "z".repeat(size));
        let text = format!(r#"{{"message":"{words}"}}"#);
        let level = flate2::Compression::default();
        let (name, body) = match coding {
            0 => ("identity", text.clone().into_bytes()),
            1 => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text.as_bytes()).unwrap();
                ("GZip", encoder.finish().unwrap())
            }
            _ => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text.as_bytes()).unwrap();
                ("deflate", encoder.finish().unwrap())
            }
        };
        let mut head = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(interim);
        write!(head, "HTTP/1.1 {status} No\r\ncontent-encoding: {name}\r\ncontent-type: {kind}\r\n").unwrap();
        let (framing, end) = match framing {
            0 => (format!("content-length: {}\r\n\r\n", body.len()), ""),
            1 => (format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len()), "\r\n0\r\n\r\n"),
            _ => ("\r\n".to_owned(), ""),
        };
        let steps = vec![Step::Say(head + &framing), Step::Bytes(body), Step::Say(end.to_owned())];
        let asked = actix_rt::System::new().block_on(ask(steps, false));
        match asked.err() {
            Some(BackendError::KeyRefused) => proptest::prop_assert!([401, 403, 407].contains(&status)),
            Some(BackendError::Refused(refusal)) => {
                proptest::prop_assert_eq!(refusal.status, status);
                proptest::prop_assert!(refusal.body.contains(&words), "{}", refusal.body);
            }
            other => proptest::prop_assert!(false, "{other:?}"),
        }
    }
}

/// F43: what is compressed although nobody asked for it is refused, and not unpacked.
#[actix_rt::test]
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
#[actix_rt::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Script::start(answer("200 OK", "application/json", COMPLETION));
    for status in ["301 Moved", "302 Found", "307 Moved", "308 Moved"] {
        let moved = format!("HTTP/1.1 {status}\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
        assert!(failure(say(&[&moved])).await.contains("redirects are not followed"));
        assert!(streamed_failure(say(&[&moved])).await.contains("redirects are not followed"));
    }
    assert!(elsewhere.requests().is_empty());
}
