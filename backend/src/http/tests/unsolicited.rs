//! Servers that send bytes that were not asked for, before a connection is used again.

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::sync::mpsc;
use std::thread;

use tokio::net::UnixStream;

use super::super::client::MAX_DISTRUSTED;
use super::*;

/// Resolves after the reactor has reported every socket that was readable when this was called: only then can tokio know of
/// the bytes on it.
async fn reactor_turns() {
    let (mut one, mut other) = UnixStream::pair().unwrap();
    one.write_all(b"x").await.unwrap();
    other.read_u8().await.unwrap();
}

/// An answer that came late, when the connection was idle, reaches nobody; also if the reactor has not turned since.
#[actix_rt::test]
async fn a_connection_that_speaks_while_it_is_idle_is_thrown_away() {
    for turns in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/x", listener.local_addr().unwrap());
        let (speak, told) = mpsc::channel();
        let (said, spoken) = mpsc::channel();
        let serving = thread::spawn(move || {
            let (mut first, mut second) = (answer_one(&listener), None);
            for () in told {
                first.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad").unwrap();
                said.send(()).unwrap();
                second = Some(answer_one(&listener));
            }
            drop(second);
        });
        let client = Client::new(None);
        assert_eq!(ask(&client, &url, "one").await, Ok((200, "one".to_owned())));
        speak.send(()).unwrap();
        // Blocks the thread, and with it the reactor.
        spoken.recv().unwrap();
        if turns {
            reactor_turns().await;
        }
        assert_eq!(ask(&client, &url, "two").await, Ok((200, "two".to_owned())));
        drop(speak);
        serving.join().unwrap();
    }
}

/// Accepts a connection and answers its request with its body, which has three bytes.
fn answer_one(listener: &std::net::TcpListener) -> std::net::TcpStream {
    let mut socket = listener.accept().unwrap().0;
    let mut text = Vec::new();
    while memchr::memmem::find(&text, b"\r\n\r\n").is_none_or(|end| text.len() < end + 7) {
        let mut piece = [0; 1024];
        let read = socket.read(&mut piece).unwrap();
        text.extend_from_slice(&piece[..read]);
    }
    socket.write_all(&replaced(ANSWER.as_bytes(), b"{n}", &text[text.len() - 3..])).unwrap();
    socket
}

/// Serves `answer` to each request, each piece of it a `moment` after the one before, as long as the client stays. Counts the
/// answers that were sent to their end.
async fn late_server(answer: &'static [&'static str], moment: Duration) -> (Server, Rc<Cell<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let (connections, sent) = (Rc::<RefCell<usize>>::default(), Rc::<Cell<usize>>::default());
    let (count, done) = (Rc::clone(&connections), Rc::clone(&sent));
    actix_rt::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            *count.borrow_mut() += 1;
            let done = Rc::clone(&done);
            actix_rt::spawn(async move {
                while let Some(body) = read_request(&mut socket).await {
                    for (index, piece) in answer.iter().enumerate() {
                        if index > 0 {
                            sleep(moment).await;
                        }
                        if socket.write_all(piece.replace("{n}", &body).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                    done.set(done.get() + 1);
                }
            });
        }
    });
    (Server { url, connections }, sent)
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
        let (server, sent) = late_server(TWICE, Duration::from_millis(millis)).await;
        let client = Client::new(None);
        assert_eq!(ask(&client, &server.url, "one").await, Ok((200, "one".to_owned())));
        match next {
            Next::AfterIt => wait_until("the late answer", || sent.get() == 1).await,
            Next::AfterIdle => wait_until("the end of what is idle", || client.idle() == 0).await,
            Next::Before => (),
        }
        reactor_turns().await;
        let second = ask(&client, &server.url, "two").await.unwrap();
        if next == Next::Before {
            // The late answer is taken for its own: nothing tells them apart. The one behind it gives the server away.
            wait_until("its own late answer", || sent.get() == 2).await;
            reactor_turns().await;
            ask(&client, &server.url, "six").await.unwrap();
        } else {
            assert_eq!(second, (200, "two".to_owned()), "{millis} ms, {next:?}");
        }
        let before = *server.connections.borrow();
        for n in 1..=8 {
            let body = format!("n-{n}");
            assert_eq!(
                ask(&client, &server.url, body.clone()).await,
                Ok((200, body)),
                "{millis} ms, {next:?}"
            );
            assert_eq!(
                (*server.connections.borrow() - before, client.idle()),
                (n, 0),
                "{millis} ms, {next:?}"
            );
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
    let server = server(vec![ANSWER.into(); 2]).await;
    for body in ["one", "two"] {
        assert_eq!(ask(&client, &server.url, body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(*server.connections.borrow(), 1);
}

/// A server that ends what is idle, or is late with the end of its answer, has said nothing unasked.
#[actix_rt::test]
async fn a_server_that_closes_or_is_slow_keeps_its_connections() {
    const SLOW: &[&str] =
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{n}\r\n", "0\r\n", "\r\n"];
    let client = Client::new(None);
    let closes = server(vec![ANSWER.into(); 2]).await;
    for body in ["one", "two", "six", "ten"] {
        assert_eq!(ask(&client, &closes.url, body).await, Ok((200, body.to_owned())));
        // The server has closed behind its last answer by then.
        reactor_turns().await;
    }
    assert_eq!(*closes.connections.borrow(), 2);
    let (slow, _) = late_server(SLOW, Duration::from_millis(5)).await;
    for body in ["one", "two", "six"] {
        assert_eq!(ask(&client, &slow.url, body).await, Ok((200, body.to_owned())));
    }
    assert_eq!(*slow.connections.borrow(), 1);
}

/// Of a server that has spoken unasked on one connection no other that is idle is used any more.
#[actix_rt::test]
async fn what_one_connection_says_unasked_costs_the_others_of_its_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let client = Client::new(None);
    let [one, two] = ["one", "two"].map(|body| client.send(post(&url, body), LIMIT));
    let serve = async {
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let body = read_request(&mut socket).await.unwrap();
            socket.write_all(ANSWER.replace("{n}", &body).as_bytes()).await.unwrap();
            sockets.push((body, socket));
        }
        sockets
    };
    let (one, two, mut sockets) = futures_util::join!(one, two, serve);
    // The last one that was given back is the first to be taken.
    for answer in [one, two] {
        read_body(answer.unwrap().into_body(), 9, LIMIT).await.unwrap();
    }
    assert_eq!(client.idle(), 2);
    sockets.sort_by(|(one, _), (other, _)| one.cmp(other));
    let second = &mut sockets[1].1;
    second.write_all(ANSWER.replace("{n}", "bob").as_bytes()).await.unwrap();
    // Before, these bytes cannot be told from the server's end.
    reactor_turns().await;
    let third = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let body = read_request(&mut socket).await.unwrap();
        socket.write_all(ANSWER.replace("{n}", &body).as_bytes()).await.unwrap();
        socket
    };
    let third = async { tokio::time::timeout(LIMIT, third).await.expect("a quiet one was used") };
    let (answer, _socket) = futures_util::join!(ask(&client, &url, "six"), third);
    assert_eq!(answer, Ok((200, "six".to_owned())));
    assert_eq!(client.idle(), 0);
}

/// What came a moment before the connection is taken again, of which tokio knows nothing yet.
#[actix_rt::test]
async fn what_is_unread_in_the_kernel_gives_a_server_away() {
    use std::io::{Read, Write};

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (speak, asked_to) = mpsc::channel::<()>();
    let (spoke, spoken) = mpsc::channel();
    thread::spawn(move || {
        for n in 0.. {
            let (mut socket, _) = listener.accept().unwrap();
            let (spoke, mut buffer) = (spoke.clone(), [0; 4096]);
            assert!(socket.read(&mut buffer).unwrap() > 0);
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
            if n == 0 {
                asked_to.recv().unwrap();
                socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbob").unwrap();
                spoke.send(()).unwrap();
            }
            // It stays open.
            thread::spawn(move || drop(socket.read(&mut buffer)));
        }
    });
    let client = Client::new(None);
    assert_eq!(ask(&client, &url, "").await, Ok((200, "ok".to_owned())));
    assert_eq!(client.idle(), 1);
    speak.send(()).unwrap();
    spoken.recv().unwrap();
    assert_eq!(ask(&client, &url, "").await, Ok((200, "ok".to_owned())));
    assert_eq!(client.idle(), 0, "it is trusted no more");
}
