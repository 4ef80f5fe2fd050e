//! Reuse of connections after an answer that was read to its end.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

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

/// A24: a small request goes on any connection, a large one on one that holds no copy of it.
#[actix_rt::test]
async fn a_connection_of_a_large_request_is_reused_and_holds_none_of_it() {
    const DONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nend";
    let server = server(vec![DONE.into(); 9]);
    let client = Client::new(None);
    for (size, idle) in [(9, 1), (16 << 10, 1), ((16 << 10) + 1, 2), (9, 2), (3 << 20, 2), (20 << 10, 2)] {
        assert_eq!(ask(&client, &server.url(), "x".repeat(size)).await, Ok((200, "end".to_owned())));
        assert_eq!(client.idle(), idle, "{size}");
    }
    assert_eq!(server.connections(), 2);
}

/// A24: idle connections to all servers together are open files.
#[actix_rt::test]
async fn idle_connections_are_bounded_over_all_servers() {
    let client = Client::bounded(None, 2);
    let servers: Vec<_> = (0..3).map(|_| server(vec![ANSWER.into(); 3])).collect();
    for (number, idle) in [(0, 1), (1, 2), (2, 2), (2, 2), (0, 2)] {
        assert_eq!(ask(&client, &servers[number].url(), "one").await, Ok((200, "one".to_owned())));
        assert_eq!(client.idle(), idle, "{number}");
    }
    assert_eq!([0, 1, 2].map(|number: usize| servers[number].connections()), [1, 1, 2]);
}

/// A socket that notes where the bytes that it is given lie.
struct Noting {
    socket: TcpStream,
    written: Arc<Mutex<Vec<Range<usize>>>>,
}

struct NotingDial(Arc<Mutex<Vec<Range<usize>>>>);

impl Dial for NotingDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> LocalBoxFuture<'a, io::Result<Box<dyn Transport>>> {
        Box::pin(async move {
            let socket = TcpStream::connect((host, port)).await?;
            Ok(Box::new(Noting { socket, written: Arc::clone(&self.0) }) as Box<dyn Transport>)
        })
    }
}

impl Transport for Noting {
    fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn is_plain(&self) -> bool {
        true
    }
}

impl AsyncRead for Noting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(cx, buf);
        let start = buf.as_ptr().addr();
        self.written.lock().push(start..start + buf.len());
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A body whose end is noted.
struct Owned(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.1.store(true, Ordering::SeqCst);
    }
}

/// A24: a copy would live as long as the answer, and nobody would count it.
#[actix_rt::test]
async fn a_large_body_is_written_without_a_copy_and_dropped_when_it_is_sent() {
    let server = Peer::start(async move |mut connection| {
        connection.request().await?;
        connection.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbeg").await?;
        connection.closed().await;
        Ok(())
    });
    let written = Arc::<Mutex<Vec<Range<usize>>>>::default();
    let client = Client::new(None).through(Rc::new(NotingDial(Arc::clone(&written))));
    for size in [(16 << 10) + 1, 5 << 20] {
        written.lock().clear();
        let dropped = Arc::<AtomicBool>::default();
        let body = Bytes::from_owner(Owned(vec![b'y'; size], Arc::clone(&dropped)));
        let start = body.as_ptr().addr();
        let answer = client.send(post(&server.url(), body), LIMIT).await.unwrap();
        assert!(
            dropped.load(Ordering::SeqCst),
            "{size}: a part of the body is held while the answer is read"
        );
        let copied = written
            .lock()
            .iter()
            .filter(|part| part.start < start || part.end > start + size)
            .map(ExactSizeIterator::len)
            .sum::<usize>();
        assert!(copied < 4096, "{size}: {copied} bytes were copied");
        drop(answer);
    }
}
