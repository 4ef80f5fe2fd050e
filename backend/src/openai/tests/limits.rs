//! Limits of size, time and memory of an answer, and its end.

use super::*;

/// F46, P7, A42: 3 MiB pass, 300 MiB fail by the limit.
#[actix_rt::test]
async fn a_large_answer_passes_and_one_above_the_limit_does_not() {
    let body = format!(r#"{{"choices":[],"x":"{}"}}"#, "y".repeat(3 << 20));
    assert_eq!(whole(json_answer("200 OK", &body)).await, (200, body));
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", 300 << 20);
    let mut steps = vec![Step::Say(head)];
    steps.extend((0..70).map(|_| Step::Say("x".repeat(1 << 20))));
    assert_eq!(failure(steps).await, "backend's answer is larger than 64 MiB");
}

/// F46, P3: an event that is too large to be read is an error, and no whole answer without it, whatever follows.
#[actix_rt::test]
async fn a_stream_with_an_event_above_the_limit_is_an_error() {
    let large = "x".repeat(1 << 20);
    let mut steps = say(&[SSE, &events(&[TOKEN]), &chunked(r#"data: {"x":""#)]);
    steps.extend((0..65).map(|_| Step::Say(chunked(&large))));
    steps.extend(say(&[&chunked("\"}\n\n"), &events(&[LAST, "[DONE]"]), "0\r\n\r\n"]));
    let (got, error) = pieces(steps).await;
    assert_eq!(got, [TOKEN]);
    let told = "backend sent an event that is larger than 64 MiB";
    assert_eq!(error, Some(BackendError::Failed(told.into())));
}

/// What a backend says of its own failure under a status of success is looked at up to a limit.
#[actix_rt::test]
async fn of_a_failure_that_is_told_at_great_length_its_status_is_kept() {
    let words = "[fd00::]".repeat(MAX_ERROR / 8);
    let told = |error: &str| format!(r#"{{"error":{{{error}"message":"{words}"}}}}"#);
    let at_length = "backend failed, and gave its reason at too great a length";
    assert_eq!(failure(json_answer("200 OK", &told(""))).await, at_length);
    let (status, body) = refusal(json_answer("200 OK", &told(r#""code":400,"#)), false).await;
    assert_eq!(
        (status, wire::openai::error_message(&body).unwrap()),
        (400, "the backend answered 400".into())
    );
    let (_, error) = pieces(say(&[SSE, &events(&[TOKEN, &told("")])])).await;
    assert_eq!(error, Some(BackendError::Failed(at_length.into())));
    let (_, body) = refusal(json_answer("422 No", &told("")), false).await;
    assert!(body.contains("the backend answered 422"), "{body}");
    let less = told(r#""code":400,"#).replacen(&words, &words[..words.len() / 2], 1);
    let (_, body) = refusal(json_answer("200 OK", &less), false).await;
    assert!(body.contains("***") && !body.contains("fd00"));
}

/// F37: a backend that hangs between tokens fails after its silence, and its connection is closed.
#[actix_rt::test]
async fn silence_ends_a_request_and_a_long_answer_does_not() {
    let slow = |pauses: usize| {
        let mut steps = vec![Step::Say(SSE.to_owned())];
        for _ in 0..pauses {
            steps.extend([Step::Pause(Duration::from_millis(150)), Step::Say(events(&[TOKEN]))]);
        }
        steps.push(Step::Say(events(&["[DONE]"])));
        steps
    };
    let silence = Duration::from_millis(600);
    let long = Script::start(slow(8));
    let Ok(Reply::Stream(stream)) = backend(&long.url, silence).infer(request(true)).await else { panic!() };
    assert!(stream.all(|piece| async move { piece.is_ok() }).await, "1.2 s in all, never silent for 0.6 s");
    let mute = Script::start(vec![Step::Say([SSE, &events(&[TOKEN])].concat()), Step::UntilClosed]);
    let Ok(Reply::Stream(mut stream)) = backend(&mute.url, silence).infer(request(true)).await else {
        panic!()
    };
    assert!(stream.next().await.unwrap().is_ok());
    assert!(stream.next().await.unwrap().is_err());
    wait_until("its connection is closed", || mute.is_closed()).await;
}

/// F75: dropping the answer closes the backend's connection at once.
#[actix_rt::test]
async fn dropping_the_answer_closes_the_connection_at_once() {
    let server = Script::start(vec![Step::Say([SSE, &events(&[TOKEN])].concat()), Step::UntilClosed]);
    let stream = backend(&server.url, Duration::from_secs(5)).infer(request(true)).await.unwrap();
    drop(stream);
    wait_until("it is closed", || server.is_closed()).await;
}

/// A23: whatever is large is looked at elsewhere: a request's tokens, an answer, an event.
#[actix_rt::test]
async fn what_is_large_is_looked_at_away_from_the_thread_that_serves() {
    use crate::offload::assert_offloaded;

    let stream = say(&[SSE, &events(&[TOKEN, LAST, "[DONE]"])]);
    let server = Script::start(stream);
    let prompt = format!(r#"{{"prompt":[{}0]}}"#, "0,".repeat(150 << 10));
    let request = BackendRequest { endpoint: Endpoint::Completions, body: prompt.into(), ..request(true) };
    let backend = backend(&server.url, Duration::from_secs(5));
    let asked = assert_offloaded("a list of tokens", backend.infer(request)).await;
    assert!(matches!(asked, Ok(Reply::Stream(_))));

    let text = "x".repeat(300 << 10);
    let answer = json_answer("200 OK", &format!(r#"{{"choices":[],"x":"{text}"}}"#));
    assert!(assert_offloaded("an answer", whole(answer)).await.1.contains(&text));

    let large = format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    let all = events(&[TOKEN, &large, TOKEN, LAST, "[DONE]"]);
    let (told, error) = assert_offloaded("an event", pieces(say(&[SSE, &all, "0\r\n\r\n"]))).await;
    assert_eq!((told, error), ([TOKEN, &large, TOKEN, LAST].map(str::to_owned).to_vec(), None));

    let large_error = format!(r#"{{"error":{{"code":422,"x":"{text}"}}}}"#);
    let (told, error) = pieces(say(&[SSE, &events(&[TOKEN, &large_error]), "0\r\n\r\n"])).await;
    assert_eq!(told, [TOKEN]);
    assert!(matches!(error, Some(BackendError::Refused(refusal)) if refusal.status == 422));
}

/// A26: an answer is counted while it is read, whole or in events, and asks no more of who has no room for it.
#[actix_rt::test]
async fn what_is_held_of_an_answer_is_counted() {
    const SIZE: usize = 1 << 20;
    let text = "x".repeat(SIZE);
    let chunk = TOKEN.replace("hi", &text);
    for (steps, streaming) in [
        (json_answer("200 OK", &format!(r#"{{"choices":[],"text":"{text}"}}"#)), false),
        (say(&[SSE, &events(&[TOKEN, &chunk, LAST, "[DONE]"])]), true),
    ] {
        for (most, fits) in [(SIZE / 2, false), (4 * SIZE, true)] {
            let server = Script::start(steps.clone());
            let room = Bounded::new(most);
            let request = BackendRequest { budget: AnswerBudget::new(room.clone()), ..request(streaming) };
            let last = match backend(&server.url, Duration::from_secs(5)).infer(request).await {
                Ok(Reply::Stream(stream)) => stream.collect::<Vec<_>>().await.pop().unwrap().err(),
                Ok(Reply::Whole { .. }) => None,
                Err(error) => Some(error),
            };
            assert_eq!(last, (!fits).then_some(BackendError::BudgetExceeded), "{streaming} {most}");
            let (held, highest) = (room.held.get(), room.highest.get());
            assert!(highest >= most.min(SIZE) / 4 * 3, "{streaming} {highest}");
            assert_eq!(held, if fits && !streaming { SIZE } else { 0 }, "a whole answer is handed over");
        }
    }
}

/// A24: a request that is edited counts until its answer begins: what counted its former text is gone with that.
#[actix_rt::test]
async fn the_copy_of_a_request_without_its_attribution_line_is_counted() {
    const SIZE: usize = 1 << 20;
    let elements = "[[]],".repeat(SIZE / 5);
    let line = r#"{"text":"x-anthropic-billing-header: a=1;"}"#;
    let body = format!(r#"{{"model":"m","max_tokens":1,"messages":[],"system":[{line},{elements}"B"]}}"#);
    for (most, fits) in [(SIZE / 2, false), (4 * SIZE, true)] {
        let server = Script::start(json_answer("200 OK", r#"{"type":"message","content":[]}"#));
        let room = Bounded::new(most);
        let budget = AnswerBudget::new(room.clone());
        let body = Bytes::from(body.clone());
        let request = BackendRequest { endpoint: Endpoint::Messages, budget, body, ..request(false) };
        let answer = backend(&server.url, Duration::from_secs(5)).infer(request).await;
        assert_eq!(answer.err(), (!fits).then_some(BackendError::BudgetExceeded), "{most}");
        assert_eq!((room.held.get(), room.highest.get() >= SIZE), (0, fits));
    }
}

/// A stream of which every choice has ended is whole, whatever its backend does with the connection; what comes in time is
/// part of it.
#[actix_rt::test]
async fn a_whole_stream_ends_though_its_connection_stays_open() {
    const USAGE: &str = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let begun = events(&[TOKEN, LAST]);
    let silent = [say(&[SSE, &begun]), vec![Step::UntilClosed]].concat();
    let comments =
        (0..200).flat_map(|_| [Step::Pause(Duration::from_millis(20)), Step::Say(chunked(": x\n\n"))]);
    let comments = [say(&[SSE, &begun, &events(&[USAGE])]), comments.collect()].concat();
    for (steps, expected) in [(silent, 2), (comments, 3)] {
        let server = Script::start(steps);
        let Ok(Reply::Stream(stream)) =
            backend(&server.url, Duration::from_millis(200)).infer(request(true)).await
        else {
            panic!("not a stream")
        };
        let pieces = tokio::time::timeout(Duration::from_secs(3), stream.collect::<Vec<_>>())
            .await
            .expect("it goes on");
        assert_eq!(pieces.len(), expected);
        assert_eq!(pieces.last().unwrap().as_ref().err(), None);
    }
}
