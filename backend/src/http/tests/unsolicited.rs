//! Servers that send bytes that were not asked for, before a connection is used again.

use std::sync::mpsc;

use testkit::peer::Listener;
use testkit::wait::reactor_turns;

use super::super::client::MAX_DISTRUSTED;
use super::*;

/// An answer that came late, when the connection was idle, reaches nobody; also if the reactor has not turned since.
#[actix_rt::test]
async fn a_connection_that_speaks_while_it_is_idle_is_thrown_away() {
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
        // Blocks the thread, and with it the reactor.
        spoken.recv().unwrap();
        if turns {
            reactor_turns().await;
        }
        assert_eq!(ask(&client, &server.url(), "two").await, Ok((200, "two".to_owned())));
        assert_eq!(client.idle(), 0, "it is trusted no more");
    }
}

/// Serves `answer` to each request, each piece of it a `moment` after the one before, as long as the client stays. Counts the
/// answers that were sent to their end.
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

/// A second answer that comes a moment late is seen once, wherever: when its connection is taken again, when it has been idle
/// for too long, or when it is read for the answer of another. From then on each request has a connection of its own.
#[actix_rt::test]
async fn a_server_that_speaks_unasked_once_has_no_connection_used_twice_any_more() {
    const TWICE: &[&str] = &[ANSWER, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbob"];

    #[derive(Debug, PartialEq)]
    enum Next {
        /// The next request is sent when the late answer is there.
        AfterIt,
        /// It is sent before.
        Before,
        /// It is sent when the connection was closed for being idle.
        AfterIdle,
    }

    for (millis, next) in [(0, Next::AfterIt), (5, Next::AfterIt), (20, Next::Before), (20, Next::AfterIdle)]
    {
        let (server, sent) = late_server(TWICE, Duration::from_millis(millis));
        let client = Client::new(None);
        assert_eq!(ask(&client, &server.url(), "one").await, Ok((200, "one".to_owned())));
        match next {
            Next::AfterIt => wait_until("the late answer", || sent.get() == 1).await,
            Next::AfterIdle => wait_until("the end of what is idle", || client.idle() == 0).await,
            Next::Before => (),
        }
        reactor_turns().await;
        let second = ask(&client, &server.url(), "two").await.unwrap();
        if next == Next::Before {
            // The late answer is taken for its own: nothing tells them apart. The one behind it gives the server away.
            wait_until("its own late answer", || sent.get() == 2).await;
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

/// However many servers speak unasked, the others' connections are used again: the oldest is forgotten.
#[actix_rt::test]
async fn servers_that_speak_unasked_cost_no_other_its_connections() {
    let client = Client::new(None);
    let name = |n: usize| format!("http://n-{n}");
    for n in 0..3 * MAX_DISTRUSTED {
        assert!(!client.is_distrusted_by(&name(n), true));
        assert!(client.is_distrusted_by(&name(n), true), "the last one is remembered");
    }
    let distrusted = (0..3 * MAX_DISTRUSTED).filter(|n| client.is_distrusted_by(&name(*n), false));
    assert!(distrusted.eq(2 * MAX_DISTRUSTED..3 * MAX_DISTRUSTED));
    let server = server(vec![ANSWER.into(); 2]);
    for body in ["one", "two"] {
        assert_eq!(ask(&client, &server.url(), body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(server.connections(), 1);
}

/// A server that ends what is idle, or is late with the end of its answer, has said nothing unasked.
#[actix_rt::test]
async fn a_server_that_closes_or_is_slow_keeps_its_connections() {
    const SLOW: &[&str] =
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{n}\r\n", "0\r\n", "\r\n"];
    let client = Client::new(None);
    let closes = server(vec![ANSWER.into(); 2]);
    for body in ["one", "two", "six", "ten"] {
        assert_eq!(ask(&client, &closes.url(), body).await, Ok((200, body.to_owned())));
        // The server has closed behind its last answer by then.
        reactor_turns().await;
    }
    assert_eq!(closes.connections(), 2);
    let (slow, _) = late_server(SLOW, Duration::from_millis(5));
    for body in ["one", "two", "six"] {
        assert_eq!(ask(&client, &slow.url(), body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(slow.connections(), 1);
}

/// Of a server that has spoken unasked on one connection no other that is idle is used any more.
#[actix_rt::test]
async fn what_one_connection_says_unasked_costs_the_others_of_its_server() {
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
    // The last one that was given back is the first to be taken.
    for answer in [one, two] {
        read_body(answer.unwrap().into_body(), 9, LIMIT).await.unwrap();
    }
    assert_eq!(client.idle(), 2);
    served.sort_by(|(one, _), (other, _)| one.cmp(other));
    let second = &mut served[1].1;
    second.write(ANSWER.replace("{n}", "bob")).await.unwrap();
    // Before, these bytes cannot be told from the server's end.
    reactor_turns().await;
    let third = async {
        let mut connection = listener.accept().await;
        echo(&mut connection, ANSWER.as_bytes()).await.unwrap();
        connection
    };
    let third = async { tokio::time::timeout(LIMIT, third).await.expect("a quiet one was used") };
    let (answer, _connection) = futures_util::join!(ask(&client, &url, "six"), third);
    assert_eq!(answer, Ok((200, "six".to_owned())));
    assert_eq!(client.idle(), 0);
}
