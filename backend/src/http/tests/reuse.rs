//! Reuse of connections after an answer that was read to its end.

use super::*;

/// Each caller on a reused connection gets its own answer.
#[actix_rt::test]
async fn a_connection_whose_answer_was_read_to_its_end_is_reused() {
    let server = server(vec![ANSWER.into(); 5]);
    let client = Client::new(None);
    for body in ["one", "two", "six"] {
        assert_eq!(ask(&client, &server.url(), body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(server.connections(), 1);
}

/// Any number of interim answers is skipped, also before an error.
#[actix_rt::test]
async fn interim_answers_are_skipped_and_each_caller_gets_its_own_answer() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let refused = ANSWER.replace("200 OK", "422 No");
    let answers = [format!("{interim}{ANSWER}"), format!("{interim}{refused}"), ANSWER.to_owned()];
    let server = server(answers.iter().map(|answer| answer.clone().into_bytes()).collect());
    let client = Client::new(None);
    assert_eq!(ask(&client, &server.url(), "one").await, Ok((200, "one".to_owned())));
    assert_eq!(ask(&client, &server.url(), "two").await, Ok((422, "two".to_owned())));
    assert_eq!(ask(&client, &server.url(), "six").await, Ok((200, "six".to_owned())));
}

/// A server that refuses a request without reading its body would read the next request as the rest of that body.
#[actix_rt::test]
async fn a_connection_whose_request_was_refused_is_not_reused() {
    for status in ["404 Not Found", "400 Bad", "500 Oops", "307 Elsewhere"] {
        let server = Peer::start(async move |mut connection| {
            loop {
                // This server reads a head and treats the unread body as the next request.
                let head = connection.head().await?.head;
                let line = head.lines().next().unwrap_or_default();
                let length = line.len();
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{line}");
                connection.write(answer).await?;
            }
        });
        let client = Client::new(None);
        let refused = status[..3].parse().unwrap();
        for body in ["bobs-secret", "carols-secret", "daves-secret"] {
            let (code, line) = ask(&client, &server.url(), body).await.unwrap();
            assert_eq!((code, line.as_str()), (refused, "POST / HTTP/1.1"), "{status}");
        }
        // A refused request without a body leaves no bytes, so its connection is reused.
        for _ in 0..3 {
            let get = Request::get(server.url()).body(Bytes::new()).unwrap();
            let answer = client.send(get, LIMIT).await.unwrap();
            read_body(answer.into_body(), 1 << 10, LIMIT).await.unwrap();
        }
        let idle = client.idle();
        assert_eq!(idle, 1, "{status}");
    }
}

/// Bytes after an answer, such as a second answer, are not delivered to any caller.
#[actix_rt::test]
async fn a_connection_with_bytes_after_its_answer_is_closed() {
    for behind in ["x", "\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad"] {
        for chunked in [false, true] {
            let answer = if chunked {
                format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{{n}}\r\n0\r\n\r\n{behind}"
                )
            } else {
                format!("{ANSWER}{behind}")
            };
            let server = server(vec![answer.into(); 3]);
            let client = Client::new(None);
            for body in ["one", "two", "six"] {
                assert_eq!(ask(&client, &server.url(), body).await, Ok((200, body.to_owned())), "{behind:?}");
            }
        }
    }
}

/// The buffer of a connection stays as large as its largest request.
#[actix_rt::test]
async fn a_connection_of_a_large_request_is_not_reused() {
    const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend";
    let server = server(vec![DONE.into(); 3]);
    let client = Client::new(None);
    for (size, kept) in [(1 << 20, 1), ((1 << 20) + 1, 0), (9, 1)] {
        assert_eq!(ask(&client, &server.url(), "x".repeat(size)).await, Ok((200, "end".to_owned())));
        assert_eq!(client.idle(), kept, "{size}");
    }
}
