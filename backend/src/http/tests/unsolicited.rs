//! Servers that send unsolicited bytes on a connection between two requests.

use std::sync::mpsc;

use testkit::peer::Listener;
use testkit::wait::reactor_turns;

use super::super::client::MAX_DISTRUSTED;
use super::*;

/// An answer that arrives on an idle connection is not delivered to the next caller, even if the reactor has not run since.
#[actix_rt::test]
async fn an_idle_connection_with_unsolicited_bytes_is_closed() {
    for turns in [false, true] {
        let (speak, told) = mpsc::channel::<()>();
        let (said, spoken) = mpsc::channel();
        let server = Peer::on_thread(async move |mut connection| {
            echo(&mut connection, ANSWER.as_bytes()).await?;
            if connection.number == 0 {
                told.recv().map_err(io::Error::other)?;
                connection.write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad").await?;
                said.send(()).map_err(io::Error::other)?;
            }
            connection.closed().await;
            Ok(())
        });
        let client = Client::new(None);
        assert_eq!(ask(&client, &server.url(), "one").await, Ok((200, "one".to_owned())));
        assert_eq!(client.idle(), 1);
        speak.send(()).unwrap();
        // This blocks the thread and its reactor.
        spoken.recv().unwrap();
        if turns {
            reactor_turns().await;
        }
        assert_eq!(ask(&client, &server.url(), "two").await, Ok((200, "two".to_owned())));
        assert_eq!(client.idle(), 0, "the connection was closed");
    }
}

/// A server that answers each request with the pieces of `answer`, with a pause of `moment` before each further piece. The
/// counter has the number of answers sent to their end.
fn late_server(answer: &'static [&'static str], moment: Duration) -> (Peer, Rc<Cell<usize>>) {
    let sent = Rc::<Cell<usize>>::default();
    let done = Rc::clone(&sent);
    let peer = Peer::start(async move |mut connection| {
        loop {
            let body = connection.request().await?.text();
            for (index, piece) in answer.iter().enumerate() {
                if index > 0 {
                    sleep(moment).await;
                }
                connection.write(piece.replace("{n}", &body)).await?;
            }
            done.set(done.get() + 1);
        }
    });
    (peer, sent)
}

/// A late second answer is noticed when the connection is reused, when it has been idle for too long, or after it was taken for
/// the answer to the next request. From then on each request gets its own connection.
#[actix_rt::test]
async fn no_connection_to_a_server_that_sent_unsolicited_bytes_is_reused() {
    const TWICE: &[&str] = &[ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbob"];

    #[derive(Debug, PartialEq)]
    enum Next {
        /// The next request is sent after the late answer has arrived.
        AfterIt,
        /// The next request is sent before the late answer.
        Before,
        /// The next request is sent after the idle connection was closed.
        AfterIdle,
    }

    for (millis, next) in [(0, Next::AfterIt), (5, Next::AfterIt), (20, Next::Before), (20, Next::AfterIdle)]
    {
        let (server, sent) = late_server(TWICE, Duration::from_millis(millis));
        let client = Client::new(None);
        assert_eq!(ask(&client, &server.url(), "one").await, Ok((200, "one".to_owned())));
        match next {
            Next::AfterIt => wait_until("the late answer is sent", || sent.get() == 1).await,
            Next::AfterIdle => wait_until("the idle connection is closed", || client.idle() == 0).await,
            Next::Before => (),
        }
        reactor_turns().await;
        let second = ask(&client, &server.url(), "two").await.unwrap();
        if next == Next::Before {
            // The late answer is taken for the answer to this request, because nothing distinguishes them. The next late answer
            // reveals the server.
            wait_until("the second late answer is sent", || sent.get() == 2).await;
            reactor_turns().await;
            ask(&client, &server.url(), "six").await.unwrap();
        } else {
            assert_eq!(second, (200, "two".to_owned()), "{millis} ms, {next:?}");
        }
        let before = server.connections();
        for n in 1..=8 {
            let body = format!("n-{n}");
            assert_eq!(
                ask(&client, &server.url(), body.clone()).await,
                Ok((200, body)),
                "{millis} ms, {next:?}"
            );
            assert_eq!((server.connections() - before, client.idle()), (n, 0), "{millis} ms, {next:?}");
        }
    }
}

/// The list of distrusted servers is bounded, and connections to other servers are still reused.
#[actix_rt::test]
async fn many_distrusted_servers_do_not_affect_other_servers() {
    let client = Client::new(None);
    let name = |n: usize| format!("http://n-{n}");
    for n in 0..3 * MAX_DISTRUSTED {
        assert!(!client.is_distrusted_by(&name(n), true));
        assert!(client.is_distrusted_by(&name(n), true), "the newest server is in the list");
    }
    let distrusted = (0..3 * MAX_DISTRUSTED).filter(|n| client.is_distrusted_by(&name(*n), false));
    assert!(distrusted.eq(2 * MAX_DISTRUSTED..3 * MAX_DISTRUSTED));
    let server = server(vec![ANSWER.into(); 2]);
    for body in ["one", "two"] {
        assert_eq!(ask(&client, &server.url(), body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(server.connections(), 1);
}

/// Closing an idle connection, or sending the end of an answer late, does not count as unsolicited.
#[actix_rt::test]
async fn connections_to_a_server_that_closes_or_is_slow_are_reused() {
    const SLOW: &[&str] =
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{n}\r\n", "0\r\n", "\r\n"];
    let client = Client::new(None);
    let closes = server(vec![ANSWER.into(); 2]);
    for body in ["one", "two", "six", "ten"] {
        assert_eq!(ask(&client, &closes.url(), body).await, Ok((200, body.to_owned())));
        // After this, the client knows that the server has closed the connection.
        reactor_turns().await;
    }
    assert_eq!(closes.connections(), 2);
    let (slow, _) = late_server(SLOW, Duration::from_millis(5));
    for body in ["one", "two", "six"] {
        assert_eq!(ask(&client, &slow.url(), body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(slow.connections(), 1);
}

/// Unsolicited bytes on one connection also drop the server's other idle connections.
#[actix_rt::test]
async fn unsolicited_bytes_drop_all_idle_connections_of_the_server() {
    let listener = Listener::bind().await;
    let url = listener.url();
    let client = Client::new(None);
    let [one, two] = ["one", "two"].map(|body| client.send(post(&url, body), LIMIT));
    let serve = async {
        let mut served = Vec::new();
        for _ in 0..2 {
            let mut connection = listener.accept().await;
            let body = connection.request().await.unwrap().text();
            connection.write(ANSWER.replace("{n}", &body)).await.unwrap();
            served.push((body, connection));
        }
        served
    };
    let (one, two, mut served) = futures_util::join!(one, two, serve);
    // The pool hands out the connection that was given back last.
    for answer in [one, two] {
        read_body(answer.unwrap().into_body(), 9, LIMIT).await.unwrap();
    }
    assert_eq!(client.idle(), 2);
    served.sort_by(|(one, _), (other, _)| one.cmp(other));
    let second = &mut served[1].1;
    second.write(ANSWER.replace("{n}", "bob")).await.unwrap();
    // Until the reactor has run, these bytes cannot be told from a close.
    reactor_turns().await;
    let third = async {
        let mut connection = listener.accept().await;
        echo(&mut connection, ANSWER.as_bytes()).await.unwrap();
        connection
    };
    let third =
        async { tokio::time::timeout(LIMIT, third).await.expect("a quiet idle connection was reused") };
    let (answer, _connection) = futures_util::join!(ask(&client, &url, "six"), third);
    assert_eq!(answer, Ok((200, "six".to_owned())));
    assert_eq!(client.idle(), 0);
}
